//! Files as the reader meets them: blocks, lines cut in the middle, files that change.

use std::io::Write;
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use crossbeam_channel::Receiver;
use tempfile::TempDir;

use super::*;
use crate::connectors::Environment;
use crate::connectors::SourceBatch;
use crate::error::Kind;
use crate::formats::Encode;
use crate::formats::Format;
use crate::ids::ObjectId;
use crate::time::SystemClock;

/// A directory that may be read, and a source over a path in it.
struct World {
    root: TempDir,
    options: BTreeMap<String, String>,
}

impl World {
    fn new(path: &str, follow: bool) -> World {
        let options = [("path", path), ("follow", if follow { "true" } else { "false" })];
        let options = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        World { root: tempfile::tempdir().unwrap(), options }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.root.path().join(name), text).unwrap();
    }

    fn append(&self, name: &str, text: &str) {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(self.root.path().join(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn spec(&self) -> SourceSpec {
        let columns = vec![
            (Column::new("n", SqlType::BigInt), Part::Field("n".into())),
            (Column::new("file", SqlType::Text), Part::File),
        ];
        let environment = Environment { file_roots: vec![self.root.path().canonicalize().unwrap()] };
        SourceSpec {
            source: ObjectId(1),
            name: "s".into(),
            columns,
            fields: vec!["n".into()],
            format: Some(Format { envelope: Envelope::Plain, encode: Encode::Json }),
            options: self.options.clone(),
            until: None,
            identity: None,
            environment: Arc::new(environment),
        }
    }

    fn start(&self) -> Result<Positions> {
        Files.start(&self.spec())
    }

    fn read(&self, spec: SourceSpec, from: Positions) -> (Box<dyn Reader>, Receiver<SourceEvent>) {
        let (sender, events) = crossbeam_channel::bounded(4);
        (Files.read(spec, from, Arc::new(SystemClock), sender).unwrap(), events)
    }
}

/// Batches until every one of these files has come to this offset.
fn until(events: &Receiver<SourceEvent>, ends: &[(&str, i64)]) -> Vec<SourceBatch> {
    let mut at = BTreeMap::new();
    let mut batches = Vec::new();
    while ends.iter().any(|(name, end)| at.get(*name) != Some(end)) {
        match events.recv().unwrap() {
            SourceEvent::Batch(batch) => {
                at.insert(batch.partition.clone(), batch.next_offset);
                batches.push(batch);
            }
            other => panic!("{other:?}"),
        }
    }
    batches
}

/// `file:n@offset` of each row.
fn shown(batches: &[SourceBatch]) -> Vec<String> {
    let rows = batches.iter().flat_map(|batch| {
        let n = batch.batch.column(0).as_primitive::<Int64Type>();
        let file = batch.batch.column(1).as_string::<i32>();
        (0..n.len()).map(move |row| format!("{}:{}@{}", file.value(row), n.value(row), batch.offsets[row]))
    });
    rows.collect()
}

fn failure(events: &Receiver<SourceEvent>) -> Error {
    loop {
        match events.recv().unwrap() {
            SourceEvent::Batch(_) => {}
            SourceEvent::Failed { error, .. } => return error,
            SourceEvent::Trouble { error, .. } => panic!("{error}"),
        }
    }
}

#[test]
fn files_are_read_once_in_the_order_of_their_names() {
    let world = World::new("*.jsonl", false);
    world.write("b.jsonl", "{\"n\":1}\n\n{\"n\":2}");
    world.write("a.jsonl", "{\"n\":3}\r\n{bad}\n{\"n\":4}\n");
    world.write("c.txt", "{\"n\":5}\n");
    let start = world.start().unwrap();
    assert_eq!(start, Positions::from([("a.jsonl".into(), 0), ("b.jsonl".into(), 0)]));
    let (reader, events) = world.read(world.spec(), start);
    let batches = until(&events, &[("a.jsonl", 23), ("b.jsonl", 16)]);
    assert_eq!(shown(&batches), ["a.jsonl:3@0", "a.jsonl:4@15", "b.jsonl:1@0", "b.jsonl:2@9"]);
    assert_eq!(batches[0].errors[0].payload.as_deref(), Some(&b"{bad}"[..]));
    assert_eq!(batches[0].errors[0].offset, 9);
    assert!(batches.iter().all(|batch| batch.at_end));
    let end = reader.end()().unwrap().unwrap();
    assert_eq!(end, Positions::from([("a.jsonl".into(), 23), ("b.jsonl".into(), 16)]));
}

#[test]
fn appended_lines_are_picked_up_when_they_are_whole() {
    let world = World::new("log", true);
    world.write("log", "{\"n\":1}\n{\"n\":");
    let (reader, events) = world.read(world.spec(), world.start().unwrap());
    assert_eq!(shown(&until(&events, &[("log", 8)])), ["log:1@0"]);
    assert_eq!(reader.end()().unwrap().unwrap()["log"], 8);
    world.append("log", "2}\n{\"n\":3}\n");
    assert_eq!(shown(&until(&events, &[("log", 24)])), ["log:2@8", "log:3@16"]);
    drop(reader);
    world.append("log", "{\"n\":4}\n");
    let (_reader, events) = world.read(world.spec(), Positions::from([("log".into(), 24)]));
    assert_eq!(shown(&until(&events, &[("log", 32)])), ["log:4@24"]);
}

#[test]
fn new_files_of_a_directory_are_found() {
    let world = World::new(".", true);
    let (_reader, events) = world.read(world.spec(), world.start().unwrap());
    world.write(".hidden", "{\"n\":0}\n");
    world.write("x", "{\"n\":1}\n");
    assert_eq!(shown(&until(&events, &[("x", 8)])), ["x:1@0"]);
}

#[test]
fn a_file_that_is_not_what_it_was_ends_the_source() {
    let world = World::new("log", true);
    world.write("log", "{\"n\":1}\n{\"n\":2}\n");
    let (_reader, events) = world.read(world.spec(), world.start().unwrap());
    until(&events, &[("log", 16)]);
    world.write("log", "{\"n\":1}\n");
    assert_eq!(failure(&events).message, "file \"log\" is shorter than what was read of it");

    world.write("log", "{\"n\":1}\n");
    let (_reader, events) = world.read(world.spec(), Positions::from([("log".into(), 0)]));
    until(&events, &[("log", 8)]);
    world.write("other", "{\"n\":1}\n{\"n\":2}\n");
    std::fs::rename(world.root.path().join("other"), world.root.path().join("log")).unwrap();
    assert_eq!(failure(&events).message, "file \"log\" was replaced by another one");

    world.write("log", "{\"n\":1234}\n{\"n\":2}\n");
    let (_reader, events) = world.read(world.spec(), Positions::from([("log".into(), 8)]));
    assert_eq!(failure(&events).message, "file \"log\" has changed where it was read before");
}

#[test]
fn many_rows_are_cut_into_batches_and_read_again_to_the_byte() {
    let world = World::new("big", false);
    let lines = (0..300_000).map(|n| format!("{{\"n\":{n},\"pad\":\"{}\"}}\n", "x".repeat(n % 7)));
    let text = lines.collect::<String>();
    world.write("big", &text);
    let (_reader, events) = world.read(world.spec(), world.start().unwrap());
    let batches = until(&events, &[("big", text.len() as i64)]);
    assert!(batches.iter().all(|batch| batch.batch.num_rows() <= 4096));
    assert_eq!(batches.iter().map(|batch| batch.batch.num_rows()).sum::<usize>(), 300_000);
    let middle = batches[10].next_offset;
    let spec = SourceSpec { until: Some(Positions::from([("big".into(), middle)])), ..world.spec() };
    let (_reader, events) = world.read(spec, Positions::from([("big".into(), 0)]));
    assert_eq!(shown(&until(&events, &[("big", middle)])), shown(&batches[..11]));
}

#[test]
fn a_line_without_end_is_an_error_and_passed_over() {
    let world = World::new("big", false);
    world.write("big", &format!("{{\"n\":1}}\n{}\n{{\"n\":2}}\n", "x".repeat(20 << 20)));
    let (_reader, events) = world.read(world.spec(), world.start().unwrap());
    let end = 17 + (20 << 20);
    let batches = until(&events, &[("big", end)]);
    assert_eq!(shown(&batches), ["big:1@0".to_string(), format!("big:2@{}", end - 8)]);
    let errors = batches.iter().flat_map(|b| &b.errors).map(|e| (e.offset, e.reason.as_str())).collect::<Vec<_>>();
    assert_eq!(errors, [(8, "a line of \"big\" is longer than 16 MB")]);
}

#[test]
fn a_header_names_the_fields_of_a_csv_file() {
    let world = World::new("a.csv", false);
    world.write("a.csv", "name,N\n\"two\nlines\",1\nx,2\n");
    let spec = || SourceSpec {
        format: Some(Format { envelope: Envelope::Plain, encode: Encode::Csv { header: true, delimiter: b',' } }),
        ..world.spec()
    };
    let (_reader, events) = world.read(spec(), world.start().unwrap());
    assert_eq!(shown(&until(&events, &[("a.csv", 25)])), ["a.csv:1@7", "a.csv:2@21"]);
    let (_reader, events) = world.read(spec(), Positions::from([("a.csv".into(), 21)]));
    assert_eq!(shown(&until(&events, &[("a.csv", 25)])), ["a.csv:2@21"]);
}

#[track_caller]
fn refused(world: &World, kind: Kind, message: &str) {
    let error = world.start().unwrap_err();
    assert_eq!(error.kind, kind, "{error}");
    assert!(error.message.contains(message), "{error}");
}

#[test]
fn nothing_outside_of_the_roots_is_read() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "{}").unwrap();
    let lies = "does not lie in a directory that sources may read";
    let secret = outside.path().join("secret");
    refused(&World::new(secret.to_str().unwrap(), false), Kind::InvalidParameter, lies);
    refused(&World::new("/etc/passwd", false), Kind::InvalidParameter, lies);
    refused(&World::new("/proc/self/environ", false), Kind::InvalidParameter, lies);
    refused(&World::new("/etc/*", false), Kind::InvalidParameter, lies);
    refused(&World::new("../secret", false), Kind::InvalidParameter, "has a \"..\" in it");
    let link = |path: &str, to: &Path| {
        let world = World::new(path, false);
        std::os::unix::fs::symlink(to, world.root.path().join("link")).unwrap();
        world
    };
    refused(&link("link", &secret), Kind::InvalidParameter, lies);
    refused(&link("*", &secret), Kind::InvalidParameter, lies);
    refused(&link("link/secret", outside.path()), Kind::InvalidParameter, lies);
    refused(&link("link/*", outside.path()), Kind::InvalidParameter, lies);
    let within = link("link", Path::new("a"));
    within.write("a", "{\"n\":1}\n");
    assert_eq!(within.start().unwrap(), Positions::from([("link".into(), 0)]));
}

#[test]
fn a_server_without_roots_reads_nothing() {
    let world = World::new("a", false);
    let spec = SourceSpec { environment: Arc::default(), ..world.spec() };
    let error = Files.start(&spec).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (Kind::NotReady, "the server does not read files"));
    refused(&world, Kind::UndefinedObject, "file or directory \"a\" does not exist");
}

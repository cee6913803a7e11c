//! The store as a whole: commits, reads through the layers, reopening, and what is refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tempfile::TempDir;

use crate::error::Error;
use crate::error::Kind;
use crate::ids::Epoch;
use crate::ids::ObjectId;
use crate::ids::Shard;
use crate::ids::TableId;
use crate::state::Scan;
use crate::state::Sealed;
use crate::state::Space;
use crate::state::StateReader;
use crate::state::Store;
use crate::state::StoreOptions;
use crate::state::Writes;
use crate::time::Clock;
use crate::time::SystemClock;

const SPACE: Space = Space::State(TableId(7), Shard(3));

fn open(path: &Path) -> Result<Arc<Store>, Error> {
    Store::open(path, StoreOptions::default())
}

fn sealed(epoch: u64, entries: &[(Space, &str, Option<&str>)]) -> Arc<Sealed> {
    let mut writes = Writes::default();
    for (space, key, value) in entries {
        match value {
            Some(value) => writes.put(*space, key.as_bytes(), value.as_bytes()),
            None => writes.delete(*space, key.as_bytes()),
        }
    }
    Arc::new(Sealed::new(Epoch(epoch), vec![writes]))
}

/// What a scan yields, as text.
fn all(mut scan: Scan) -> String {
    let mut text = vec![];
    while let Some((key, value)) = scan.next_entry().unwrap() {
        text.push(format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(value)));
    }
    assert!(scan.next_entry().unwrap().is_none());
    text.join(" ")
}

/// What a lookup of many keys yields, in their order.
fn many(reader: &StateReader, keys: &[(Space, &[u8])]) -> Vec<Option<Vec<u8>>> {
    let mut values = vec![Some(b"never called".to_vec()); keys.len()];
    let mut put = |index: usize, value: Option<&[u8]>| {
        values[index] = value.map(<[u8]>::to_vec);
        Ok(())
    };
    reader.get_many(keys, &mut put).unwrap();
    values
}

#[test]
fn what_is_committed_is_there_after_reopening() {
    let dir = TempDir::new().unwrap();
    let spaces = [Space::Catalog, Space::Progress, SPACE, Space::Relation(ObjectId(1)), Space::Changelog(ObjectId(1))];
    {
        let store = open(dir.path()).unwrap();
        assert_eq!(store.committed_epoch().unwrap(), None);
        let entries = spaces.map(|space| (space, "key", Some("value")));
        store.commit(&sealed(41, &entries), true).unwrap();
        store.commit(&sealed(42, &[(SPACE, "key", None)]), false).unwrap();
        assert_eq!(store.reserved_epoch().unwrap(), None);
        store.reserve_epochs(Epoch(1000)).unwrap();
    }
    let store = Store::open(dir.path(), StoreOptions { cache_bytes: 0, write_buffer_bytes: 0 }).unwrap();
    assert_eq!(store.committed_epoch().unwrap(), Some(Epoch(42)));
    let snapshot = store.snapshot();
    for space in spaces {
        let expected = (space != SPACE).then(|| b"value".to_vec());
        assert_eq!(snapshot.get(space, b"key").unwrap(), expected);
        assert_eq!(snapshot.get_many(space, &[b"no", b"key"]).unwrap(), [None, expected]);
    }
    assert!(store.memory_bytes() > 0);
    assert_eq!((store.reserved_epoch().unwrap(), store.path()), (Some(Epoch(1000)), dir.path()));
}

#[test]
fn a_copy_of_the_files_is_a_store() {
    let (dir, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(dir.path()).unwrap();
    for epoch in 1..=20 {
        let value = epoch.to_string();
        store.commit(&sealed(epoch, &[(SPACE, "last", Some(&value)), (SPACE, &value, Some(""))]), true).unwrap();
    }
    std::fs::create_dir(copy.path().join("store")).unwrap();
    for folder in ["", "store"] {
        for file in std::fs::read_dir(dir.path().join(folder)).unwrap().map(Result::unwrap) {
            if file.file_type().unwrap().is_file() && file.file_name() != "LOCK" {
                std::fs::copy(file.path(), copy.path().join(folder).join(file.file_name())).unwrap();
            }
        }
    }
    let copied = open(copy.path()).unwrap();
    assert_eq!(copied.committed_epoch().unwrap(), Some(Epoch(20)));
    let snapshot = copied.snapshot();
    assert_eq!(snapshot.get(SPACE, b"last").unwrap(), Some(b"20".to_vec()));
    assert!((1..=20).all(|epoch| snapshot.get(SPACE, epoch.to_string().as_bytes()).unwrap().is_some()));
}

#[test]
fn of_several_writes_to_a_key_the_last_counts() {
    let mut parts = [Writes::default(), Writes::default()];
    parts[0].put(SPACE, b"a", b"1");
    parts[0].put(SPACE, b"a", b"2");
    parts[0].put(SPACE, b"b", b"1");
    parts[0].delete(SPACE, b"b");
    parts[0].put(SPACE, b"c", b"1");
    parts[0].sort();
    parts[1].put(SPACE, b"c", b"2");
    parts[1].put(Space::Catalog, b"z", b"");
    assert!(parts[0].bytes() > 0 && parts[0].len() == 5 && !parts[0].is_empty());
    let sealed = Arc::new(Sealed::new(Epoch(1), parts.into()));
    assert_eq!((sealed.len(), sealed.epoch()), (4, Epoch(1)));
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).unwrap();
    assert_eq!(all(store.reader(Some(sealed.clone())).scan(SPACE, None, None)), "a=2 c=2");
    store.commit(&sealed, false).unwrap();
    assert_eq!(all(store.snapshot().scan(SPACE, None, None)), "a=2 c=2");
    assert_eq!(all(store.snapshot().scan(Space::Catalog, None, None)), "z=");
}

#[test]
fn scans_keep_to_their_space_and_bounds() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).unwrap();
    let last = Space::Relation(ObjectId(u32::MAX));
    let neighbours =
        [Space::State(TableId(7), Shard(2)), Space::State(TableId(7), Shard(4)), Space::Relation(ObjectId(7))];
    let mut entries = neighbours.map(|space| (space, "x", Some("neighbour"))).to_vec();
    entries.extend(["a", "b", "ba", "c"].map(|key| (SPACE, key, Some("1"))));
    entries.push((last, "end", Some("1")));
    let batch = sealed(1, &entries);
    let before = store.reader(Some(batch.clone()));
    store.commit(&batch, false).unwrap();
    for reader in [&before, &store.reader(None), &store.reader(Some(batch.clone()))] {
        assert_eq!(all(reader.scan(SPACE, None, None)), "a=1 b=1 ba=1 c=1");
        assert_eq!(all(reader.scan(SPACE, Some(b"b"), None)), "b=1 ba=1 c=1");
        assert_eq!(all(reader.scan(SPACE, Some(b"aa"), Some(b"c"))), "b=1 ba=1");
        assert_eq!(all(reader.scan(SPACE, Some(b"c"), Some(b"b"))), "");
        assert_eq!(all(reader.scan(last, None, None)), "end=1");
        assert_eq!(all(reader.scan_reverse(SPACE, None, None)), "c=1 ba=1 b=1 a=1");
        assert_eq!(all(reader.scan_reverse(SPACE, Some(b"aa"), Some(b"c"))), "ba=1 b=1");
        assert_eq!(all(reader.scan_reverse(SPACE, Some(b"c"), Some(b"b"))), "");
        assert_eq!(all(reader.scan_reverse(last, None, None)), "end=1");
    }
}

#[test]
fn snapshots_stand_still_and_outlive_the_handle() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).unwrap();
    store.commit(&sealed(1, &[(SPACE, "a", Some("1")), (SPACE, "b", Some("1"))]), false).unwrap();
    let snapshot = store.snapshot();
    let mut scan = snapshot.scan(SPACE, None, None);
    assert_eq!(scan.next_entry().unwrap(), Some((&b"a"[..], &b"1"[..])));
    store.commit(&sealed(2, &[(SPACE, "a", None), (SPACE, "b", Some("2"))]), false).unwrap();
    assert_eq!(snapshot.get_many(SPACE, &[b"b", b"a"]).unwrap(), [Some(b"1".to_vec()), Some(b"1".to_vec())]);
    drop((snapshot, store));
    assert_eq!(scan.next_entry().unwrap(), Some((&b"b"[..], &b"1"[..])));
    assert_eq!(scan.next_entry().unwrap(), None);
    drop(scan);
    assert_eq!(open(dir.path()).unwrap().committed_epoch().unwrap(), Some(Epoch(2)));
}

/// Random epochs against a map, read before, while and after each is committed.
#[test]
fn readers_see_what_is_sealed_or_spilled_over_what_is_committed() {
    let mut rng = StdRng::seed_from_u64(1);
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).unwrap();
    let mut model = BTreeMap::<(Shard, Vec<u8>), Vec<u8>>::new();
    for epoch in 1..40 {
        let mut parts = vec![Writes::default(), Writes::default()];
        for n in 0..rng.random_range(0..200) {
            let (shard, key) = (Shard(rng.random_range(0..3)), vec![b'k'; rng.random_range(0..40)]);
            let (space, part) = (Space::State(TableId(1), shard), &mut parts[shard.0 as usize % 2]);
            if rng.random_bool(0.4) {
                part.delete(space, &key);
                model.remove(&(shard, key));
            } else {
                part.put(space, &key, format!("{epoch} {n}").as_bytes());
                model.insert((shard, key), format!("{epoch} {n}").into_bytes());
            }
        }
        // Each of them sees all of the epoch.
        let mut readers = Vec::new();
        if epoch % 3 == 0 {
            // Later portions replace what earlier ones say.
            let mut first = Writes::default();
            for n in 0..rng.random_range(0..100) {
                first.put(Space::State(TableId(1), Shard(n % 3)), &[b'x'; 3], b"replaced");
                parts[1].delete(Space::State(TableId(1), Shard(n % 3)), &[b'x'; 3]);
            }
            store.spill(&Sealed::new(Epoch(epoch), vec![first])).unwrap();
            store.spill(&Sealed::new(Epoch(epoch), parts)).unwrap();
            readers.push(store.spilled_reader());
            store.commit_spilled(Epoch(epoch)).unwrap();
        } else {
            let sealed = Arc::new(Sealed::new(Epoch(epoch), parts));
            readers.push(store.reader(Some(sealed.clone())));
            store.commit(&sealed, epoch % 5 == 0).unwrap();
            readers.push(store.reader(Some(sealed)));
        }
        readers.push(store.reader(None));
        assert_eq!(store.committed_epoch().unwrap(), Some(Epoch(epoch)));
        for reader in readers {
            let keys = (0..100)
                .map(|_| (Shard(rng.random_range(0..4)), vec![b'k'; rng.random_range(0..45)]))
                .collect::<Vec<_>>();
            let asked =
                keys.iter().map(|(shard, key)| (Space::State(TableId(1), *shard), key.as_slice())).collect::<Vec<_>>();
            let expected = keys.iter().map(|key| model.get(key).cloned()).collect::<Vec<_>>();
            assert_eq!(many(&reader, &asked), expected);
            assert_eq!(reader.get(asked[0].0, asked[0].1).unwrap(), expected[0]);
            let space = Space::State(TableId(1), Shard(1));
            let stored =
                model.iter().filter(|((shard, _), _)| *shard == Shard(1)).map(|((_, key), value)| (key, value));
            let text = |(key, value): (&Vec<u8>, &Vec<u8>)| {
                format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(value))
            };
            assert_eq!(all(reader.scan(space, None, None)), stored.clone().map(text).collect::<Vec<_>>().join(" "));
            assert_eq!(
                all(reader.scan_reverse(space, None, None)),
                stored.rev().map(text).collect::<Vec<_>>().join(" ")
            );
        }
    }
    assert!(many(&store.reader(None), &[]).is_empty());
}

#[test]
fn a_spilled_epoch_that_is_not_committed_is_gone_after_reopening() {
    let dir = TempDir::new().unwrap();
    let before = {
        let store = open(dir.path()).unwrap();
        store.commit(&sealed(1, &[(SPACE, "a", Some("1")), (SPACE, "b", Some("1"))]), true).unwrap();
        store.spill(&sealed(2, &[(SPACE, "a", None), (SPACE, "b", Some("2")), (SPACE, "c", Some("2"))])).unwrap();
        let reader = store.spilled_reader();
        assert_eq!(all(reader.scan(SPACE, None, None)), "b=2 c=2");
        assert_eq!(all(reader.scan_reverse(SPACE, Some(b"b"), Some(b"c"))), "b=2");
        all(store.snapshot().scan(SPACE, None, None))
    };
    let store = open(dir.path()).unwrap();
    assert_eq!((all(store.snapshot().scan(SPACE, None, None)), before), ("a=1 b=1".to_string(), "a=1 b=1".to_string()));
    store.spill(&sealed(3, &[(SPACE, "d", Some("3"))])).unwrap();
    assert_eq!(all(store.spilled_reader().scan(SPACE, None, None)), "a=1 b=1 d=3");
    store.settle_spilled().unwrap();
    assert_eq!(all(store.spilled_reader().scan(SPACE, None, None)), "a=1 b=1");
}

#[test]
fn dropped_spaces_are_gone_but_not_from_older_snapshots() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).unwrap();
    let (mine, other) = (Space::Relation(ObjectId(5)), Space::Relation(ObjectId(6)));
    let entries = [(SPACE, "a", Some("1")), (mine, "a", Some("1")), (other, "a", Some("1"))];
    store.commit(&sealed(1, &entries), false).unwrap();
    let before = store.snapshot();
    store.drop_spaces(&[TableId(7)], &[ObjectId(5)]).unwrap();
    let after = store.snapshot();
    assert_eq!([SPACE, mine, other].map(|space| all(before.scan(space, None, None))), ["a=1"; 3]);
    assert_eq!([SPACE, mine, other].map(|space| all(after.scan(space, None, None))), ["", "", "a=1"]);
    assert_eq!((store.table_bytes(TableId(9)), store.relation_bytes(ObjectId(9))), (0, 0));
}

#[test]
fn what_is_deleted_at_large_gives_its_room_back() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).unwrap();
    let commit = |epoch, write: &dyn Fn(&mut Writes, Space, &[u8])| {
        let mut writes = Writes::default();
        for key in 0..50_000_u32 {
            for space in [SPACE, Space::Relation(ObjectId(5))] {
                write(&mut writes, space, &key.to_be_bytes());
            }
        }
        store.commit(&Sealed::new(Epoch(epoch), vec![writes]), false).unwrap();
        store.flush().unwrap();
        store.vitals().file_bytes
    };
    let before = commit(1, &|writes, space, key| writes.put(space, key, &key.repeat(10)));
    commit(2, &|writes, space, key| writes.delete(space, key));
    // Nothing is written any more.
    let is_left = |_: &i32| {
        SystemClock.sleep(Duration::from_millis(100));
        store.vitals().file_bytes > before / 50
    };
    assert!((0..600).take_while(is_left).count() < 600, "{} of {before} bytes are left", store.vitals().file_bytes);
}

#[test]
fn what_nobody_knows_of_is_found_between_what_is_known() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).unwrap();
    let tables = [3, 4, 7, 8, 20].map(|table| (Space::State(TableId(table), Shard(0)), "key", Some("value")));
    let rows = [1, 2].map(|object| (Space::Relation(ObjectId(object)), "key", Some("value")));
    let changes = [2, 5].map(|object| (Space::Changelog(ObjectId(object)), "key", Some("value")));
    store.commit(&sealed(1, &[&tables[..], &rows, &changes].concat()), false).unwrap();
    let tables = |known: &[u32]| {
        let known = known.iter().copied().map(TableId).collect();
        store.tables_besides(&known).unwrap().into_iter().map(|table| table.0).collect::<Vec<_>>()
    };
    assert_eq!(tables(&[]), [3, 4, 7, 8, 20]);
    assert_eq!(tables(&[4, 5, 20]), [3, 7, 8]);
    assert_eq!(tables(&[0, 3, 4, 7, 8, 20]), [0; 0]);
    let objects = |known: &[u32]| {
        let known = known.iter().copied().map(ObjectId).collect();
        store.objects_besides(&known).unwrap().into_iter().map(|object| object.0).collect::<Vec<_>>()
    };
    assert_eq!(objects(&[]), [1, 2, 5]);
    assert_eq!(objects(&[2]), [1, 5]);
}

#[test]
fn a_directory_in_use_is_refused() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert_eq!(error.kind, Kind::Io);
    assert_eq!(error.message, format!("data directory \"{}\" is in use by another process", dir.path().display()));
    drop(store);
    open(dir.path()).unwrap();
}

#[test]
fn a_newer_or_damaged_format_is_refused() {
    let dir = TempDir::new().unwrap();
    drop(open(dir.path()).unwrap());
    let file = dir.path().join("FORMAT");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "millstream data format 1\n");
    std::fs::write(&file, "millstream data format 2\n").unwrap();
    let error = open(dir.path()).err().unwrap();
    assert_eq!(error.kind, Kind::Unsupported);
    assert_eq!(error.detail.as_deref(), Some("Its format is 2; this version knows 1."));
    for text in ["", "millstream data format 0", "something else"] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(open(dir.path()).err().unwrap().kind, Kind::Corrupted);
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(open(dir.path()).err().unwrap().kind, Kind::Corrupted);
}

#[test]
fn a_path_that_is_no_directory_is_refused() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = open(&file.join("data")).err().unwrap();
    assert!(error.message.starts_with("cannot create data directory"), "{error}");
    assert!(error.hint.is_some());
    drop(open(dir.path()).unwrap());
    let store = dir.path().join("store");
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::write(&store, "").unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(error.message.contains(&format!("\"{}\"", store.display())), "{error}");
}

#[test]
fn a_damaged_file_is_named() {
    let dir = TempDir::new().unwrap();
    drop(open(dir.path()).unwrap());
    let manifest = std::fs::read_dir(dir.path().join("store"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("MANIFEST"))
        .unwrap();
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes[20] ^= 0xFF;
    std::fs::write(&manifest, bytes).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert_eq!(error.kind, Kind::Corrupted);
    assert!(error.message.contains("MANIFEST"), "{error}");
}

/// What lies on people's disks: changes only together with the version of the format.
#[test]
fn keys_lie_where_they_lie() {
    let at = |space: Space| (space.family().name(), space.prefix().key(b"k"));
    assert_eq!(at(Space::Catalog), ("catalog", b"k".to_vec()));
    assert_eq!(at(Space::Progress), ("progress", b"k".to_vec()));
    assert_eq!(at(Space::State(TableId(258), Shard(1023))), ("state", vec![0, 0, 1, 2, 3, 255, b'k']));
    assert_eq!(at(Space::Relation(ObjectId(16384))), ("relations", vec![0, 0, 64, 0, b'k']));
    assert_eq!(at(Space::Changelog(ObjectId(16384))), ("changelog", vec![0, 0, 64, 0, b'k']));
}

#[test]
fn readers_go_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<(Arc<Store>, crate::state::Snapshot, StateReader, Arc<Sealed>, Writes)>();
    fn check_send<T: Send>() {}
    check_send::<Scan>();
}

//! The running reader: one thread that reads each file to its end, and then looks for more.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use super::Settings;
use super::confined;
use super::confined::Identity;
use super::records::Next;
use super::records::RECORD_MAX;
use super::records::Records;
use super::rows::RowsBuilder;
use crate::connectors::EndQuestion;
use crate::connectors::Positions;
use crate::connectors::Reader;
use crate::connectors::SourceBatch;
use crate::connectors::SourceEvent;
use crate::connectors::SourceSpec;
use crate::connectors::worker::StopSignal;
use crate::connectors::worker::Stopped;
use crate::connectors::worker::Workers;
use crate::error::Error;
use crate::error::Result;
use crate::formats::Encode;
use crate::time::Clock;

/// A batch is sent when it has so many records,
const RECORDS_MAX: usize = 4096;

/// or so many bytes of payload, or the file's end is met.
const BYTES_MAX: usize = 4 << 20;

/// How often a file is looked at whose end was met.
const TICK: Duration = Duration::from_millis(20);

/// How often it is looked for files that are new.
const LISTING: Duration = Duration::from_secs(1);

/// The handle of a running reader.
pub(super) struct FileReader {
    looks: Arc<Looks>,
    clock: Arc<dyn Clock>,
    /// Dropped with the handle; ends the thread.
    _workers: Workers,
}

/// What the thread and the handle share.
struct Looks {
    spec: SourceSpec,
    settings: Settings,
    seen: Mutex<Seen>,
}

/// How far the thread has come.
#[derive(Default)]
struct Seen {
    /// The length of each file when it was last read, and the offset after its last whole record then.
    files: BTreeMap<String, (u64, u64)>,
    /// Why not further.
    trouble: Option<Error>,
    /// Whether the thread has ended.
    ended: bool,
}

/// The thread.
struct Run {
    looks: Arc<Looks>,
    encode: Encode,
    clock: Arc<dyn Clock>,
    events: Sender<SourceEvent>,
    stop: StopSignal,
    files: BTreeMap<String, Tracked>,
    /// What all files are read through.
    buffer: Vec<u8>,
    /// When it was last looked for files that are new.
    listed: Instant,
}

/// One file.
struct Tracked {
    path: PathBuf,
    /// The offset after what was read.
    position: u64,
    /// How long it was when it was last read to its end; `None`: not yet.
    length: Option<u64>,
    /// Which file it was then.
    identity: Option<Identity>,
}

/// Why the thread ends by itself.
enum Ending {
    Stopped,
    Failed(Error),
}

impl From<Stopped> for Ending {
    fn from(_: Stopped) -> Ending {
        Ending::Stopped
    }
}

impl FileReader {
    pub(super) fn start(
        spec: SourceSpec,
        settings: Settings,
        from: Positions,
        clock: Arc<dyn Clock>,
        events: Sender<SourceEvent>,
    ) -> Result<FileReader> {
        let format = spec.format.as_ref().ok_or_else(|| Error::internal("a source of files has no format"))?;
        let encode = format.encode.clone();
        let name = spec.name.clone();
        let mut from = from;
        if let Some(until) = &spec.until {
            from.retain(|name, offset| until.get(name).is_some_and(|end| *offset < *end));
            for name in until.iter().filter(|(_, end)| **end > 0).map(|(name, _)| name) {
                from.entry(name.clone()).or_insert(0);
            }
        }
        let looks = Arc::new(Looks { spec, settings, seen: Mutex::new(Seen::default()) });
        let mut workers = Workers::new();
        let mut run = Run {
            looks: looks.clone(),
            encode,
            clock: clock.clone(),
            events,
            stop: workers.stop_signal(),
            files: BTreeMap::new(),
            buffer: Vec::new(),
            listed: clock.instant(),
        };
        from.into_iter().for_each(|(name, position)| run.track(name, position));
        workers.spawn(format!("file {name}"), move || run.run())?;
        Ok(FileReader { looks, clock, _workers: workers })
    }
}

impl Reader for FileReader {
    fn committed(&self, _positions: &Positions) {}

    /// Waits until the thread has seen all that is there now; then it is known where the last whole records end.
    fn end(&self) -> EndQuestion {
        let (looks, clock) = (self.looks.clone(), self.clock.clone());
        Box::new(move || {
            let lengths = looks.lengths()?;
            loop {
                let seen = looks.seen.lock();
                if let Some(trouble) = &seen.trouble {
                    return Err(trouble.clone());
                }
                let known = |(name, length): (&String, &u64)| seen.files.get(name).is_some_and(|(s, _)| s >= length);
                if seen.ended || lengths.iter().all(known) {
                    return Ok(Some(seen.files.iter().map(|(name, (_, end))| (name.clone(), *end as i64)).collect()));
                }
                drop(seen);
                clock.sleep(TICK);
            }
        })
    }
}

impl Looks {
    /// How long each file is now.
    fn lengths(&self) -> Result<BTreeMap<String, u64>> {
        let known = self.seen.lock().files.keys().cloned().collect::<Vec<_>>();
        let mut files = known.into_iter().map(|name| (name.clone(), self.path(&name))).collect::<BTreeMap<_, _>>();
        if self.settings.follow {
            files.extend(self.settings.pattern.files(self.roots())?);
        }
        let length = |(name, path): (String, PathBuf)| Some((name, path.metadata().ok()?.len()));
        Ok(files.into_iter().filter_map(length).collect())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.settings.pattern.path(name, self.roots())
    }

    fn roots(&self) -> &[PathBuf] {
        &self.spec.environment.file_roots
    }
}

impl Run {
    fn run(mut self) -> Result<(), Stopped> {
        let ending = self.read_all();
        let outcome = match ending {
            Ok(()) => Ok(()),
            Err(Ending::Stopped) => Err(Stopped),
            Err(Ending::Failed(error)) => {
                let failed = SourceEvent::Failed { source: self.looks.spec.source, error };
                self.stop.send(&self.events, failed)
            }
        };
        self.looks.seen.lock().ended = true;
        outcome
    }

    fn track(&mut self, name: String, position: i64) {
        let path = self.looks.path(&name);
        let position = position.max(0) as u64;
        self.looks.seen.lock().files.entry(name.clone()).or_insert((0, position));
        self.files.insert(name, Tracked { path, position, length: None, identity: None });
    }

    fn read_all(&mut self) -> Result<(), Ending> {
        let endless = self.looks.settings.follow && self.looks.spec.until.is_none();
        if endless {
            self.list()?;
        }
        loop {
            for name in self.files.keys().cloned().collect::<Vec<_>>() {
                self.look_at(&name)?;
            }
            if !endless && self.files.values().all(|file| file.length.is_some()) {
                return Ok(());
            }
            self.stop.wait(TICK)?;
            if endless && self.clock.instant() - self.listed >= LISTING {
                self.list()?;
            }
        }
    }

    /// Finds files that are new.
    fn list(&mut self) -> Result<(), Ending> {
        self.listed = self.clock.instant();
        match self.looks.settings.pattern.files(self.looks.roots()) {
            Ok(files) => {
                let new = files.into_keys().filter(|name| !self.files.contains_key(name)).collect::<Vec<_>>();
                new.into_iter().for_each(|name| self.track(name, 0));
                Ok(())
            }
            Err(error) => self.tell_trouble(error),
        }
    }

    /// Reads what is new in a file.
    fn look_at(&mut self, name: &str) -> Result<(), Ending> {
        let tracked = &self.files[name];
        let metadata = match tracked.path.metadata() {
            Ok(metadata) => metadata,
            Err(error) => return self.not_there(name, &error),
        };
        if tracked.length == Some(metadata.len()) && tracked.identity == Some(Identity::of(&metadata)) {
            return Ok(());
        }
        match confined::open(&tracked.path, self.looks.roots()) {
            Ok(file) => self.read(name, file),
            Err(error) => self.tell_trouble(error),
        }
    }

    /// A file of a directory may go after it was read; any other is missed.
    fn not_there(&mut self, name: &str, error: &std::io::Error) -> Result<(), Ending> {
        let tracked = &self.files[name];
        if self.looks.spec.until.is_some() {
            let message = format!("file \"{name}\" cannot be read again from its beginning: {error}");
            return Err(Ending::Failed(
                Error::not_ready(message).hint("A TABLE keeps what a SOURCE cannot read again."),
            ));
        }
        if tracked.length.is_some() && error.kind() == ErrorKind::NotFound {
            return Ok(());
        }
        self.tell_trouble(Error::io(format!("file \"{name}\" cannot be read: {error}")))
    }

    /// Reads a file from its position to where it ends now.
    fn read(&mut self, name: &str, mut file: File) -> Result<(), Ending> {
        let until = self.looks.spec.until.as_ref().and_then(|until| until.get(name)).map(|end| *end as u64);
        let checked = file.metadata().map_err(Error::from).and_then(|metadata| {
            let tracked = &self.files[name];
            let identity = Identity::of(&metadata);
            tracked.check(name, identity, metadata.len(), until, &mut file)?;
            Ok((identity, metadata.len()))
        });
        let (identity, length) = checked.map_err(Ending::Failed)?;
        let mut rows = RowsBuilder::new(&self.looks.spec, name).map_err(Ending::Failed)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        let end = until.unwrap_or(length);
        let outcome = self.read_records(name, file, end, &mut rows, &mut buffer);
        self.buffer = buffer;
        outcome?;
        let tracked = self.files.get_mut(name).expect("it is being read");
        (tracked.length, tracked.identity) = (Some(length), Some(identity));
        self.looks.seen.lock().files.insert(name.to_string(), (length, tracked.position));
        Ok(())
    }

    fn read_records(
        &mut self,
        name: &str,
        mut file: File,
        end: u64,
        rows: &mut RowsBuilder,
        buffer: &mut Vec<u8>,
    ) -> Result<(), Ending> {
        let io = |error: std::io::Error| Ending::Failed(Error::io(format!("file \"{name}\" cannot be read: {error}")));
        let encode = self.encode.clone();
        let whole = !self.looks.settings.follow || self.looks.spec.until.is_some();
        let position = self.files[name].position;
        let mut begin = position;
        if encode.has_header() {
            file.seek(SeekFrom::Start(0)).map_err(io)?;
            let again = file.try_clone().map_err(io)?;
            let mut first = Records::new(&encode, again, buffer, 0, end, whole);
            match first.next().map_err(Ending::Failed)? {
                Next::Record(record, _) => rows.header(first.bytes(record)).map_err(Ending::Failed)?,
                Next::TooLong(_) => return Err(Ending::Failed(too_long(name))),
                Next::End => return self.send(name, rows, position, true),
            }
            begin = begin.max(first.offset());
        }
        file.seek(SeekFrom::Start(begin)).map_err(io)?;
        let mut records = Records::new(&encode, file, buffer, begin, end, whole);
        loop {
            match records.next().map_err(Ending::Failed)? {
                Next::Record(record, offset) => rows.push(records.bytes(record), offset as i64),
                Next::TooLong(offset) => rows.push_error(offset as i64, too_long(name).message),
                Next::End => return self.send(name, rows, records.offset(), true),
            }
            if rows.records() >= RECORDS_MAX || rows.bytes() >= BYTES_MAX {
                self.send(name, rows, records.offset(), false)?;
            }
        }
    }

    /// Sends what was read of a file.
    fn send(&mut self, name: &str, rows: &mut RowsBuilder, position: u64, at_end: bool) -> Result<(), Ending> {
        let (batch, offsets, errors) = rows.finish();
        let event = SourceEvent::Batch(SourceBatch {
            source: self.looks.spec.source,
            partition: name.to_string(),
            batch,
            deleted: Vec::new(),
            offsets,
            next_offset: position as i64,
            at_end,
            errors,
        });
        self.files.get_mut(name).expect("it is being read").position = position;
        self.looks.seen.lock().trouble = None;
        Ok(self.stop.send(&self.events, event)?)
    }

    fn tell_trouble(&mut self, error: Error) -> Result<(), Ending> {
        let known = self.looks.seen.lock().trouble.replace(error.clone());
        if known.as_ref() == Some(&error) {
            return Ok(());
        }
        tracing::warn!(source = self.looks.spec.name, "{error}");
        Ok(self.stop.send(&self.events, SourceEvent::Trouble { source: self.looks.spec.source, error })?)
    }
}

impl Tracked {
    /// Whether it is still the file that was read up to the position: as far as can be told.
    fn check(&self, name: &str, now: Identity, length: u64, until: Option<u64>, file: &mut File) -> Result<()> {
        let hint = "What was read of it cannot be told from what was not. Drop the source and create it again. To rotate, \
                    begin files of new names instead of changing those that were read.";
        if self.identity.is_some_and(|before| before != now) {
            return Err(Error::not_ready(format!("file \"{name}\" was replaced by another one")).hint(hint));
        }
        let needed = until.unwrap_or(self.position);
        if length < needed {
            return Err(Error::not_ready(format!("file \"{name}\" is shorter than what was read of it"))
                .detail(format!("It has {length} bytes; {needed} were read."))
                .hint(hint));
        }
        if self.position > 0 && self.position < length {
            let mut before = [0];
            file.seek(SeekFrom::Start(self.position - 1))?;
            file.read_exact(&mut before)?;
            if before != *b"\n" {
                return Err(Error::not_ready(format!("file \"{name}\" has changed where it was read before"))
                    .detail(format!("The line that ended at byte {} does not end there any more.", self.position))
                    .hint(hint));
            }
        }
        Ok(())
    }
}

fn too_long(name: &str) -> Error {
    Error::invalid_parameter(format!("a line of \"{name}\" is longer than {} MB", RECORD_MAX >> 20))
}

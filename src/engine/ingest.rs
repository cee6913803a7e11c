//! Inputs that are read: starts their readers, keeps how far each has come.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use datafusion::execution::SessionState;

use crate::catalog::Feed;
use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::catalog::system::Holder;
use crate::catalog::system::WatermarkFacts;
use crate::connectors;
use crate::connectors::EndQuestion;
use crate::connectors::Ends;
use crate::connectors::Environment;
use crate::connectors::Part;
use crate::connectors::Positions;
use crate::connectors::Reader;
use crate::connectors::SourceBatch;
use crate::connectors::SourceEvent;
use crate::connectors::SourceSpec;
use crate::engine::records::Progress;
use crate::engine::rows::Made;
use crate::engine::rows::RowMaker;
use crate::engine::rows::all_carried;
use crate::engine::watermark::InputClock;
pub use crate::engine::watermark::Moved;
use crate::engine::watermark::SESSIONS;
use crate::error::Error;
use crate::error::Result;
use crate::ids::Epoch;
use crate::ids::ObjectId;
use crate::time::Clock;
use crate::time::Micros;
use crate::types::Column;

/// A source as its connector sees it, with all of its columns wanted.
pub fn spec(name: &str, columns: &[Column], feed: &Feed, environment: &Arc<Environment>) -> SourceSpec {
    let columns = all_carried(columns, feed);
    let field = |(_, part): &(Column, Part)| match part {
        Part::Field(field) => Some(field.clone()),
        Part::Key | Part::Partition | Part::Offset | Part::Timestamp | Part::Headers | Part::File => None,
    };
    SourceSpec {
        source: ObjectId(0),
        name: name.to_string(),
        fields: columns.iter().filter_map(field).collect(),
        columns,
        format: feed.format.clone(),
        options: feed.options.clone(),
        until: None,
        identity: feed.identity.clone(),
        environment: environment.clone(),
    }
}

/// A source that is being read.
struct Running {
    object: Arc<Object>,
    maker: RowMaker,
    /// The columns that are decoded.
    wanted: BTreeSet<usize>,
    reader: Box<dyn Reader>,
    /// What users are told of it, while it cannot be read.
    trouble: Option<Error>,
    /// Whether its reader has stopped: the trouble does not pass.
    failed: bool,
}

/// All inputs: sources that are read, and tables that declare a watermark.
pub struct Inputs {
    running: BTreeMap<ObjectId, Running>,
    clocks: BTreeMap<ObjectId, InputClock>,
    /// Where readers put what they bring.
    events: Sender<SourceEvent>,
    clock: Arc<dyn Clock>,
    environment: Arc<Environment>,
}

impl Inputs {
    /// No inputs yet.
    pub fn new(events: Sender<SourceEvent>, clock: Arc<dyn Clock>, environment: Arc<Environment>) -> Inputs {
        Inputs { running: BTreeMap::new(), clocks: BTreeMap::new(), events, clock, environment }
    }

    /// Keeps time for a table or source from where it had come.
    pub fn track(&mut self, object: &Object, progress: Option<Progress>) {
        let progress = progress.unwrap_or_default();
        let idle_ms = object.watermark().map_or(u64::MAX, |w| w.idle_timeout_ms);
        self.clocks.insert(object.id, InputClock::new(&progress, Duration::from_millis(idle_ms.min(1 << 40))));
    }

    /// Forgets all inputs; their readers stop.
    pub fn clear(&mut self) {
        self.running.clear();
        self.clocks.clear();
    }

    /// Forgets an input.
    pub fn forget(&mut self, id: ObjectId) {
        self.running.remove(&id);
        self.clocks.remove(&id);
    }

    /// Starts the one reader of a source, from where it had come or from its start, for these of its columns.
    pub fn start(&mut self, object: &Arc<Object>, wanted: BTreeSet<usize>, state: &SessionState) -> Result<()> {
        let Some(feed) = object.feed() else { return Ok(()) };
        let connector = connectors::find(&feed.connector)?;
        let mut from = feed.start.clone();
        if !self.clocks.contains_key(&object.id) {
            self.track(object, None);
        }
        if let Some(clock) = self.clocks.get_mut(&object.id) {
            from.extend(clock.positions());
            clock.expect(&from);
        }
        let maker = RowMaker::new(object, feed, &wanted, state)?;
        let spec = SourceSpec { columns: maker.carried(), ..self.spec(object, feed) };
        let reader = connector.read(spec, from, self.clock.clone(), self.events.clone())?;
        let running = Running { object: object.clone(), maker, wanted, reader, trouble: None, failed: false };
        self.running.insert(object.id, running);
        Ok(())
    }

    /// A source as its connector sees it.
    pub fn spec(&self, object: &Object, feed: &Feed) -> SourceSpec {
        SourceSpec { source: object.id, ..spec(&object.name, object.columns(), feed, &self.environment) }
    }

    /// Ends a source's reader if it does not decode all of these columns; it is to be started again with those returned. What
    /// it brought last may still wait to be taken.
    pub fn stop_narrower(&mut self, id: ObjectId, wanted: &BTreeSet<usize>) -> Option<BTreeSet<usize>> {
        let decoded = &self.running.get(&id).filter(|running| !wanted.is_subset(&running.wanted))?.wanted;
        let all = decoded | wanted;
        self.running.remove(&id);
        Some(all)
    }

    /// Stops reading a source and forgets how far it had come: the next view over it begins at its start.
    pub fn stop(&mut self, id: ObjectId) -> bool {
        self.clocks.remove(&id);
        self.running.remove(&id).is_some()
    }

    /// Whether a source is being read.
    pub fn is_running(&self, id: ObjectId) -> bool {
        self.running.contains_key(&id)
    }

    /// What a reader brought, as rows of its input; the errors among them are added to the batch's. `None` when the source
    /// is not read any more.
    pub fn take(&mut self, batch: &mut SourceBatch) -> Result<Option<(Arc<Object>, Made)>> {
        let Some(running) = self.running.get_mut(&batch.source) else { return Ok(None) };
        running.trouble = None;
        let clock = self.clocks.get_mut(&batch.source).expect("a running source has a clock");
        let mut made = running.maker.make(batch)?;
        batch.errors.append(&mut made.errors);
        let spoke = batch.batch.num_rows() > 0 || !batch.errors.is_empty();
        let now = self.clock.instant();
        clock.advance(&batch.partition, batch.next_offset, made.highest, batch.at_end, spoke, now);
        Ok(Some((running.object.clone(), made)))
    }

    /// Notes that a source cannot be read: at the moment, or (`failed`) ever again.
    pub fn trouble(&mut self, id: ObjectId, error: Error, failed: bool) {
        if let Some(running) = self.running.get_mut(&id) {
            let name = &running.object.name;
            tracing::warn!(source = %name, %error, "a source cannot be read");
            running.trouble = Some(error);
            running.failed |= failed;
        }
    }

    /// Rows were written to a table with a watermark.
    pub fn wrote(&mut self, id: ObjectId, highest: Option<Micros>) {
        let now = self.clock.instant();
        if let Some(clock) = self.clocks.get_mut(&id) {
            clock.advance(SESSIONS, 0, highest, true, true, now);
        }
    }

    /// The watermark that rows of an input carry in this epoch.
    pub fn watermark(&self, id: ObjectId) -> Option<Micros> {
        self.clocks.get(&id).and_then(InputClock::watermark)
    }

    /// Ends an epoch for all inputs. Those whose record changed, with it.
    pub fn end_epoch(&mut self, epoch: Epoch) -> Vec<(ObjectId, Moved)> {
        let now = self.clock.instant();
        let running = &self.running;
        let moved = self.clocks.iter_mut().filter_map(|(id, clock)| {
            let mut moved = clock.end_epoch(epoch, now)?;
            // Only what is not stored is read again.
            let is_source = |running: &Running| matches!(running.object.kind, ObjectKind::Source(_));
            moved.moment = moved.moment.filter(|_| running.get(id).is_some_and(is_source));
            Some((*id, moved))
        });
        moved.collect()
    }

    /// The watermark of each input.
    pub fn own_watermarks(&self) -> Vec<(ObjectId, Option<Micros>)> {
        self.clocks.iter().map(|(id, clock)| (*id, clock.watermark())).collect()
    }

    /// How long until an idle partition will let a watermark move, if any will.
    pub fn next_idle(&self) -> Option<Duration> {
        let now = self.clock.instant();
        self.clocks.values().filter_map(|clock| clock.next_idle(now)).min().map(|due| due - now)
    }

    /// Tells the other side of each source what is committed.
    pub fn committed(&self, positions: &[(ObjectId, Positions)]) {
        for (id, positions) in positions {
            if let Some(running) = self.running.get(id) {
                running.reader.committed(positions);
            }
        }
    }

    /// The questions where the running sources end, for FLUSH.
    pub fn ends(&self) -> Vec<(ObjectId, EndQuestion)> {
        self.running.iter().map(|(id, running)| (*id, running.reader.end())).collect()
    }

    /// Why one of these sources can never be read on, if one cannot.
    pub fn failure(&self, mut ids: impl Iterator<Item = ObjectId>) -> Option<Error> {
        ids.find_map(|id| self.running.get(&id).filter(|running| running.failed)?.trouble.clone())
    }

    /// Where each partition of an input is to be read on.
    pub fn positions(&self, id: ObjectId) -> Positions {
        self.clocks.get(&id).map(InputClock::positions).unwrap_or_default()
    }

    /// The next offset of each partition of each source that is read.
    pub fn offsets(&self) -> Vec<(ObjectId, String, i64)> {
        let of = |id: ObjectId| self.positions(id).into_iter().map(move |(partition, offset)| (id, partition, offset));
        self.running.keys().copied().flat_map(of).collect()
    }

    /// Where the partitions of each source that is read end, kept up to date by its reader.
    pub fn ends_seen(&self) -> Vec<(ObjectId, Ends)> {
        self.running.iter().map(|(id, running)| (*id, running.reader.ends_seen())).collect()
    }

    /// All watermarks: of each input as a whole (no partition) and of its partitions.
    pub fn watermarks(&self) -> Vec<WatermarkFacts> {
        let now = self.clock.instant();
        let mut all = Vec::new();
        for (&object, clock) in &self.clocks {
            let held_by = clock.holder(now).map(|partition| Holder::Partition(partition.to_string()));
            all.push(WatermarkFacts { object, partition: None, watermark: clock.watermark(), held_by });
            all.extend(clock.partitions().map(|(name, watermark)| WatermarkFacts {
                object,
                partition: Some(name.to_string()),
                watermark,
                held_by: None,
            }));
        }
        all
    }

    /// What keeps each source from being read.
    pub fn troubles(&self) -> impl Iterator<Item = (ObjectId, &Error)> {
        self.running.iter().filter_map(|(id, running)| Some((*id, running.trouble.as_ref()?)))
    }
}

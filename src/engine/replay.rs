//! Sources read once more, for a view that was created after their shared reader had begun: from the start up to where that one
//! stood, with the same watermarks.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use crossbeam_channel::Sender;
use crossbeam_channel::bounded;

use crate::catalog::Feed;
use crate::catalog::Object;
use crate::connectors;
use crate::connectors::Reader;
use crate::connectors::SourceBatch;
use crate::connectors::SourceEvent;
use crate::connectors::SourceSpec;
use crate::delta::Delta;
use crate::engine::behind::Place;
use crate::engine::behind::is_through;
use crate::engine::coordinator::Coordinator;
use crate::engine::filling::Waiting;
use crate::engine::history::History;
use crate::engine::records;
use crate::engine::rows::RowMaker;
use crate::error::Error;
use crate::error::Result;
use crate::ids::ObjectId;

/// Batches that may wait for the coordinator.
const EVENTS_MAX: usize = 4;

/// What the readers of all views that stand behind have in common.
pub(super) struct Replays {
    /// The last number given to a reader; they go down, and never meet those of objects.
    last: ObjectId,
    /// Where readers put what they bring.
    sender: Sender<SourceEvent>,
    /// Its other end.
    pub(super) events: Receiver<SourceEvent>,
}

/// A source that is read once more.
pub(super) struct Replay {
    source: Arc<Object>,
    maker: RowMaker,
    history: History,
    _reader: Box<dyn Reader>,
}

impl Replays {
    pub(super) fn new() -> Replays {
        let (sender, events) = bounded(EVENTS_MAX);
        Replays { last: ObjectId(u32::MAX), sender, events }
    }

    /// Forgets what readers have brought that are no more.
    pub(super) fn forget(&self) {
        while self.events.try_recv().is_ok() {}
    }
}

impl Coordinator {
    /// Where a view begins in a source: at its start, if the shared reader has left that behind.
    pub(super) fn start_in_source(&self, id: ObjectId, feed: &Feed) -> Place {
        let (start, end) = (feed.start.clone(), self.inputs.positions(id));
        match !self.inputs.is_running(id) || is_through(&start, &end) {
            true => Place::Through { rows: 0 },
            false => Place::Offsets { next: start.clone(), start, end },
        }
    }

    /// Starts the readers that a view needs of its own.
    pub(super) fn start_replays(&mut self, view: ObjectId) -> Result<()> {
        let Some(filling) = self.behind.get_mut(view) else { return Ok(()) };
        for (id, place) in filling.filled.inputs.clone() {
            let Place::Offsets { next, end, .. } = place else { continue };
            let object = self.catalog.get(id).expect("what a view reads is there").clone();
            let Some(feed) = object.feed() else { continue };
            let maker = RowMaker::new(&object, feed, &self.columns_read(&object), &self.state)?;
            let history = records::history(&self.store.snapshot(), id)?;
            let replays = &mut self.behind.replays;
            replays.last = ObjectId(replays.last.0 - 1);
            let (number, sender) = (replays.last, replays.sender.clone());
            let (columns, until) = (maker.carried(), Some(end));
            let spec = SourceSpec { source: number, columns, until, ..self.inputs.spec(&object, feed) };
            let reader = connectors::find(&feed.connector)?.read(spec, next, self.clock.clone(), sender)?;
            let replay = Replay { source: object.clone(), maker, history, _reader: reader };
            if let Some(filling) = self.behind.get_mut(view) {
                filling.readers.insert(number, replay);
            }
        }
        Ok(())
    }

    /// What a view's own reader tells.
    pub(super) fn replay_event(&mut self, event: SourceEvent) -> Result<()> {
        match event {
            SourceEvent::Batch(batch) => self.replay(batch),
            SourceEvent::Trouble { source, error } => self.replay_trouble(source, error, false),
            SourceEvent::Failed { source, error } => self.replay_trouble(source, error, true),
        }
    }

    /// Takes in what a view's own reader has brought, if that is waiting; whether it was.
    pub(super) fn take_waiting_replay(&mut self) -> Result<bool> {
        match self.behind.replays.events.try_recv() {
            Ok(event) => self.replay_event(event).map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Takes in what a view's own reader has brought. Values that could not be read are kept too: they may be of columns that
    /// nobody had read.
    fn replay(&mut self, mut batch: SourceBatch) -> Result<()> {
        self.open()?;
        let Some((view, filling)) = self.behind.of_reader(batch.source) else { return Ok(()) };
        filling.trouble = None;
        filling.changed = true;
        let Some(Replay { source, maker, history, .. }) = filling.readers.get(&batch.source) else { return Ok(()) };
        let id = source.id;
        let mut rows = None;
        if batch.batch.num_rows() > 0 {
            let mut made = maker.make(&batch)?;
            batch.errors.append(&mut made.errors);
            let watermarks = history.watermarks(&batch.partition, &batch.offsets);
            rows = Some(Delta::inserts(made.stored(source, watermarks)?));
        }
        if let Some(place) = filling.filled.inputs.get_mut(&id) {
            let before = place.rows();
            if let Place::Offsets { next, end, .. } = place {
                next.insert(batch.partition.clone(), batch.next_offset);
                if is_through(next, end) {
                    *place = Place::Through { rows: place.total().unwrap_or(before) };
                    filling.readers.remove(&batch.source);
                }
            }
        }
        if let Some(rows) = rows {
            self.take_replayed(view, id, rows)?;
        }
        batch.errors.retain(|error| error.column.is_some());
        batch.source = id;
        self.keep_batch_errors(&batch)
    }

    /// Notes why a view's own reader cannot read. One that never will again ends the view's creation, if somebody waits.
    fn replay_trouble(&mut self, number: ObjectId, error: Error, failed: bool) -> Result<()> {
        let Some((view, filling)) = self.behind.of_reader(number) else { return Ok(()) };
        filling.trouble = Some(error.clone());
        if failed && !matches!(filling.waiting, Waiting::Nobody) {
            return self.refuse_creation(view, &error);
        }
        // An epoch of its own shows it.
        self.open().map(drop)
    }
}

//! The operator: turns deltas into deltas. Synchronous and deterministic; does no I/O but through its state.

use crate::dataflow::changelog::Recording;
use crate::dataflow::row_error::RowError;
use crate::delta::Delta;
use crate::error::Result;
use crate::ids::Portion;
use crate::ids::Shard;
use crate::state::{StateReader, Writes};
use crate::time::Micros;

/// One node of a running plan, on one worker.
///
/// In each step the worker calls, in topological order, [`on_delta`](Operator::on_delta) for each delta that arrives and
/// then [`on_step`](Operator::on_step); when the whole step is through, [`after_step`](Operator::after_step). At the
/// epoch's end [`on_epoch`](Operator::on_epoch) and, once all is quiet, [`store`](Operator::store) and [`seal`](Operator::seal). Operators that nothing
/// reached in an epoch are not called, save those that close something when their view's watermark moves.
pub trait Operator {
    /// Takes a delta in. Stateless operators put their answer out at once; others may wait for `on_step`.
    fn on_delta(&mut self, port: usize, delta: Delta, cx: &mut Context<'_>) -> Result<()>;

    /// All input of this step is in. What would be more than there is [`Room`] for may wait.
    fn on_step(&mut self, _cx: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    /// The step is through everywhere on this worker: arrangements apply what they held back.
    fn after_step(&mut self) -> Result<()> {
        Ok(())
    }

    /// Whether something of the steps so far is still to be put out: then it is called again, without input, until nothing is.
    fn owes(&self) -> bool {
        false
    }

    /// The epoch ends, or a portion of it: puts out what was held back until now, as often as more comes after it. In the last pass
    /// of the epoch, in which nothing is owed any more, lets go of what the watermark closes.
    fn on_epoch(&mut self, _cx: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    /// The view was just created (never after a restart): what is there without any input, such as the one row of an
    /// aggregate without groups. Called on every worker before any delta; put out on the worker for which `first` holds.
    fn on_create(&mut self, _first: bool, _cx: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    /// The last pass of the portion is through: writes what it brought. Unless the portion is `whole`, something is owed of which this
    /// may be one half; then what cannot be written yet may be kept for the next portion, which is answered.
    fn store(&mut self, _whole: bool, _cx: &mut Context<'_>) -> Result<bool> {
        Ok(false)
    }

    /// Hands over everything this epoch changed in its state; the caches are clean afterwards.
    fn seal(&mut self, _writes: &mut Writes) -> Result<()> {
        Ok(())
    }

    /// Brings one shard of its stored state into memory; `last` when it is the last one of this worker. Called after a
    /// restart, between epochs or at the beginning of one.
    fn warm(&mut self, _shard: Shard, _last: bool, _state: &StateReader) -> Result<()> {
        Ok(())
    }

    /// How much memory its state takes now, in bytes.
    fn memory_bytes(&self) -> usize {
        0
    }

    /// Lets go of clean entries until its state takes at most `bytes`. Called between epochs, after `seal`.
    fn shrink(&mut self, _bytes: usize) {}
}

/// How much an operator may put out in a call whose input would make it put out much more than it was given.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// So many rows, about.
    pub rows: usize,
    /// So many bytes, about.
    pub bytes: usize,
    /// Whether it is the operator's turn to put out what it owes. It is not while one behind it owes something itself.
    pub turn: bool,
}

impl Room {
    /// There is no bound.
    pub const ENDLESS: Room = Room { rows: usize::MAX, bytes: usize::MAX, turn: true };
}

/// What an operator sees while it is called.
pub struct Context<'a> {
    /// The portion of the running epoch.
    pub portion: Portion,
    /// The operator's way to its stored state.
    pub state: &'a StateReader,
    /// What of the epoch is recorded in the changelog; nothing before the epoch's end.
    pub recording: &'a Recording,
    /// What this epoch writes on this worker.
    pub writes: &'a mut Writes,
    /// Deltas put out; they go to every reader of the node.
    pub out: &'a mut Vec<Delta>,
    /// How much may be put out in this call.
    pub room: Room,
    /// The watermark of the operator's view, known at the epoch's end: after this epoch no change comes to what it closes.
    pub watermark: Option<Micros>,
    /// The shards that this worker owns.
    pub shards: std::ops::Range<u16>,
    /// Rows that could not be computed, for `<view>$errors`.
    pub errors: &'a mut Vec<RowError>,
}

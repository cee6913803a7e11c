//! Epochs larger than memory, and statements that make them.
//!
//! When what an epoch has changed outgrows its share of memory, that much is written ahead as a *portion* of it: the dataflow
//! ends the portion as it would end an epoch, except that no watermark moves; all writes go to a place of their own in the
//! store, which only this epoch reads; and the epoch goes on over what it has spilled. Its commit says that all portions count,
//! and brings them into place. Readers see the epoch before until then.
//!
//! A statement whose rows do not fit into memory by themselves comes in pieces. It has an epoch to itself: the coordinator ends
//! the running one, and waits for pieces until the statement is through; on an error everything returns to the last commit.

use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::dataflow::operator::Room;
use crate::dataflow::runtime::Memory;
use crate::dataflow::runtime::SealedShares;
use crate::engine::Written;
use crate::engine::coordinator::Coordinator;
use crate::engine::coordinator::Limits;
use crate::engine::coordinator::Question;
use crate::engine::coordinator::Work;
use crate::engine::query;
use crate::engine::standstill::Standstill;
use crate::engine::write::Sweep;
use crate::engine::write::TableWrite;
use crate::error::Error;
use crate::error::Result;
use crate::ids::Portion;
use crate::state::Sealed;

/// So many portions, about, would fit into an epoch's share of memory: what ends one brings as much again and more, since groups
/// and what is above them put out then what they have gathered, and all of it is copied on its way to the store.
const PORTIONS: usize = 4;

/// An operator puts out so many rows at a time at most, beyond what it is given.
const ROWS_OUT: usize = 1 << 17;

/// All operators that do so at the same time, one for each worker, take about one part in so many of an epoch's share of memory.
const ROOMS: usize = 8;

/// What the workers may take of memory.
pub(super) fn memory(limits: &Limits) -> Memory {
    Memory {
        state_bytes: limits.state_bytes,
        portion_bytes: limits.epoch_bytes / PORTIONS,
        room: Room { rows: ROWS_OUT, bytes: limits.epoch_bytes / ROOMS, turn: true },
    }
}

/// A statement in pieces.
pub struct Pieces {
    /// Told when the statement may begin to read: nothing will be committed before it is through.
    pub granted: oneshot::Sender<()>,
    /// The pieces. A channel that closes before the last one says that the client has left.
    pub pieces: mpsc::Receiver<Piece>,
}

/// What a session sends of a statement in pieces.
pub enum Piece {
    /// A part of its rows.
    Write(TableWrite),
    /// It cannot go on.
    Failed(Error),
    /// That was all.
    End,
}

impl Coordinator {
    /// Spills the running epoch if it has come near its share of memory.
    pub(super) fn spill_if_large(&mut self) -> Result<()> {
        if self.epoch_bytes() <= self.limits.epoch_bytes / PORTIONS { Ok(()) } else { self.spill() }
    }

    /// Whether the running epoch has spilled.
    pub(super) fn has_spilled(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.portion.number > 0)
    }

    /// Writes what the running epoch has changed so far ahead of it.
    fn spill(&mut self) -> Result<()> {
        // Views that stand behind read below the epoch, which they cannot once it has spilled.
        self.fill_share()?;
        self.settle()?;
        loop {
            let Some(open) = &self.open else { return Ok(()) };
            let (portion, time) = (open.portion, open.time);
            let recording = self.recording(time);
            self.record_tables(portion, &recording)?;
            self.record_sources(portion, &recording)?;
            let shares = self.runtime.finish_portion(recording)?;
            self.asides_done();
            if !self.spill_portion(shares)? {
                return Ok(());
            }
        }
    }

    /// Writes a portion ahead, with all writes there are, and begins the next. Whether the dataflow owes more.
    pub(super) fn spill_portion(&mut self, shares: SealedShares) -> Result<bool> {
        let Some(open) = &self.open else { return Ok(false) };
        let portion = open.portion;
        if portion.number + 1 == Portion::COUNT {
            return Err(query::too_large(self.limits.epoch_bytes.saturating_mul(Portion::COUNT as usize)));
        }
        self.changes.write(&mut self.writes);
        let parts = shares.writes.into_iter().chain([std::mem::take(&mut self.writes)]).collect();
        let sealed = Sealed::new(portion.epoch, parts);
        self.store.spill(&sealed)?;
        let bytes = sealed.bytes() as u64;
        tracing::info!(
            epoch = portion.epoch.0,
            portion = portion.number,
            bytes,
            "an epoch outgrows memory: a portion is spilled"
        );
        let base = self.store.spilled_reader();
        self.runtime.begin(portion.next(), &base);
        if let Some(open) = &mut self.open {
            (open.portion, open.base) = (portion.next(), base);
            open.spilled_bytes += bytes;
        }
        Ok(shares.more)
    }

    /// Takes a statement in that comes in pieces, in an epoch of its own.
    pub(super) fn take_pieces(&mut self, pieces: Pieces, reply: oneshot::Sender<Result<Written>>) -> Result<()> {
        if let Err(error) = self.end_epochs() {
            self.lose_epoch(error);
        }
        if let Some(Standstill { error, .. }) = &self.failed {
            drop(reply.send(Err(error.clone())));
            return Ok(());
        }
        self.open()?;
        let mut question = Question::new(reply);
        let outcome = match pieces.granted.send(()) {
            Ok(()) => self.take_each(pieces.pieces),
            Err(()) => Err(left()),
        };
        match outcome {
            Ok(written) => {
                question.answer = Ok(written);
                if let Some(open) = &mut self.open {
                    open.work.push(Work::Pieces(question));
                }
                self.close()
            }
            Err(error) => {
                drop(question.reply.send(Err(error)));
                self.return_to_commit();
                Ok(())
            }
        }
    }

    fn take_each(&mut self, mut pieces: mpsc::Receiver<Piece>) -> Result<Written> {
        let (mut written, mut sweep) = (Written::default(), Sweep::default());
        loop {
            match pieces.blocking_recv().ok_or_else(left)? {
                Piece::Write(write) => {
                    let resolved = self.resolve(&write, Some(&mut sweep))?;
                    written.rows += resolved.written.rows;
                    self.apply(resolved)?;
                }
                Piece::Failed(error) => return Err(error),
                Piece::End => return Ok(written),
            }
        }
    }
}

fn left() -> Error {
    Error::cancelled("the client has left")
}

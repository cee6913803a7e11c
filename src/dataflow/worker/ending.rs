//! The end of an epoch, or of a portion of it: what is owed is put out, what the watermarks close is let go of, all is sealed.
//!
//! How many passes that takes depends on what joins owe. So after each the workers tell each other whether any of them owes
//! something, and whether the portion has used up its memory; all of them come to the same decision. In the usual case, nothing is
//! owed, that is one exchange in an epoch.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::dataflow::graph::Index;
use crate::dataflow::operator::Context;
use crate::dataflow::operator::Room;
use crate::dataflow::worker::Close;
use crate::dataflow::worker::Debts;
use crate::dataflow::worker::Finished;
use crate::dataflow::worker::Parcel;
use crate::dataflow::worker::Phase;
use crate::dataflow::worker::Scope;
use crate::dataflow::worker::Worker;
use crate::error::Result;
use crate::plan::ir::Op;

/// So much room is made in operator state that is full.
const ROOM_BYTES: usize = 2 << 20;

/// Where workers tell each other what they owe.
const DEBTS: (Index, usize) = (Index::MAX, 0);

impl Worker {
    /// The last passes: through all that the epoch reached, and through what the views' watermarks close.
    pub(super) fn finish(&mut self, scope: &Scope, close: Close) -> Result<Finished> {
        let vertices = self.vertices(scope);
        let more = self.put_out(&vertices)?;
        if !more {
            self.close(&vertices, close)?;
        }
        let kept = self.store(!more)?;
        let mut writes = std::mem::take(&mut self.writes);
        for index in std::mem::replace(&mut self.reached, kept) {
            let begun = self.share.meters.begin();
            self.operator(index).seal(&mut writes)?;
            self.meter(index).busy(self.share.meters.since(begun));
            self.measure(index);
        }
        self.epoch = None;
        self.recording = Arc::default();
        let state_bytes = self.shrink();
        Ok(Finished { writes, state_bytes, more })
    }

    /// Has operators put out what they held back and what they owe, until there is no more, or no more memory. Whether there is more.
    fn put_out(&mut self, vertices: &[Index]) -> Result<bool> {
        let growth = self.share.growth.clone();
        loop {
            // What is owed has passes of its own.
            self.turn = Index::MAX;
            self.pass(vertices, Vec::new(), Phase::Flush, &growth)?;
            if self.debts(vertices)?.last.is_none() {
                return Ok(false);
            }
            if self.pay(vertices, &growth)?.full {
                self.turn = Index::MAX;
                self.pass(vertices, Vec::new(), Phase::Flush, &growth)?;
                return Ok(self.debts(vertices)?.last.is_some());
            }
        }
    }

    /// Has joins among these vertices put out what they owe, until there is no more, or no more memory.
    pub(super) fn pay(&mut self, vertices: &[Index], growth: &AtomicUsize) -> Result<Debts> {
        let mut debts = self.debts(vertices)?;
        while let Some(last) = debts.last {
            // What is behind goes first, so that it does not pile up.
            self.turn = last;
            let behind = self.downstream(BTreeSet::from([last]), vertices);
            self.pass(&behind, Vec::new(), Phase::Step, growth)?;
            debts = self.debts(vertices)?;
            if debts.full {
                break;
            }
        }
        Ok(debts)
    }

    /// Those of these vertices that some of them can reach. Others, of views that stand behind, read what a view has put out later.
    fn downstream(&self, from: BTreeSet<Index>, vertices: &[Index]) -> Vec<Index> {
        let mut reached = self.graph.downstream(from);
        reached.retain(|index| vertices.binary_search(index).is_ok());
        reached
    }

    /// What joins among these vertices owe on any worker.
    fn debts(&mut self, vertices: &[Index]) -> Result<Debts> {
        let joins = |index: &Index| matches!(self.graph.vertex(*index).node.op, Op::Join | Op::Anti);
        if !vertices.iter().any(joins) {
            return Ok(Debts::default());
        }
        let grown = self.share.growth.load(Ordering::Relaxed) + self.share.fill_growth.load(Ordering::Relaxed);
        let last = self.owing.iter().rev().find(|index| vertices.binary_search(index).is_ok()).copied();
        let debts = Debts { last, full: grown > self.share.portion_bytes };
        if self.peers.len() == 1 {
            return Ok(debts);
        }
        self.pass += 1;
        for peer in &self.peers {
            let _ = peer.send(Parcel { pass: self.pass, to: DEBTS, deltas: Ok(Vec::new()), debts });
        }
        self.receive_all(DEBTS).map(|early| early.debts)
    }

    /// The last pass of an epoch in which something may close: nothing is owed any more.
    fn close(&mut self, vertices: &[Index], close: Close) -> Result<()> {
        if close.watermarks.is_empty() {
            return Ok(());
        }
        let moved = close.moved.iter().flat_map(|view| self.graph.closing(*view)).collect::<BTreeSet<_>>();
        let closes = |index: &&Index| self.graph.vertex(**index).node.closes_after_us.is_some();
        let reached = self.downstream(vertices.iter().filter(closes).copied().collect(), vertices);
        let closing = reached.into_iter().chain(self.graph.downstream(moved.clone())).collect::<BTreeSet<_>>();
        if closing.is_empty() {
            return Ok(());
        }
        self.reached.extend(moved);
        self.close = Some(close);
        let growth = self.share.growth.clone();
        self.pass(&closing.into_iter().collect::<Vec<_>>(), Vec::new(), Phase::Close, &growth)?;
        self.close = None;
        Ok(())
    }

    /// Has operators write what the portion brought. Those that keep something back for the next.
    fn store(&mut self, whole: bool) -> Result<BTreeSet<Index>> {
        let (portion, state) = self.epoch.as_ref().expect("passes run inside an epoch");
        let mut kept = BTreeSet::new();
        for &index in &self.reached {
            let operator = self.operators.get_mut(&index).expect("every vertex has its operator");
            let begun = self.share.meters.begin();
            let mut cx = Context {
                portion: *portion,
                state,
                recording: &self.recording,
                writes: &mut self.writes,
                out: &mut Vec::new(),
                room: Room::ENDLESS,
                watermark: None,
                shards: self.shards.clone(),
                errors: &mut Vec::new(),
            };
            if operator.store(whole, &mut cx)? {
                kept.insert(index);
            }
            self.meters[&index].busy(self.share.meters.since(begun));
        }
        Ok(kept)
    }

    /// Holds operator state under its budget: each operator gives up in proportion to what it takes. Little at once, since the next
    /// epoch waits: what this one has brought, and some room.
    fn shrink(&mut self) -> usize {
        let budget = self.share.memory_bytes;
        if self.memory_bytes > budget {
            let (total, target) = (self.memory_bytes, budget - ROOM_BYTES.min(budget / 64));
            let indices = self.memory.keys().copied().collect::<Vec<_>>();
            for index in indices {
                let share = (self.memory[&index] as u128 * target as u128 / total as u128) as usize;
                self.operator(index).shrink(share);
                self.measure(index);
            }
        }
        self.memory_bytes
    }
}

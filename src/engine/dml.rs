//! Writes of sessions on their way into the running epoch: resolved, checked, fed.

use crate::dataflow::runtime::STEP_ROWS;
use crate::delta::Delta;
use crate::engine::coordinator::Coordinator;
use crate::engine::coordinator::Work;
use crate::engine::rows;
use crate::engine::table::Changes;
use crate::engine::write::Resolved;
use crate::engine::write::Resolver;
use crate::engine::write::Sweep;
use crate::engine::write::TableWrite;
use crate::engine::write::table_gone;
use crate::error::Error;
use crate::error::Result;
use crate::ids::ObjectId;

impl Coordinator {
    /// Takes a write into the running epoch, which answers it when it is committed. An error is one of the epoch, not of
    /// the write.
    pub(super) fn admit(&mut self, mut work: Work) -> Result<()> {
        let done = self.perform(&mut work);
        self.open()?.work.push(work);
        done
    }

    fn perform(&mut self, work: &mut Work) -> Result<()> {
        self.feed_pending()?;
        match work {
            Work::Write(TableWrite::Truncate { tables }, question) => {
                let tables = tables.clone();
                question.answer = match tables.iter().all(|table| self.shapes.contains_key(table)) {
                    true => tables
                        .into_iter()
                        .try_for_each(|table| self.truncate(table))
                        .map(|()| Ok(Default::default()))?,
                    false => Err(table_gone()),
                };
            }
            Work::Write(write, question) => {
                question.answer = match self.resolve(write, None) {
                    Ok(resolved) => {
                        let answer = (resolved.written.clone(), resolved.stale);
                        self.apply(resolved)?;
                        Ok(answer)
                    }
                    Err(error) => Err(error),
                };
            }
            Work::Advance(advance, question) => question.answer = self.advance(advance)?,
            Work::Pieces(_) => return Err(Error::internal("a statement in pieces cannot be taken in again")),
            Work::Commit(changes, question) => {
                question.answer = match self.validate(changes) {
                    Ok(()) => self.apply_transaction(changes).map(Ok)?,
                    Err(error) => Err(error),
                };
            }
        }
        Ok(())
    }

    /// Takes all rows of a table out, so many at a time.
    fn truncate(&mut self, table: ObjectId) -> Result<()> {
        let mut from = Some(Vec::new());
        while let Some(key) = from {
            let (resolved, next) = self.with_resolver(None, |resolver| resolver.truncate_from(table, &key))?;
            self.apply(resolved)?;
            from = next;
        }
        Ok(())
    }

    /// What a write comes to; the sweep is that of a statement in pieces.
    pub(super) fn resolve(&mut self, write: &TableWrite, sweep: Option<&mut Sweep>) -> Result<Resolved> {
        self.with_resolver(sweep, |resolver| resolver.resolve(write))
    }

    fn with_resolver<T>(
        &mut self,
        sweep: Option<&mut Sweep>,
        resolve: impl FnOnce(&mut Resolver<'_>) -> Result<T>,
    ) -> Result<T> {
        self.open()?;
        let base = &self.open.as_ref().expect("just opened").base;
        let inputs = &self.inputs;
        let watermarks = |id: ObjectId| inputs.watermark(id);
        let mut resolver = Resolver {
            shapes: &self.shapes,
            changes: &mut self.changes,
            base,
            row_ids: &self.row_ids,
            watermarks: &watermarks,
            sweep,
        };
        resolve(&mut resolver)
    }

    /// Feeds what a write came to, in steps.
    pub(super) fn apply(&mut self, resolved: Resolved) -> Result<()> {
        self.open()?.sync = true;
        for (table, delta) in resolved.deltas {
            let delta = self.stamped(table, delta)?;
            self.observe(table, &delta)?;
            for from in (0..delta.len()).step_by(STEP_ROWS) {
                let length = STEP_ROWS.min(delta.len() - from);
                self.feed(vec![(table, delta.slice(from, length))])?;
                self.spill_if_large()?;
            }
        }
        Ok(())
    }

    /// The changes of a table, each with the watermark of the epoch before.
    pub(super) fn stamped(&self, table: ObjectId, delta: Delta) -> Result<Delta> {
        match self.shapes.get(&table) {
            Some(shape) => Ok(delta.with_batch(shape.stamped(delta.batch(), self.inputs.watermark(table))?)),
            None => Ok(delta),
        }
    }

    /// Moves the watermark of a table by the rows written to it.
    pub(super) fn observe(&mut self, table: ObjectId, delta: &Delta) -> Result<()> {
        let (Some(expression), Some(shape)) = (self.watermarks.get(&table), self.shapes.get(&table)) else {
            return Ok(());
        };
        let highest = rows::highest(expression, &shape.declared_of(delta.batch())?)?;
        self.inputs.wrote(table, highest);
        Ok(())
    }

    /// 40001 unless every row that a transaction wrote is still as the transaction saw it.
    pub(super) fn validate(&mut self, changes: &Changes) -> Result<()> {
        self.open()?;
        let base = &self.open.as_ref().expect("just opened").base;
        for table in changes.tables() {
            if !self.shapes.contains_key(&table) {
                return Err(Error::serialization("a table of the transaction was dropped"));
            }
            let keys = changes.of(table).map(|(key, _)| &key[..]).collect::<Vec<_>>();
            let now = self.changes.get_many(base, table, &keys)?;
            if changes.of(table).zip(now).any(|((_, change), now)| change.before != now) {
                return Err(Error::serialization("could not serialize access due to concurrent update")
                    .hint("The transaction might succeed if retried."));
            }
        }
        Ok(())
    }

    pub(super) fn apply_transaction(&mut self, changes: &Changes) -> Result<()> {
        let mut resolved = Resolved::default();
        for table in changes.tables() {
            let codec = &self.shapes[&table].codec;
            let entries = |pick: fn(&crate::engine::table::Change) -> Option<&Vec<u8>>| {
                let chosen = changes.of(table).filter_map(|(key, c)| pick(c).map(|value| (&key[..], &value[..])));
                codec.decode(&chosen.collect::<Vec<_>>())
            };
            let old = Delta::inserts(entries(|c| c.before.as_ref())?).negate();
            let new = Delta::inserts(entries(|c| c.after.as_ref())?);
            resolved.deltas.push((table, Delta::concat(&codec.schema, &[old, new])?));
        }
        for table in changes.tables().collect::<Vec<_>>() {
            let shape = &self.shapes[&table];
            let watermark = self.inputs.watermark(table);
            for (key, change) in changes.of(table) {
                let after = change.after.as_ref().map(|value| shape.restamped(key, value, watermark)).transpose()?;
                self.changes.set(table, key, change.before.clone(), after);
            }
        }
        self.apply(resolved)
    }
}

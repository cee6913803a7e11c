//! What sessions count: themselves, their statements by kind, their errors by SQLSTATE.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::Error;
use crate::sql::bound::Bound;
use crate::sql::bound::Dml;
use crate::telemetry::Counter;
use crate::telemetry::Page;

macro_rules! kinds {
    ($($name:ident = $text:literal,)*) => {
        /// The kinds of statements that are told apart.
        #[derive(Clone, Copy)]
        enum Kind { $($name,)* }

        /// What they are called, in the same order.
        const KINDS: &[&str] = &[$($text,)*];
    };
}

kinds! {
    Select = "select",
    Subscribe = "subscribe",
    Insert = "insert",
    Update = "update",
    Delete = "delete",
    Truncate = "truncate",
    Ddl = "ddl",
    Advance = "advance",
    Transaction = "transaction",
    Setting = "setting",
    Flush = "flush",
    Explain = "explain",
    Prepare = "prepare",
    Cursor = "cursor",
    Copy = "copy",
    Other = "other",
}

/// What all sessions of a server count.
#[derive(Debug, Default)]
pub struct Metrics {
    begun: Counter,
    ended: Counter,
    /// Statements by kind.
    statements: [Counter; KINDS.len()],
    /// Errors by SQLSTATE.
    errors: Mutex<BTreeMap<&'static str, u64>>,
}

/// A session, counted for as long as it lives.
pub(super) struct Counted(pub(super) Arc<Metrics>);

impl Counted {
    pub(super) fn new(metrics: Arc<Metrics>) -> Counted {
        metrics.begun.add(1);
        Counted(metrics)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.ended.add(1);
    }
}

impl Metrics {
    /// A statement is executed.
    pub(super) fn statement(&self, bound: &Bound) {
        if let Some(kind) = kind(bound) {
            self.statements[kind as usize].add(1);
        }
    }

    /// A client is told an error.
    pub fn error(&self, error: &Error) {
        *self.errors.lock().entry(error.kind.sqlstate()).or_default() += 1;
    }

    /// Writes what was counted.
    pub fn tell(&self, page: &mut Page) {
        let (ended, begun) = (self.ended.get(), self.begun.get());
        page.gauge("millstream_sessions", "Clients that are connected.", begun.saturating_sub(ended));
        page.counter("millstream_sessions_total", "Clients that have connected.", begun);
        let mut statements = page.counters("millstream_statements_total", "Statements executed, by kind.");
        for (kind, count) in KINDS.iter().zip(&self.statements) {
            statements.sample(&[("kind", kind)], count.get());
        }
        let mut errors = page.counters("millstream_errors_total", "Errors told to clients, by SQLSTATE.");
        for (sqlstate, count) in &*self.errors.lock() {
            errors.sample(&[("sqlstate", sqlstate)], count);
        }
    }
}

/// The kind of a statement; none for EXECUTE, which is what it executes.
fn kind(bound: &Bound) -> Option<Kind> {
    Some(match bound {
        Bound::Query(_) => Kind::Select,
        Bound::Subscribe(_) => Kind::Subscribe,
        Bound::Dml(dml) => match dml {
            Dml::Insert { .. } => Kind::Insert,
            Dml::Update { .. } => Kind::Update,
            Dml::Delete { .. } => Kind::Delete,
            Dml::Truncate { .. } => Kind::Truncate,
        },
        Bound::Ddl(_) => Kind::Ddl,
        Bound::Advance(_) => Kind::Advance,
        Bound::Transaction(_) => Kind::Transaction,
        Bound::Setting(_) => Kind::Setting,
        Bound::Flush => Kind::Flush,
        Bound::Explain { .. } | Bound::ExplainView { .. } => Kind::Explain,
        Bound::Prepare { .. } => Kind::Prepare,
        Bound::Execute { .. } => return None,
        Bound::Declare { .. } | Bound::Fetch(_) | Bound::Close(_) => Kind::Cursor,
        Bound::CopyTo { .. } | Bound::CopyFrom(_) => Kind::Copy,
        Bound::Deallocate(_) | Bound::DiscardAll | Bound::Empty | Bound::Nothing { .. } => Kind::Other,
    })
}

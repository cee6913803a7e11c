//! Transactions as a client sees them: none, an implicit one, or a block between BEGIN and COMMIT, which may have failed.
//!
//! ```text
//!            statement beside others            BEGIN
//!   None ───────────────────────────► Implicit ───────► Block ◄──────── ROLLBACK TO
//!    ▲  ▲        end of query, Sync │                   │  │ error         │
//!    │  └───────────────────────────┘                   │  └─────► Block, failed
//!    └────────────────────────────── COMMIT, ROLLBACK ──┴──────────────┘
//! ```
//!
//! A statement alone in its query needs no transaction of the engine: it is one by itself. The statements of one query
//! text, or of one pipeline up to Sync, share an implicit one, as in Postgres.

use crate::engine::Savepoint;
use crate::engine::Transaction;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::session::Session;
use crate::session::outcome::Notice;
use crate::session::outcome::Outcome;
use crate::session::settings::Mark;
use crate::sql::bound::TransactionStatement;

/// What ReadyForQuery says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// No block is open.
    Idle,
    /// A block is open.
    Block,
    /// A block is open and has failed.
    Failed,
}

/// The session's transaction.
pub(super) enum State {
    None,
    Implicit(Open),
    Block(Open),
}

/// An open transaction.
pub(super) struct Open {
    /// The engine's side.
    pub(super) transaction: Transaction,
    /// Places to go back to, oldest first.
    savepoints: Vec<Named>,
    /// Whether an error has made everything but its end pointless.
    failed: bool,
    /// The settings at its beginning.
    settings: Mark,
}

/// A savepoint of the client.
struct Named {
    name: String,
    savepoint: Savepoint,
    settings: Mark,
}

impl State {
    /// The open transaction, if there is one.
    pub(super) fn open(&mut self) -> Option<&mut Open> {
        match self {
            State::None => None,
            State::Implicit(open) | State::Block(open) => Some(open),
        }
    }
}

impl Session {
    /// What ReadyForQuery says.
    pub fn status(&self) -> Status {
        match &self.state {
            State::Block(open) if open.failed => Status::Failed,
            State::Block(_) => Status::Block,
            State::None | State::Implicit(_) => Status::Idle,
        }
    }

    /// A statement has failed: a block is now failed, an implicit transaction is undone.
    pub fn failed(&mut self, error: &Error) {
        self.counted.0.error(error);
        match std::mem::replace(&mut self.state, State::None) {
            State::None => {}
            State::Implicit(open) => self.undo(open),
            State::Block(mut open) => {
                open.failed = true;
                self.state = State::Block(open);
            }
        }
    }

    /// The query text, or the pipeline up to Sync, is over: what was implicit is committed.
    pub async fn finish(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.state, State::None) {
            State::Implicit(open) => self.commit_open(open).await,
            other => {
                self.state = other;
                Ok(())
            }
        }
    }

    /// The statement shares a transaction with others.
    pub(super) fn begin_implicit(&mut self) {
        if matches!(self.state, State::None) {
            self.state = State::Implicit(self.open(false));
        }
    }

    fn open(&mut self, read_only: bool) -> Open {
        let settings = self.settings.mark();
        self.make_read_only(read_only);
        Open { transaction: self.engine.begin(), savepoints: Vec::new(), failed: false, settings }
    }

    fn make_read_only(&mut self, read_only: bool) {
        if read_only || self.settings.is_on("default_transaction_read_only") {
            self.settings.set_local("transaction_read_only", "on");
        }
    }

    /// Transaction control.
    pub(super) async fn transaction(&mut self, statement: &TransactionStatement) -> Result<Outcome> {
        let tag = match statement {
            TransactionStatement::Begin { read_only, tag } => self.begin(*read_only, tag),
            TransactionStatement::Commit => self.commit().await?,
            TransactionStatement::Rollback => self.rollback(),
            TransactionStatement::Savepoint(name) => self.savepoint(name)?,
            TransactionStatement::Release(name) => self.release(name)?,
            TransactionStatement::RollbackTo(name) => self.rollback_to(name)?,
        };
        Ok(Outcome::Command(tag.to_string()))
    }

    fn begin(&mut self, read_only: bool, tag: &'static str) -> &'static str {
        self.state = match std::mem::replace(&mut self.state, State::None) {
            State::None => State::Block(self.open(read_only)),
            State::Implicit(open) => {
                self.make_read_only(read_only);
                State::Block(open)
            }
            State::Block(open) => {
                let message = "there is already a transaction in progress";
                self.notify(Notice::warning(Kind::ActiveTransaction, message));
                State::Block(open)
            }
        };
        tag
    }

    async fn commit(&mut self) -> Result<&'static str> {
        match std::mem::replace(&mut self.state, State::None) {
            State::None => self.warn_no_transaction(),
            State::Implicit(open) => {
                self.warn_no_transaction();
                self.commit_open(open).await?;
            }
            State::Block(open) if open.failed => {
                self.undo(open);
                return Ok("ROLLBACK");
            }
            State::Block(open) => self.commit_open(open).await?,
        }
        Ok("COMMIT")
    }

    /// Commits. A cancel request no longer stops it: the answer must tell what is true.
    async fn commit_open(&mut self, open: Open) -> Result<()> {
        match open.transaction.commit().await {
            Ok(()) => {
                self.settings.end_transaction();
                self.hold_cursors();
                Ok(())
            }
            Err(error) => {
                self.settings.restore(open.settings);
                self.drop_cursors(0);
                Err(error)
            }
        }
    }

    fn rollback(&mut self) -> &'static str {
        match std::mem::replace(&mut self.state, State::None) {
            State::None => self.warn_no_transaction(),
            State::Implicit(open) => {
                self.warn_no_transaction();
                self.undo(open);
            }
            State::Block(open) => self.undo(open),
        }
        "ROLLBACK"
    }

    fn undo(&mut self, open: Open) {
        self.drop_cursors(0);
        self.settings.restore(open.settings);
    }

    fn warn_no_transaction(&mut self) {
        self.notify(Notice::warning(Kind::NoTransaction, "there is no transaction in progress"));
    }

    fn block(&mut self, command: &str) -> Result<&mut Open> {
        match &mut self.state {
            State::Block(open) => Ok(open),
            State::None | State::Implicit(_) => {
                Err(Error::no_transaction(format!("{command} can only be used in transaction blocks")))
            }
        }
    }

    fn savepoint(&mut self, name: &str) -> Result<&'static str> {
        let settings = self.settings.mark();
        let open = self.block("SAVEPOINT")?;
        let savepoint = open.transaction.savepoint();
        open.savepoints.push(Named { name: name.to_string(), savepoint, settings });
        Ok("SAVEPOINT")
    }

    fn release(&mut self, name: &str) -> Result<&'static str> {
        let open = self.block("RELEASE SAVEPOINT")?;
        let index = open.find(name)?;
        open.savepoints.truncate(index);
        Ok("RELEASE")
    }

    fn rollback_to(&mut self, name: &str) -> Result<&'static str> {
        let open = self.block("ROLLBACK TO SAVEPOINT")?;
        let index = open.find(name)?;
        open.savepoints.truncate(index + 1);
        open.transaction.rollback_to(&open.savepoints[index].savepoint);
        open.failed = false;
        let settings = open.savepoints[index].settings.clone();
        self.settings.restore(settings);
        self.drop_cursors(index + 1);
        Ok("ROLLBACK")
    }
}

impl Open {
    /// How many savepoints there are.
    pub(super) fn level(&self) -> usize {
        self.savepoints.len()
    }

    /// Where the youngest savepoint of this name is.
    fn find(&self, name: &str) -> Result<usize> {
        self.savepoints
            .iter()
            .rposition(|named| named.name == name)
            .ok_or_else(|| Error::new(Kind::InvalidSavepoint, format!("savepoint \"{name}\" does not exist")))
    }
}

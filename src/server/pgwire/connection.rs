//! A connection's life: messages in, answers out, one statement at a time.
//!
//! Whatever waits (a statement, a slow client, an idle connection) ends by the session's interrupt. An error is answered
//! and the connection goes on; in the extended protocol it first skips to Sync. See [`super::extended`] for that protocol.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use pgwire::messages::PgWireBackendMessage as Message;
use pgwire::messages::response::EmptyQueryResponse;

use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::server::pgwire::extended::Portal;
use crate::server::pgwire::frontend::Frontend;
use crate::server::pgwire::registry::Ticket;
use crate::server::pgwire::reply;
use crate::server::pgwire::reply::Format;
use crate::server::pgwire::reply::Gravity;
use crate::server::pgwire::rows::PROBE;
use crate::server::pgwire::rows::Sender;
use crate::server::pgwire::rows::Sent;
use crate::server::pgwire::wire::Wire;
use crate::session::Cause;
use crate::session::Interrupt;
use crate::session::Outcome;
use crate::session::Session;
use crate::session::Status;
use crate::types::zone::Zone;

/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// A client after its startup.
pub(super) struct Connection {
    pub(super) wire: Wire,
    pub(super) session: Session,
    /// The extended protocol's portals by name.
    pub(super) portals: HashMap<String, Portal>,
    /// An error in the extended protocol: everything up to Sync is skipped.
    skipping: bool,
    wishes: Option<Wishes>,
    /// Its place in the registry.
    _ticket: Ticket,
}

/// Settings as they are used, at some version of them.
#[derive(Clone, Copy)]
struct Wishes {
    version: u64,
    zone: Zone,
    statement_timeout: Option<Duration>,
}

/// Whether the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Message,
    End,
}

impl Connection {
    /// A connection that has been greeted.
    pub(super) fn new(wire: Wire, session: Session, ticket: Ticket) -> Connection {
        Connection { wire, session, portals: HashMap::new(), skipping: false, wishes: None, _ticket: ticket }
    }

    /// Serves the client until one of both ends it.
    pub(super) async fn run(mut self) {
        let (session, user) = (self.session.identity().pid, self.session.identity().user.clone());
        tracing::debug!(session, user, "a client has connected");
        let end = loop {
            match self.step().await {
                Ok(Next::Message) => {}
                Ok(Next::End) => break None,
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = end {
            farewell(&mut self.wire, &error).await;
        }
        self.wire.close().await;
        tracing::debug!(session, "a client is gone");
    }

    /// One message. An error is the end of the connection.
    async fn step(&mut self) -> Result<Next> {
        let message = match self.next_message().await? {
            None => return Ok(Next::End),
            Some(message) => message,
        };
        if self.skipping && !matches!(message, Frontend::Sync | Frontend::Terminate) {
            return Ok(Next::Message);
        }
        let done = match message {
            Frontend::Query(text) => return self.query(&text).await,
            Frontend::Terminate => return Ok(Next::End),
            Frontend::Sync => return self.sync().await,
            Frontend::Flush => return self.flush().await,
            // The rest of a COPY that failed.
            Frontend::CopyData(_) | Frontend::CopyDone | Frontend::CopyFail(_) => Ok(()),
            Frontend::FunctionCall => {
                let error = Error::unsupported("the function call protocol is not supported");
                return self.end_query(Err(error)).await;
            }
            Frontend::Broken { error, is_query: true } => return self.end_query(Err(error)).await,
            Frontend::Broken { error, is_query: false } => Err(error),
            Frontend::Parse { name, query, types } => caught(self.parse(&name, &query, &types)).await,
            Frontend::Bind(bind) => caught(async { self.bind(bind) }).await,
            Frontend::Describe { target, name } => caught(async { self.describe(target, &name) }).await,
            Frontend::Execute { portal, rows_max } => caught(self.execute(&portal, rows_max)).await,
            Frontend::Close { target, name } => self.close(target, &name),
        };
        if let Err(error) = done {
            self.answer(&error)?;
            self.skipping = true;
            // A client that waits after Flush would wait for ever: its Flush is skipped too.
            return self.flush().await;
        }
        Ok(Next::Message)
    }

    /// Waits for the client: for ever, or in an open transaction as long as the setting allows.
    async fn next_message(&mut self) -> Result<Option<Frontend>> {
        // Several come at once: for those that are here nothing is waited for.
        if self.session.interrupt().cause().is_none()
            && let Some(message) = self.wire.take()?
        {
            return Ok(Some(message));
        }
        let idle = match self.session.status() {
            Status::Idle => None,
            Status::Block | Status::Failed => self.session.settings().duration("idle_in_transaction_session_timeout"),
        };
        let interrupt = self.session.interrupt().clone();
        let limit = async {
            match idle {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            error = interrupt.ended() => Err(error),
            message = self.wire.read() => match message {
                Err(error) if error.kind == Kind::Io => Ok(None),
                other => other,
            },
            () = limit => {
                Err(Error::idle_in_transaction("terminating connection due to idle-in-transaction timeout"))
            }
        }
    }

    /// The simple protocol: a text of statements, which share one transaction.
    async fn query(&mut self, text: &str) -> Result<Next> {
        self.portals.remove("");
        let done = caught(self.statements(text)).await;
        self.end_query(done).await
    }

    async fn statements(&mut self, text: &str) -> Result<()> {
        let statements = self.session.parse(text)?;
        if statements.is_empty() {
            return self.wire.put(Message::EmptyQueryResponse(EmptyQueryResponse::new()));
        }
        let alone = statements.len() == 1;
        for statement in &statements {
            let interrupt = self.begin_statement()?;
            let run = self.session.run(statement, alone);
            let outcome = watch(&self.wire, &interrupt, run).await?;
            self.tell()?;
            self.send_outcome(outcome, &interrupt).await?;
        }
        self.session.finish().await
    }

    async fn send_outcome(&mut self, outcome: Outcome, interrupt: &Interrupt) -> Result<()> {
        match outcome {
            Outcome::Empty => self.wire.put(Message::EmptyQueryResponse(EmptyQueryResponse::new())),
            Outcome::Command(tag) => self.wire.put(reply::complete(tag)),
            Outcome::CopyOut { columns, rows, options } => {
                Box::pin(self.copy_out(columns, rows, options, interrupt)).await
            }
            Outcome::CopyIn(copy) => Box::pin(self.copy_in(*copy, interrupt)).await,
            Outcome::Rows { columns, rows, tag, binary } => {
                let format = if binary { Format::Binary } else { Format::Text };
                let formats = vec![format; columns.len()];
                reply::row_description(&columns, &formats, &mut self.wire.output);
                let mut sender = Sender::new(columns, formats, self.zone()?, rows);
                match sender.send(&mut self.wire, interrupt, 0).await? {
                    Sent::All(rows) => self.wire.put(reply::complete(tag.after(rows))),
                    Sent::Limit => Err(Error::internal("rows ended at a limit that nobody set")),
                }
            }
        }
    }

    /// The end of a query of the simple protocol.
    async fn end_query(&mut self, done: Result<()>) -> Result<Next> {
        self.session.interrupt().end();
        if let Err(error) = done {
            self.answer(&error)?;
        }
        self.ready().await
    }

    /// Sync: the end of a pipeline of the extended protocol.
    async fn sync(&mut self) -> Result<Next> {
        if !std::mem::take(&mut self.skipping)
            && let Err(error) = self.session.finish().await
        {
            self.answer(&error)?;
        }
        self.session.interrupt().end();
        self.ready().await
    }

    async fn ready(&mut self) -> Result<Next> {
        let status = self.session.status();
        if status == Status::Idle {
            self.portals.clear();
        }
        self.tell()?;
        self.wire.put(reply::ready(status))?;
        self.flush().await
    }

    /// Sends what is there, for as long as it takes: a cancel request is for statements.
    async fn flush(&mut self) -> Result<Next> {
        if self.wire.flush_now()? {
            return Ok(Next::Message);
        }
        let interrupt = self.session.interrupt().clone();
        tokio::select! {
            biased;
            error = interrupt.ended() => Err(error),
            done = self.wire.flush() => done.map(|()| Next::Message),
        }
    }

    /// Answers an error; one that ends the connection is handed on.
    fn answer(&mut self, error: &Error) -> Result<()> {
        self.session.failed(error);
        // Not its text, which may quote the statement.
        let (session, sqlstate) = (self.session.identity().pid, error.kind.sqlstate());
        tracing::debug!(session, sqlstate, "a client is told an error");
        if reply::gravity(error) == Gravity::Fatal || self.session.interrupt().cause() == Some(Cause::ClientGone) {
            return Err(error.clone());
        }
        self.tell()?;
        self.wire.put(reply::error(error, Gravity::Error))
    }

    /// Notices, and settings that changed.
    pub(super) fn tell(&mut self) -> Result<()> {
        for notice in self.session.take_notices() {
            self.wire.put(reply::notice(&notice))?;
        }
        for (name, value) in self.session.take_reports() {
            self.wire.put(reply::parameter_status(name, &value))?;
        }
        Ok(())
    }

    /// Starts the time limit of a statement.
    pub(super) fn begin_statement(&mut self) -> Result<Arc<Interrupt>> {
        let interrupt = self.session.interrupt().clone();
        interrupt.begin(self.wishes()?.statement_timeout);
        Ok(interrupt)
    }

    /// The time zone of timestamps in text.
    pub(super) fn zone(&mut self) -> Result<Zone> {
        self.wishes().map(|wishes| wishes.zone)
    }

    /// What is asked of the session's settings with each statement.
    fn wishes(&mut self) -> Result<Wishes> {
        let version = self.session.settings().version();
        if let Some(wishes) = self.wishes.filter(|wishes| wishes.version == version) {
            return Ok(wishes);
        }
        let settings = self.session.settings();
        let (zone, statement_timeout) =
            (Zone::parse(settings.get("TimeZone"))?, settings.duration("statement_timeout"));
        Ok(*self.wishes.insert(Wishes { version, zone, statement_timeout }))
    }
}

/// A defect that a statement meets ends that statement, not its connection. What it was in the middle of is dropped, as for any error.
async fn caught<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
        Err(Error::internal("the statement met a defect of the server")
            .hint("The server's log says where it is; please report it."))
    })
}

/// Waits for a statement, and asks meanwhile whether its client is still there.
pub(super) async fn watch<T>(wire: &Wire, interrupt: &Interrupt, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            // First: most work is done at once, and needs no timer.
            biased;
            result = &mut work => return result,
            () = tokio::time::sleep(PROBE) => {
                if wire.is_gone() {
                    interrupt.raise(Cause::ClientGone);
                }
            }
        }
    }
}

/// Tells the client why the connection ends, if it still listens.
pub(super) async fn farewell(wire: &mut Wire, error: &Error) {
    if wire.put(reply::error(error, Gravity::Fatal)).is_ok() {
        // The connection ends either way.
        let _ = tokio::time::timeout(FAREWELL, wire.flush()).await;
    }
}

//! What ends a running statement from outside: a cancel request, its time limit, the server's end, a client that is gone.

use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::Error;
use crate::error::Result;

/// Why a statement is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The client asked, over another connection.
    Cancel,
    /// The client is no longer there.
    ClientGone,
    /// The server goes down.
    Shutdown,
}

/// The switch of one session. The server raises it, the session's waits end by it.
#[derive(Debug, Default)]
pub struct Interrupt {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What was raised; `ClientGone` and `Shutdown` stay for ever.
    cause: Option<Cause>,
    /// Whether a statement is running: a cancel request for an idle session is for nobody.
    running: bool,
    /// When the running statement has taken too long.
    deadline: Option<Instant>,
}

impl Interrupt {
    /// A statement begins, with its time limit.
    pub fn begin(&self, limit: Option<Duration>) {
        let mut state = self.state.lock();
        state.running = true;
        state.deadline = limit.map(|limit| Instant::now() + limit);
    }

    /// The statement is over; a cancel request that came too late is forgotten.
    pub fn end(&self) {
        let mut state = self.state.lock();
        state.running = false;
        state.deadline = None;
        if state.cause == Some(Cause::Cancel) {
            state.cause = None;
        }
    }

    /// Ends what is running, or for the lasting causes also what begins later.
    pub fn raise(&self, cause: Cause) {
        let mut state = self.state.lock();
        match cause {
            Cause::Cancel if !state.running || state.cause.is_some() => return,
            Cause::Cancel | Cause::ClientGone | Cause::Shutdown => state.cause = Some(cause),
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// What was raised.
    pub fn cause(&self) -> Option<Cause> {
        self.state.lock().cause
    }

    /// Why the statement is to end now, if it is.
    pub fn error(&self) -> Option<Error> {
        let state = self.state.lock();
        match (state.cause, state.deadline) {
            (Some(cause), _) => Some(cause.error()),
            (None, Some(deadline)) if deadline <= Instant::now() => {
                Some(Error::cancelled("canceling statement due to statement timeout"))
            }
            (None, _) => None,
        }
    }

    /// Waits until the statement is to end; the error says why.
    pub async fn raised(&self) -> Error {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(error) = self.error() {
                return error;
            }
            let deadline = self.state.lock().deadline;
            match deadline {
                None => changed.await,
                Some(deadline) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(deadline) => {}
                },
            }
        }
    }

    /// Waits until the session itself is to end, whatever its statements do.
    pub async fn ended(&self) -> Error {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.cause() {
                Some(cause @ (Cause::ClientGone | Cause::Shutdown)) => return cause.error(),
                Some(Cause::Cancel) | None => changed.await,
            }
        }
    }

    /// The work's result, or the error that ended its statement.
    pub async fn guard<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::pin!(work);
        if let Some(error) = self.error() {
            return Err(error);
        }
        // Most work is done at once, and there is nothing to wait for.
        if let Poll::Ready(result) = futures::poll!(&mut work) {
            return result;
        }
        tokio::select! {
            biased;
            error = self.raised() => Err(error),
            result = &mut work => result,
        }
    }
}

impl Cause {
    /// What the client is told.
    pub fn error(self) -> Error {
        match self {
            Cause::Cancel => Error::cancelled("canceling statement due to user request"),
            Cause::ClientGone => Error::cancelled("connection to client lost"),
            Cause::Shutdown => Error::shutdown("terminating connection due to administrator command"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn forever() -> Result<()> {
        std::future::pending().await
    }

    #[tokio::test]
    async fn a_cancel_ends_only_what_is_running() {
        let interrupt = Interrupt::default();
        interrupt.raise(Cause::Cancel);
        interrupt.begin(None);
        assert_eq!(interrupt.guard(async { Ok(1) }).await, Ok(1));
        interrupt.raise(Cause::Cancel);
        assert_eq!(interrupt.guard(forever()).await.unwrap_err().kind.sqlstate(), "57014");
        interrupt.end();
        interrupt.begin(None);
        assert_eq!(interrupt.cause(), None);
    }

    #[tokio::test]
    async fn a_cancel_does_not_end_the_session() {
        let interrupt = Interrupt::default();
        interrupt.begin(Some(Duration::ZERO));
        interrupt.raise(Cause::Cancel);
        let waited = tokio::time::timeout(Duration::from_millis(5), interrupt.ended()).await;
        assert!(waited.is_err());
        interrupt.raise(Cause::Shutdown);
        assert_eq!(interrupt.ended().await.kind.sqlstate(), "57P01");
    }

    #[tokio::test]
    async fn a_shutdown_stays() {
        let interrupt = Interrupt::default();
        interrupt.raise(Cause::Shutdown);
        interrupt.begin(None);
        assert_eq!(interrupt.guard(forever()).await.unwrap_err().kind.sqlstate(), "57P01");
        interrupt.end();
        assert_eq!(interrupt.cause(), Some(Cause::Shutdown));
    }

    #[tokio::test]
    async fn time_runs_out() {
        let interrupt = Interrupt::default();
        interrupt.begin(Some(Duration::from_millis(5)));
        let error = interrupt.guard(forever()).await.unwrap_err();
        assert_eq!(error.message, "canceling statement due to statement timeout");
    }
}

//! Stack for what recurses: the parser and the planner walk trees as deep as a statement is nested.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// The stack of a thread for deep statements, in bytes (of address space; what is not used costs nothing).
const STACK_BYTES: usize = 512 << 20;

thread_local! {
    /// Whether this thread has such a stack.
    static LARGE: Cell<bool> = const { Cell::new(false) };
}

/// Runs work on a thread with a large stack, and waits for it.
pub fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    if LARGE.get() {
        return work();
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("sql".into()).stack_size(STACK_BYTES);
        let work = || {
            LARGE.set(true);
            work()
        };
        let thread = thread.spawn_scoped(scope, work).map_err(Error::from)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Work of statements that goes on although nobody waits for it any more: it cannot be stopped, so it is counted.
#[derive(Debug, Default)]
pub struct GivenUp(AtomicUsize);

/// That of the planning of all sessions.
pub static GIVEN_UP: GivenUp = GivenUp(AtomicUsize::new(0));

/// While so many are under way, no other that may take long is begun.
const GIVEN_UP_MAX: usize = 8;

/// A piece of work, of which either end may go first.
struct Piece {
    /// Where it counts.
    count: &'static GivenUp,
    /// Whether one of the ends is gone.
    is_left: AtomicBool,
}

/// The end of who waits: to be dropped when the wait is over.
pub struct Waiting(Arc<Piece>);

/// The end of who works: to be dropped before the result is told.
pub struct Working(Arc<Piece>);

impl GivenUp {
    /// The two ends of a piece of work that begins.
    pub fn watch(&'static self) -> (Waiting, Working) {
        let piece = Arc::new(Piece { count: self, is_left: AtomicBool::new(false) });
        (Waiting(piece.clone()), Working(piece))
    }

    /// How many are under way.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Refuses another one that may take long.
    fn check(&self) -> Result<()> {
        let count = self.count();
        if count < GIVEN_UP_MAX {
            return Ok(());
        }
        let message = format!("{count} statements that were cancelled or timed out are still being planned");
        Err(Error::too_busy(message)
            .hint("Until they are through, statements as long or as deeply nested as this one are not begun. Try again later."))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.0.is_left.swap(true, Ordering::Relaxed) {
            self.0.count.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if self.0.is_left.swap(true, Ordering::Relaxed) {
            self.0.count.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Runs work on a thread with a large stack, for one who need not wait to the end: who drops the wait lets it run on alone, for
/// nobody. Refused while too many do.
pub async fn apart<T: Send + 'static>(
    given_up: &'static GivenUp,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    given_up.check()?;
    let (tell, told) = oneshot::channel();
    let (_waiting, working) = given_up.watch();
    let thread = std::thread::Builder::new().name("sql".into()).stack_size(STACK_BYTES);
    thread.spawn(move || {
        LARGE.set(true);
        let result = work();
        drop(working);
        let _ = tell.send(result);
    })?;
    told.await.unwrap_or_else(|_| Err(Error::internal("binding a statement met a defect; see the log")))
}

/// Whether a text is nested so deep, or is so long, that binding it wants a large stack, and time. Counts parentheses and CASE, in strings too: it may be
/// said of a text that is not.
pub fn is_deep(text: &str) -> bool {
    const DEPTH: usize = 6;
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    let cases = || text.as_bytes().windows(4).filter(|word| word.eq_ignore_ascii_case(b"case")).count();
    deepest > DEPTH || text.len() > 2_000 || cases() > DEPTH
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::task::Poll;

    #[tokio::test]
    async fn what_is_given_up_is_bounded() {
        static MINE: GivenUp = GivenUp(AtomicUsize::new(0));
        let mut ends = Vec::new();
        for count in 0..GIVEN_UP_MAX {
            assert_eq!(MINE.count(), count);
            let (end, ended) = mpsc::channel::<()>();
            let mut work = Box::pin(apart(&MINE, move || Ok(ended.recv().is_ok())));
            assert!(matches!(futures::poll!(work.as_mut()), Poll::Pending));
            drop(work);
            ends.push(end);
        }
        let refused = apart(&MINE, || Ok(())).await.unwrap_err();
        assert_eq!(refused.kind.sqlstate(), "53400");
        assert!(refused.message.starts_with("8 statements that were cancelled") && refused.hint.is_some());
        // As soon as one is through there is room again; what is waited for to the end does not count.
        ends.pop().unwrap().send(()).unwrap();
        while MINE.count() == GIVEN_UP_MAX {
            tokio::task::yield_now().await;
        }
        for _ in 0..20 {
            assert_eq!(apart(&MINE, || Ok(7)).await, Ok(7));
        }
        drop(ends);
        while MINE.count() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

//! Stack for what recurses: the parser and the planner walk trees as deep as a statement is nested.

use std::cell::Cell;

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

/// Runs work on a thread with a large stack, for one who need not wait to the end: who drops the wait lets it run on alone, for
/// nobody.
pub async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (tell, told) = oneshot::channel();
    let thread = std::thread::Builder::new().name("sql".into()).stack_size(STACK_BYTES);
    thread.spawn(move || {
        LARGE.set(true);
        let _ = tell.send(work());
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

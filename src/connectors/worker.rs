//! A reader's threads: how they put events into the bounded queue, wait, and learn that they should stop.

use std::convert::Infallible;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Receiver;
use crossbeam_channel::RecvTimeoutError;
use crossbeam_channel::Sender;
use crossbeam_channel::TryRecvError;
use crossbeam_channel::select;

use crate::error::Result;

/// The reader was dropped, or nobody reads its events any more: the thread ends.
pub(super) struct Stopped;

/// The threads of one reader. Dropping it tells them to stop, and waits for them.
pub(super) struct Workers {
    /// Never sent on: its end is the signal.
    running: Option<Sender<Infallible>>,
    /// The other end of `running`, for threads to be.
    stopped: Receiver<Infallible>,
    threads: Vec<JoinHandle<()>>,
}

/// A thread's way to learn that it should stop.
#[derive(Clone)]
pub(super) struct StopSignal(Receiver<Infallible>);

impl Workers {
    pub(super) fn new() -> Workers {
        let (running, stopped) = crossbeam_channel::bounded(0);
        Workers { running: Some(running), stopped, threads: Vec::new() }
    }

    /// What a thread watches.
    pub(super) fn stop_signal(&self) -> StopSignal {
        StopSignal(self.stopped.clone())
    }

    /// Starts a thread. It ends by itself, or once one of its waits answers [`Stopped`].
    pub(super) fn spawn(
        &mut self,
        name: String,
        body: impl FnOnce() -> Result<(), Stopped> + Send + 'static,
    ) -> Result<()> {
        let thread = std::thread::Builder::new().name(name);
        let thread = thread.spawn(move || match body() {
            Ok(()) | Err(Stopped) => {}
        })?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.running = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a reader's thread panicked");
            }
        }
    }
}

impl StopSignal {
    /// Whether to go on.
    pub(super) fn check(&self) -> Result<(), Stopped> {
        match self.0.try_recv() {
            Err(TryRecvError::Empty) => Ok(()),
            Err(TryRecvError::Disconnected) => Err(Stopped),
            Ok(never) => match never {},
        }
    }

    /// Waits; a stop ends the wait at once.
    pub(super) fn wait(&self, duration: Duration) -> Result<(), Stopped> {
        match self.0.recv_timeout(duration) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => Err(Stopped),
            Ok(never) => match never {},
        }
    }

    /// Sends as soon as the queue has room.
    pub(super) fn send<T>(&self, queue: &Sender<T>, message: T) -> Result<(), Stopped> {
        select! {
            send(queue, message) -> sent => sent.map_err(|_| Stopped),
            recv(self.0) -> _ => Err(Stopped),
        }
    }
}

//! Who is connected: numbers and secrets, by which a client asks over another connection to cancel its statement.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::Error;
use crate::error::Result;
use crate::session::Cause;
use crate::session::Interrupt;
use crate::session::Metrics;

/// Every connection.
pub(super) struct Registry {
    /// The connections by number.
    members: Mutex<Members>,
    /// How many there may be.
    connections_max: usize,
    /// What their sessions count.
    pub(super) metrics: Arc<Metrics>,
}

struct Members {
    by_pid: HashMap<i32, Member>,
    /// The number given out last.
    last_pid: i32,
    /// Set once: nobody is let in any more.
    closed: bool,
}

struct Member {
    /// What proves that a cancel request comes from the same client.
    secret: i32,
    interrupt: Arc<Interrupt>,
}

/// A connection's place in the registry; it is given up on drop.
pub(super) struct Ticket {
    registry: Arc<Registry>,
    pub(super) pid: i32,
    pub(super) secret: i32,
}

impl Registry {
    /// A registry for at most so many connections.
    pub(super) fn new(connections_max: usize, metrics: Arc<Metrics>) -> Arc<Registry> {
        let members = Members { by_pid: HashMap::new(), last_pid: 0, closed: false };
        Arc::new(Registry { members: Mutex::new(members), connections_max, metrics })
    }

    /// Lets a connection in.
    pub(super) fn enter(self: &Arc<Self>, interrupt: Arc<Interrupt>) -> Result<Ticket> {
        let mut members = self.members.lock();
        if members.closed {
            return Err(Error::shutdown("the database system is shutting down"));
        }
        if members.by_pid.len() >= self.connections_max {
            return Err(Error::too_many_connections("sorry, too many clients already").hint(format!(
                "The server takes {} connections at once: close some, or share them through a pool.",
                self.connections_max
            )));
        }
        let mut pid = members.last_pid;
        loop {
            pid = if pid == i32::MAX { 1 } else { pid + 1 };
            if !members.by_pid.contains_key(&pid) {
                break;
            }
        }
        members.last_pid = pid;
        let secret = rand::random();
        members.by_pid.insert(pid, Member { secret, interrupt });
        Ok(Ticket { registry: self.clone(), pid, secret })
    }

    /// Cancels what the connection runs, if the secret is its.
    pub(super) fn cancel(&self, pid: i32, secret: &[u8]) {
        let members = self.members.lock();
        if let Some(member) = members.by_pid.get(&pid)
            && member.secret.to_be_bytes() == secret
        {
            member.interrupt.raise(Cause::Cancel);
        }
    }

    /// Ends every connection, and those that come later.
    pub(super) fn close(&self) {
        let mut members = self.members.lock();
        members.closed = true;
        for member in members.by_pid.values() {
            member.interrupt.raise(Cause::Shutdown);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.registry.members.lock().by_pid.remove(&self.pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_cancels() {
        let registry = Registry::new(1, Arc::default());
        let interrupt = Arc::new(Interrupt::default());
        let ticket = registry.enter(interrupt.clone()).unwrap();
        assert!(registry.enter(interrupt.clone()).is_err());
        interrupt.begin(None);
        registry.cancel(ticket.pid, &ticket.secret.wrapping_add(1).to_be_bytes());
        registry.cancel(ticket.pid, b"");
        assert_eq!(interrupt.cause(), None);
        registry.cancel(ticket.pid, &ticket.secret.to_be_bytes());
        assert_eq!(interrupt.cause(), Some(Cause::Cancel));
        drop(ticket);
        assert!(registry.enter(interrupt).is_ok());
    }

    #[test]
    fn a_closed_registry_ends_all() {
        let registry = Registry::new(2, Arc::default());
        let interrupt = Arc::new(Interrupt::default());
        let _ticket = registry.enter(interrupt.clone()).unwrap();
        registry.close();
        assert_eq!(interrupt.cause(), Some(Cause::Shutdown));
        assert!(registry.enter(interrupt).is_err());
    }
}

//! Whether every number is exact: random views under random histories against a real PostgreSQL ([`oracle`]), under
//! `kill -9` at any moment ([`crashes`]), on a damaged disk ([`damage`]), on one that fails ([`disk`]), in views created over what
//! is there ([`filling`]), also in ones that cannot be ([`halted`]), beside statements larger than memory ([`memory`]), for every
//! reader at every moment ([`bank`], and under kills [`transfers`]), change by change ([`subscriptions`]), for clients that die
//! with it ([`named`]), and in what a directory of yesterday holds ([`format`]).

#[path = "../support/mod.rs"]
mod support;

mod bank;
mod crashes;
mod damage;
mod disk;
mod filling;
mod format;
mod halted;
mod memory;
mod named;
mod oracle;
mod subscriptions;
mod transfers;

/// A number from the environment.
fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// A runtime for the clients of one test.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

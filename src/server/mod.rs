//! Bytes on sockets, no SQL meaning: what clients of the Postgres protocol say is brought to a [`crate::session::Session`];
//! over HTTP the server tells how it does.

pub mod http;
pub mod pgwire;

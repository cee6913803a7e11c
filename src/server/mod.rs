//! Bytes on sockets, no SQL meaning: what clients of each protocol say is brought to a [`crate::session::Session`].

pub mod pgwire;

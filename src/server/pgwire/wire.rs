//! A client's socket with its two buffers. Every wait here can be dropped and begun again without losing a byte.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Buf;
use bytes::BytesMut;
use futures::FutureExt;
use pgwire::messages::PgWireBackendMessage;
use socket2::SockRef;
use socket2::TcpKeepalive;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::error::Error;
use crate::error::Result;
use crate::server::pgwire::frontend;
use crate::server::pgwire::frontend::First;
use crate::server::pgwire::frontend::Frontend;

/// Bytes of output at which a flush is due.
const FLUSH_BYTES: usize = 32 << 10;
/// A peer that answers no probe is gone after this and three more probes.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A client's socket.
pub(super) struct Wire {
    stream: TcpStream,
    /// What came and is not decoded yet.
    input: BytesMut,
    /// Whole messages; the first may be sent in part.
    pub(super) output: BytesMut,
}

impl Wire {
    /// A socket just accepted.
    pub(super) fn new(stream: TcpStream) -> Result<Wire> {
        stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        Ok(Wire { stream, input: BytesMut::with_capacity(8 << 10), output: BytesMut::with_capacity(8 << 10) })
    }

    /// The first packet; `None`: the client is gone.
    pub(super) async fn read_first(&mut self) -> Result<Option<First>> {
        loop {
            if let Some(first) = frontend::first(&mut self.input)? {
                return Ok(Some(first));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// The next message; `None`: the client is gone.
    pub(super) async fn read(&mut self) -> Result<Option<Frontend>> {
        loop {
            if let Some(message) = frontend::message(&mut self.input)? {
                return Ok(Some(message));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// The next message, if it is here already.
    pub(super) fn take(&mut self) -> Result<Option<Frontend>> {
        frontend::message(&mut self.input)
    }

    /// Reads what is there. False: nothing will come.
    async fn fill(&mut self) -> Result<bool> {
        Ok(self.stream.read_buf(&mut self.input).await? > 0)
    }

    /// Whether something was read that is not taken yet.
    pub(super) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Whether the client has sent Sync as its next message.
    pub(super) fn is_sync_next(&self) -> bool {
        frontend::is_sync_next(&self.input)
    }

    /// Adds a message to the output.
    pub(super) fn put(&mut self, message: PgWireBackendMessage) -> Result<()> {
        let before = self.output.len();
        message.encode(&mut self.output).map_err(|error| {
            self.output.truncate(before);
            Error::internal(format!("cannot encode a message: {error}"))
        })
    }

    /// Whether enough output has gathered to be sent.
    pub(super) fn is_full(&self) -> bool {
        self.output.len() >= FLUSH_BYTES
    }

    /// Sends what the client takes at once. Whether that is all.
    pub(super) fn flush_now(&mut self) -> Result<bool> {
        match self.stream.try_write(&self.output) {
            Ok(sent) => self.output.advance(sent),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(Error::from(error)),
        }
        Ok(self.output.is_empty())
    }

    /// Sends the output; waits while the client does not take it.
    pub(super) async fn flush(&mut self) -> Result<()> {
        while !self.output.is_empty() {
            if self.stream.write_buf(&mut self.output).await? == 0 {
                return Err(Error::from(std::io::Error::from(ErrorKind::WriteZero)));
            }
        }
        Ok(())
    }

    /// Whether the client has closed its side: then nobody waits for an answer.
    pub(super) fn is_gone(&self) -> bool {
        match self.stream.ready(Interest::READABLE).now_or_never() {
            Some(Ok(ready)) => ready.is_read_closed(),
            Some(Err(_)) => true,
            None => false,
        }
    }

    /// Says goodbye to the socket.
    pub(super) async fn close(&mut self) {
        // The client may be gone already; there is nobody to tell.
        let _ = self.stream.shutdown().await;
    }
}

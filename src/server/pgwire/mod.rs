//! The Postgres protocol, version 3.0: psql, tokio-postgres and their kin.
//!
//! A connection is a task: [`startup`] greets the client, [`connection`] serves it message by message, [`extended`] has the
//! messages of the extended protocol, [`rows`] sends rows as they come, [`copy`] has the data of COPY. [`frontend`] decodes what clients say; [`reply`]
//! is what we say, in the message types of the crate pgwire. That crate's own server loop is not used: it gathers a whole
//! result before it sends the first row, cannot cancel a running stream, and does not notice a client that is gone.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::engine::Engine;
use crate::session::Metrics;

mod connection;
mod copy;
mod extended;
mod frontend;
mod registry;
mod reply;
mod rows;
mod startup;
mod wire;

use connection::Connection;
use registry::Registry;
use wire::Wire;

/// Clients that may be connected at the same time.
const CONNECTIONS_MAX: usize = 500;
/// A client must have said who it is by then.
const STARTUP_LIMIT: Duration = Duration::from_secs(60);
/// Clients are waited for so long when the server ends.
const GOODBYE_LIMIT: Duration = Duration::from_secs(5);
/// The pause after a connection could not be accepted (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves clients until `stop` is ready; then tells them, waits a moment, and returns. Their sessions count in `metrics`.
pub async fn serve(listener: TcpListener, engine: Engine, metrics: Arc<Metrics>, stop: impl Future<Output = ()>) {
    let registry = Registry::new(CONNECTIONS_MAX, metrics);
    let mut clients = JoinSet::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(ended) = clients.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection ended by a defect");
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    clients.spawn(serve_client(stream, engine.clone(), registry.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    registry.close();
    let all_gone = async { while clients.join_next().await.is_some() {} };
    if tokio::time::timeout(GOODBYE_LIMIT, all_gone).await.is_err() {
        tracing::warn!("clients that did not take leave are disconnected");
    }
}

/// Decodes everything that a client might send, until it is refused or a message is not there in full: what fuzzing goes through.
pub fn decode_all(bytes: &[u8], started: bool) {
    let mut input = BytesMut::from(bytes);
    match started {
        true => while let Ok(Some(_)) = frontend::message(&mut input) {},
        false => while let Ok(Some(_)) = frontend::first(&mut input) {},
    }
}

/// One client, from its first packet to its last.
async fn serve_client(stream: TcpStream, engine: Engine, registry: Arc<Registry>) {
    let mut wire = match Wire::new(stream) {
        Ok(wire) => wire,
        Err(error) => {
            tracing::debug!(%error, "a client was gone before it was served");
            return;
        }
    };
    let greeted = async {
        let begun = startup::begin(&mut wire, &engine, &registry).await?;
        wire.flush().await?;
        Ok(begun)
    };
    match tokio::time::timeout(STARTUP_LIMIT, greeted).await {
        Ok(Ok(Some((session, ticket)))) => Connection::new(wire, session, ticket).run().await,
        Ok(Ok(None)) | Err(_) => wire.close().await,
        Ok(Err(error)) => {
            registry.metrics.error(&error);
            connection::farewell(&mut wire, &error).await;
            wire.close().await;
        }
    }
}

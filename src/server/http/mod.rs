//! What is seen from outside, over HTTP: `/metrics` for Prometheus, `/healthz` for whoever restarts or routes.
//!
//! A connection is for one request and for a short time, so that one that is slow or broken takes nothing from anybody;
//! there may be few of them at once.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::engine::Engine;
use crate::session::Metrics;
use crate::telemetry::Page;

mod process;

/// Connections that may be open at the same time; further ones are closed at once.
const CONNECTIONS_MAX: usize = 64;
/// How long one may live.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);
/// A request's line and headers take at most so many bytes,
const HEAD_BYTES_MAX: usize = 16 << 10;
/// and it has at most so many headers.
const HEADERS_MAX: usize = 64;
/// The pause after a connection could not be accepted (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The media type of everything but the metrics.
const TEXT: &str = "text/plain; charset=utf-8";

/// What is told of.
#[derive(Clone)]
pub struct Subjects {
    /// The database.
    pub engine: Engine,
    /// What sessions count.
    pub sessions: Arc<Metrics>,
}

/// What a client is answered.
struct Answer {
    /// Status code and reason.
    status: &'static str,
    /// The body's media type.
    media_type: &'static str,
    body: String,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Request {
    method: String,
    /// Without what follows a question mark.
    path: String,
}

/// Answers until it is dropped.
pub async fn serve(listener: TcpListener, subjects: Subjects) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < CONNECTIONS_MAX => {
                    connections.spawn(serve_client(stream, subjects.clone()));
                }
                Ok(_) => tracing::debug!("an HTTP connection is closed: there are too many"),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// One request and its answer.
async fn serve_client(mut stream: TcpStream, subjects: Subjects) {
    let served = async {
        let (answer, with_body) = match read_request(&mut stream).await? {
            None => return Ok(()),
            Some(Ok(request)) => (answer(&request, subjects).await, request.method != "HEAD"),
            Some(Err(refusal)) => (refusal, true),
        };
        stream.write_all(&answer.bytes(with_body)).await?;
        stream.shutdown().await?;
        // What a client still sends is read, lest it be told of a broken connection before it has read the answer.
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    match tokio::time::timeout(CONNECTION_LIMIT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an HTTP connection broke"),
        Err(_) => tracing::debug!("an HTTP connection took too long"),
    }
}

/// Reads a request's line and headers; `None` when the client goes away. Nothing that is answered has a body.
async fn read_request(stream: &mut TcpStream) -> std::io::Result<Option<Result<Request, Answer>>> {
    let mut head = Vec::new();
    loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
        let parsed = parse(&head).transpose();
        if parsed.is_some() {
            return Ok(parsed);
        }
        if head.len() > HEAD_BYTES_MAX {
            return Ok(Some(Err(Answer::text("431 Request Header Fields Too Large", "the request is too large\n"))));
        }
    }
}

/// A request's line and headers; `None` while they are not all there.
fn parse(head: &[u8]) -> Result<Option<Request>, Answer> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let refuse = |error| Answer::text("400 Bad Request", format!("this is no request: {error}\n"));
    if request.parse(head).map_err(refuse)?.is_partial() {
        return Ok(None);
    }
    let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default();
    Ok(Some(Request { method: request.method.unwrap_or_default().to_string(), path: path.to_string() }))
}

async fn answer(request: &Request, subjects: Subjects) -> Answer {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Answer::text("405 Method Not Allowed\r\nAllow: GET, HEAD", "only GET and HEAD are answered\n");
    }
    match request.path.as_str() {
        "/" => Answer::text("200 OK", "millstream: /metrics /healthz\n"),
        "/healthz" => match subjects.engine.health() {
            Ok(()) => Answer::text("200 OK", "ok\n"),
            Err(error) => Answer::text("503 Service Unavailable", format!("{}\n", error.message)),
        },
        "/metrics" => match tokio::task::spawn_blocking(move || metrics(&subjects)).await {
            Ok(body) => Answer { status: "200 OK", media_type: Page::MEDIA_TYPE, body },
            Err(error) => {
                tracing::error!(%error, "the metrics could not be gathered");
                Answer::text("500 Internal Server Error", "the metrics could not be gathered; see the log\n")
            }
        },
        _ => Answer::text("404 Not Found", "there is /metrics and /healthz\n"),
    }
}

impl Answer {
    fn text(status: &'static str, body: impl Into<String>) -> Answer {
        Answer { status, media_type: TEXT, body: body.into() }
    }

    fn bytes(&self, with_body: bool) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {}\r\nContent-Type: {}\r\n", self.status, self.media_type);
        let _ = write!(text, "Content-Length: {}\r\nConnection: close\r\n\r\n", self.body.len());
        if with_body {
            text.push_str(&self.body);
        }
        text.into_bytes()
    }
}

fn metrics(subjects: &Subjects) -> String {
    let mut page = Page::default();
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    page.gauges("millstream_info", "1, with the version of the server.").sample(&version, 1);
    subjects.engine.tell(&mut page);
    subjects.sessions.tell(&mut page);
    process::tell(&mut page);
    page.into_text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::Environment;
    use crate::engine::EngineOptions;
    use crate::time::SystemClock;

    #[test]
    fn a_request_is_read_once_it_is_whole() {
        let whole = b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 0..whole.len() {
            assert!(matches!(parse(&whole[..cut]), Ok(None)), "{cut}");
        }
        let request = parse(whole).ok().flatten();
        assert_eq!(request, Some(Request { method: "GET".to_string(), path: "/metrics".to_string() }));
        assert!(parse(b"\x16\x03\x01\x02").is_err());
    }

    #[tokio::test]
    async fn an_engine_that_has_ended_is_not_healthy() {
        let directory = tempfile::tempdir().unwrap();
        let options = EngineOptions {
            data_dir: directory.path().to_path_buf(),
            workers: 1,
            memory_limit_bytes: 64 << 20,
            fill_rows: 8192,
            clock: Arc::new(SystemClock),
            environment: Environment::default(),
        };
        let subjects = Subjects { engine: Engine::open(options).unwrap(), sessions: Arc::default() };
        let get = |path: &str| {
            let (request, subjects) = (Request { method: "GET".to_string(), path: path.to_string() }, subjects.clone());
            async move { answer(&request, subjects).await }
        };
        assert_eq!(get("/healthz").await.status, "200 OK");
        subjects.engine.shutdown().await.unwrap();
        let refused = get("/healthz").await;
        assert_eq!((refused.status, &*refused.body), ("503 Service Unavailable", "the engine has ended\n"));
        assert_eq!(get("/metrics").await.status, "200 OK");
    }
}

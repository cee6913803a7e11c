//! The beginning of a connection: encryption refused, cancel requests, who wants what, and the server's greeting.

use std::sync::Arc;

use bytes::BufMut;
use pgwire::messages::PgWireBackendMessage as Message;
use pgwire::messages::startup::Authentication;
use pgwire::messages::startup::BackendKeyData;
use pgwire::messages::startup::NegotiateProtocolVersion;
use pgwire::messages::startup::SecretKey;

use crate::catalog::system::DATABASE;
use crate::engine::Engine;
use crate::error::Error;
use crate::error::Result;
use crate::server::pgwire::frontend::First;
use crate::server::pgwire::registry::Registry;
use crate::server::pgwire::registry::Ticket;
use crate::server::pgwire::reply;
use crate::server::pgwire::wire::Wire;
use crate::session::Identity;
use crate::session::Interrupt;
use crate::session::Session;
use crate::session::Status;

/// The one version of the protocol that is spoken: 3.0.
const PROTOCOL: i32 = 3 << 16;

/// Goes through the first packets. `None`: the connection was for a cancel request, or the client went away.
pub(super) async fn begin(
    wire: &mut Wire,
    engine: &Engine,
    registry: &Arc<Registry>,
) -> Result<Option<(Session, Ticket)>> {
    loop {
        match wire.read_first().await? {
            None => return Ok(None),
            Some(First::Encryption) => {
                if wire.has_input() {
                    return Err(Error::protocol("received unencrypted data after an encryption request").detail(
                        "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
                    ));
                }
                wire.output.put_u8(b'N');
                wire.flush().await?;
            }
            Some(First::Cancel { pid, secret }) => {
                registry.cancel(pid, &secret);
                return Ok(None);
            }
            Some(First::Startup { major, minor, parameters }) => {
                if major != 3 {
                    let message = format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.0");
                    return Err(Error::unsupported(message));
                }
                let request = Request::new(parameters)?;
                negotiate(wire, minor, &request)?;
                let interrupt = Arc::new(Interrupt::default());
                let ticket = registry.enter(interrupt.clone())?;
                let identity = Identity { user: request.user, pid: ticket.pid };
                let metrics = registry.metrics.clone();
                let (database, settings) = (&request.database, &request.settings);
                let session = Session::new(engine.clone(), identity, database, settings, interrupt, metrics)?;
                return greet(wire, session, ticket).map(Some);
            }
        }
    }
}

/// Tells a client that speaks a newer version, or asks for protocol extensions, what is spoken here.
fn negotiate(wire: &mut Wire, minor: u16, request: &Request) -> Result<()> {
    if minor == 0 && request.extensions.is_empty() {
        return Ok(());
    }
    wire.put(Message::NegotiateProtocolVersion(NegotiateProtocolVersion::new(PROTOCOL, request.extensions.clone())))
}

fn greet(wire: &mut Wire, mut session: Session, ticket: Ticket) -> Result<(Session, Ticket)> {
    wire.put(Message::Authentication(Authentication::Ok))?;
    for (name, value) in session.take_reports() {
        wire.put(reply::parameter_status(name, &value))?;
    }
    wire.put(reply::parameter_status("session_authorization", &session.identity().user))?;
    wire.put(Message::BackendKeyData(BackendKeyData::new(ticket.pid, SecretKey::I32(ticket.secret))))?;
    wire.put(reply::ready(Status::Idle))?;
    Ok((session, ticket))
}

/// What a client asks for in its startup packet.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    user: String,
    database: String,
    /// Settings in the order given.
    settings: Vec<(String, String)>,
    /// Protocol extensions; none is known.
    extensions: Vec<String>,
}

impl Request {
    fn new(parameters: Vec<(String, String)>) -> Result<Request> {
        let mut request =
            Request { user: String::new(), database: String::new(), settings: Vec::new(), extensions: Vec::new() };
        for (name, value) in parameters {
            match name.as_str() {
                "user" => request.user = value,
                "database" => request.database = value,
                "options" => request.settings.extend(options(&value)?),
                "replication" if matches!(value.as_str(), "false" | "off" | "no" | "0") => {}
                "replication" => return Err(Error::unsupported("replication connections are not supported")),
                _ if name.starts_with("_pq_.") => request.extensions.push(name),
                _ => request.settings.push((name, value)),
            }
        }
        if request.user.is_empty() {
            return Err(Error::invalid_authorization("no PostgreSQL user name specified in startup packet"));
        }
        if request.database.is_empty() {
            request.database = DATABASE.to_string();
        }
        Ok(request)
    }
}

/// The settings in `options`: `-c name=value`, `-cname=value` or `--name=value`, with `\` before blanks in values.
fn options(text: &str) -> Result<Vec<(String, String)>> {
    let mut words = split(text).into_iter();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let pair = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(pair), _) => pair.to_string(),
            (None, Some("")) => words.next().unwrap_or_default(),
            (None, Some(pair)) => pair.to_string(),
            (None, None) => {
                return Err(Error::syntax(format!("invalid command-line argument for server process: {word}")));
            }
        };
        let (name, value) = pair.split_once('=').ok_or_else(|| Error::syntax(format!("-c {pair} requires a value")))?;
        settings.push((name.replace('-', "_"), value.to_string()));
    }
    Ok(settings)
}

/// Words between blanks; a backslash takes the next character as it is.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.chars();
    while let Some(c) = letters.next() {
        match c {
            '\\' => word.get_or_insert_default().extend(letters.next()),
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_split_as_postgres_splits_them() {
        let settings = options(r"-c search_path=a,\ b --statement-timeout=5s -cjit=off").unwrap();
        let expected = [("search_path", "a, b"), ("statement_timeout", "5s"), ("jit", "off")];
        assert_eq!(settings, expected.map(|(name, value)| (name.to_string(), value.to_string())));
        assert!(options("-x").is_err());
        assert!(options("-c jit").is_err());
    }

    #[test]
    fn a_request_needs_a_user() {
        assert_eq!(Request::new(Vec::new()).unwrap_err().kind.sqlstate(), "28000");
        let request = Request::new(vec![("user".into(), "ann".into()), ("TimeZone".into(), "UTC".into())]).unwrap();
        assert_eq!((request.database.as_str(), request.settings.len()), (DATABASE, 1));
    }
}

//! What clients say: framing with length caps, and messages whose every field is checked.
//!
//! The crate pgwire has decoders too, but they trust the counts and lengths inside a message (they read past its end, or
//! panic), and replace broken UTF-8; here neither may happen.

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;

use crate::error::Error;
use crate::error::Result;
use crate::types::text::from_utf8;

/// Bytes of the messages that carry SQL or values.
const LARGE_BYTES_MAX: usize = 256 << 20;
/// Bytes of all others, the first packet among them.
const SMALL_BYTES_MAX: usize = 10_000;

/// A message of a client after its startup.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frontend {
    Query(String),
    Parse {
        name: String,
        query: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe {
        target: Target,
        name: String,
    },
    Execute {
        portal: String,
        rows_max: u64,
    },
    Close {
        target: Target,
        name: String,
    },
    Flush,
    Sync,
    Terminate,
    /// A part of the data of COPY FROM STDIN.
    CopyData(Bytes),
    /// Their end.
    CopyDone,
    /// The client gives up, and says why.
    CopyFail(String),
    /// The old function call protocol.
    FunctionCall,
    /// A message whose frame is sound and whose inside is not: the next one can be read.
    Broken {
        error: Error,
        is_query: bool,
    },
}

/// Parameters for a prepared statement.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bind {
    pub(super) portal: String,
    pub(super) statement: String,
    /// None: all text; one: for all; else one for each.
    pub(super) parameter_formats: Vec<i16>,
    /// `None` is NULL.
    pub(super) parameters: Vec<Option<Bytes>>,
    /// As `parameter_formats`.
    pub(super) result_formats: Vec<i16>,
}

/// What Describe and Close are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Statement,
    Portal,
}

/// The first packet of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First {
    /// Encryption wanted; the client goes on in plain when refused.
    Encryption,
    Cancel {
        pid: i32,
        secret: Bytes,
    },
    Startup {
        major: u16,
        minor: u16,
        parameters: Vec<(String, String)>,
    },
}

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// The first packet, once it is there in full.
pub(super) fn first(input: &mut BytesMut) -> Result<Option<First>> {
    let Some(length) = peek_length(input, 0) else { return Ok(None) };
    if !(8..=SMALL_BYTES_MAX).contains(&length) {
        return Err(Error::protocol("invalid length of startup packet").hint(stranger(input)));
    }
    if input.len() < length {
        return Ok(None);
    }
    let mut fields = Fields(input.split_to(length).freeze());
    fields.int32()?;
    let code = fields.int32()?;
    match code {
        SSL | GSS => Ok(Some(First::Encryption)),
        CANCEL => {
            let pid = fields.int32()? as i32;
            Ok(Some(First::Cancel { pid, secret: fields.0 }))
        }
        version => {
            let (major, minor) = ((version >> 16) as u16, version as u16);
            let parameters = if major == 3 { startup_parameters(&mut fields)? } else { Vec::new() };
            Ok(Some(First::Startup { major, minor, parameters }))
        }
    }
}

/// What to tell who speaks another protocol.
fn stranger(input: &[u8]) -> &'static str {
    match input {
        [0x16, 3, ..] => "There is no TLS here: connect with sslmode=disable, or let the client ask first.",
        [b'G', b'E', b'T', b' ', ..] | [b'H', b'E', b'A', b'D', ..] | [b'P', b'O', b'S', b'T', ..] => {
            "This port is for Postgres clients; HTTP is answered on that of --http."
        }
        _ => "This port is for clients that speak Postgres' protocol, version 3.",
    }
}

fn startup_parameters(fields: &mut Fields) -> Result<Vec<(String, String)>> {
    let mut parameters = Vec::new();
    loop {
        let name = fields.string()?;
        if name.is_empty() {
            return Ok(parameters);
        }
        parameters.push((name, fields.string()?));
    }
}

/// The next message, once it is there in full.
pub(super) fn message(input: &mut BytesMut) -> Result<Option<Frontend>> {
    let Some(length) = peek_length(input, 1) else { return Ok(None) };
    let tag = input[0];
    let most = match tag {
        b'Q' | b'P' | b'B' | b'd' | b'F' => LARGE_BYTES_MAX,
        b'D' | b'E' | b'C' | b'H' | b'S' | b'X' | b'c' | b'f' => SMALL_BYTES_MAX,
        other => return Err(Error::protocol(format!("invalid frontend message type {other}"))),
    };
    if !(4..=most).contains(&length) {
        let message = format!("invalid length {length} of frontend message type \"{}\"", tag as char);
        return Err(Error::protocol(message).detail(format!("It may be 4 to {most} bytes.")));
    }
    if input.len() < length + 1 {
        return Ok(None);
    }
    let mut frame = input.split_to(length + 1).freeze();
    frame.advance(5);
    Ok(Some(decode(tag, Fields(frame)).unwrap_or_else(|error| Frontend::Broken { error, is_query: tag == b'Q' })))
}

/// Whether the next message is there in full and is Sync: nothing else shares the transaction of what runs now.
pub(super) fn is_sync_next(input: &BytesMut) -> bool {
    input.first() == Some(&b'S') && peek_length(input, 1) == Some(4)
}

/// Whether a message is there, in part at least.
fn peek_length(input: &BytesMut, offset: usize) -> Option<usize> {
    let bytes = input.get(offset..offset + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().expect("the range is of four bytes")) as usize)
}

fn decode(tag: u8, mut fields: Fields) -> Result<Frontend> {
    let message = match tag {
        b'Q' => Frontend::Query(fields.string()?),
        b'P' => {
            let (name, query) = (fields.string()?, fields.string()?);
            let count = fields.int16()?;
            let types = (0..count).map(|_| fields.int32()).collect::<Result<_>>()?;
            Frontend::Parse { name, query, types }
        }
        b'B' => Frontend::Bind(bind(&mut fields)?),
        b'D' => Frontend::Describe { target: fields.target()?, name: fields.string()? },
        b'E' => {
            let portal = fields.string()?;
            let rows = fields.int32()? as i32;
            Frontend::Execute { portal, rows_max: u64::try_from(rows).unwrap_or(0) }
        }
        b'C' => Frontend::Close { target: fields.target()?, name: fields.string()? },
        b'H' => Frontend::Flush,
        b'S' => Frontend::Sync,
        b'X' => Frontend::Terminate,
        b'F' => return Ok(Frontend::FunctionCall),
        b'd' => return Ok(Frontend::CopyData(fields.0)),
        b'f' => Frontend::CopyFail(fields.string()?),
        _ => Frontend::CopyDone,
    };
    if fields.0.has_remaining() {
        return Err(Error::protocol("invalid message format"));
    }
    Ok(message)
}

fn bind(fields: &mut Fields) -> Result<Bind> {
    let (portal, statement) = (fields.string()?, fields.string()?);
    let parameter_formats = fields.formats()?;
    let count = fields.int16()?;
    let mut parameters = Vec::new();
    for _ in 0..count {
        let length = fields.int32()? as i32;
        parameters.push(match usize::try_from(length) {
            Ok(length) => Some(fields.bytes(length)?),
            Err(_) => None,
        });
    }
    Ok(Bind { portal, statement, parameter_formats, parameters, result_formats: fields.formats()? })
}

/// What is left of one message.
struct Fields(Bytes);

impl Fields {
    fn bytes(&mut self, length: usize) -> Result<Bytes> {
        match self.0.len() >= length {
            true => Ok(self.0.split_to(length)),
            false => Err(Error::protocol("insufficient data left in message")),
        }
    }

    fn int16(&mut self) -> Result<u16> {
        Ok(self.bytes(2)?.get_u16())
    }

    fn int32(&mut self) -> Result<u32> {
        Ok(self.bytes(4)?.get_u32())
    }

    fn string(&mut self) -> Result<String> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let end = end.ok_or_else(|| Error::protocol("invalid string in message"))?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        from_utf8(&text).map(str::to_string)
    }

    fn formats(&mut self) -> Result<Vec<i16>> {
        let count = self.int16()?;
        (0..count).map(|_| Ok(self.int16()? as i16)).collect()
    }

    fn target(&mut self) -> Result<Target> {
        match self.bytes(1)?[0] {
            b'S' => Ok(Target::Statement),
            b'P' => Ok(Target::Portal),
            other => Err(Error::protocol(format!("invalid message subtype {other}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(tag: u8, body: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::from(&[tag][..]);
        bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn a_message_is_read_when_it_is_complete() {
        let mut input = framed(b'Q', b"select 1\0");
        let rest = input.split_off(7);
        assert_eq!(message(&mut input), Ok(None));
        input.unsplit(rest);
        input.extend_from_slice(&framed(b'S', b""));
        assert_eq!(message(&mut input), Ok(Some(Frontend::Query("select 1".into()))));
        assert!(is_sync_next(&input));
        assert_eq!(message(&mut input), Ok(Some(Frontend::Sync)));
        assert!(input.is_empty());
    }

    #[test]
    fn a_bind_carries_values_and_nulls() {
        let body = b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01\0\x01";
        let expected = Bind {
            portal: "p".into(),
            statement: "s".into(),
            parameter_formats: vec![1],
            parameters: vec![Some(Bytes::from_static(b"ab")), None],
            result_formats: vec![1],
        };
        assert_eq!(message(&mut framed(b'B', body)), Ok(Some(Frontend::Bind(expected))));
    }

    #[test]
    fn broken_messages_are_refused_without_harm() {
        let huge = [b'Q', 0xff, 0xff, 0xff, 0xff];
        assert_eq!(message(&mut BytesMut::from(&huge[..])).unwrap_err().kind.sqlstate(), "08P01");
        let short = [b'S', 0, 0, 0, 2];
        assert!(message(&mut BytesMut::from(&short[..])).is_err());
        for (tag, body) in [
            (b'Q', &b"no end"[..]),
            (b'Q', b"a\0b"),
            (b'Q', b"\xff\0"),
            (b'B', b"\0\0\xff\xff"),
            (b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff"),
            (b'P', b"\0\0\0\x05"),
            (b'D', b"Z\0"),
            (b'D', b""),
            (b'E', b"\0\0"),
        ] {
            let decoded = message(&mut framed(tag, body));
            assert!(matches!(decoded, Ok(Some(Frontend::Broken { .. }))), "{tag} {body:?}");
        }
        assert!(message(&mut BytesMut::from(&b"GET / HTTP/1.1"[..])).is_err());
    }

    #[test]
    fn the_first_packet_says_what_the_client_wants() {
        let mut ssl = BytesMut::from(&b"\0\0\0\x08\x04\xd2\x16\x2f"[..]);
        assert_eq!(first(&mut ssl), Ok(Some(First::Encryption)));
        let mut startup = BytesMut::from(&b"\0\0\0\x13\0\x03\0\0user\0ann\0\0"[..]);
        startup[3] = startup.len() as u8;
        let parameters = vec![("user".to_string(), "ann".to_string())];
        assert_eq!(first(&mut startup), Ok(Some(First::Startup { major: 3, minor: 0, parameters })));
        assert!(first(&mut BytesMut::from(&b"GET / HTTP/1.1\r\n"[..])).is_err());
        let mut unended = BytesMut::from(&b"\0\0\0\x0c\0\x03\0\0user"[..]);
        assert!(first(&mut unended).is_err());
    }
}

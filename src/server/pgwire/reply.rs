//! What the server says, as messages of the crate pgwire.

use bytes::BufMut;
use bytes::BytesMut;
use pgwire::messages::PgWireBackendMessage as Message;
use pgwire::messages::copy::CopyDone;
use pgwire::messages::copy::CopyInResponse;
use pgwire::messages::copy::CopyOutResponse;
use pgwire::messages::data::NoData;
use pgwire::messages::data::ParameterDescription;
use pgwire::messages::response::CommandComplete;
use pgwire::messages::response::ErrorResponse;
use pgwire::messages::response::NoticeResponse;
use pgwire::messages::response::ReadyForQuery;
use pgwire::messages::response::TransactionStatus;
use pgwire::messages::startup::ParameterStatus;

use crate::error::Error;
use crate::error::Kind;
use crate::session::Notice;
use crate::session::Severity;
use crate::session::Status;
use crate::types::Column;
use crate::types::SqlType;

/// How a value travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Binary,
}

/// How bad an error is: whether the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gravity {
    Error,
    Fatal,
}

/// An error.
pub(super) fn error(error: &Error, gravity: Gravity) -> Message {
    let severity = match gravity {
        Gravity::Error => "ERROR",
        Gravity::Fatal => "FATAL",
    };
    let mut fields = head(severity, error.kind.sqlstate(), &error.message);
    if let Some(detail) = &error.detail {
        fields.push((b'D', clean(detail)));
    }
    if let Some(hint) = &error.hint {
        fields.push((b'H', clean(hint)));
    }
    if let Some(context) = &error.context {
        fields.push((b'W', clean(context)));
    }
    if let Some(position) = error.position {
        fields.push((b'P', position.to_string()));
    }
    Message::ErrorResponse(ErrorResponse::new(fields))
}

/// Whether nothing can be said on this connection after this error.
pub(super) fn gravity(error: &Error) -> Gravity {
    if error.kind == Kind::Shutdown { Gravity::Fatal } else { Gravity::Error }
}

/// A notice.
pub(super) fn notice(notice: &Notice) -> Message {
    let severity = match notice.severity {
        Severity::Notice => "NOTICE",
        Severity::Warning => "WARNING",
    };
    Message::NoticeResponse(NoticeResponse::new(head(severity, notice.sqlstate, &notice.message)))
}

fn head(severity: &str, sqlstate: &str, message: &str) -> Vec<(u8, String)> {
    vec![
        (b'S', severity.to_string()),
        (b'V', severity.to_string()),
        (b'C', sqlstate.to_string()),
        (b'M', clean(message)),
    ]
}

/// A string on the wire ends at its first NUL.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The columns of the rows to come, appended: as many drivers ask for them with each execution, without a message to be made first.
pub(super) fn row_description(columns: &[Column], formats: &[Format], output: &mut BytesMut) {
    output.put_u8(b'T');
    let start = output.len();
    output.put_u32(0);
    output.put_u16(columns.len() as u16);
    for (i, Column { name, ty, .. }) in columns.iter().enumerate() {
        match name.contains('\0') {
            false => output.put_slice(name.as_bytes()),
            true => output.put_slice(clean(name).as_bytes()),
        }
        output.put_u8(0);
        // Of no table's column.
        output.put_u32(0);
        output.put_u16(0);
        output.put_u32(ty.oid());
        output.put_i16(ty.typlen());
        output.put_i32(ty.typmod());
        output.put_i16(formats.get(i).copied().unwrap_or(Format::Text) as i16);
    }
    let length = (output.len() - start) as u32;
    output[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// There will be no rows.
pub(super) fn no_data() -> Message {
    Message::NoData(NoData::new())
}

/// The types of parameters.
pub(super) fn parameter_description(types: &[SqlType]) -> Message {
    Message::ParameterDescription(ParameterDescription::new(types.iter().map(SqlType::oid).collect()))
}

/// The format of each column's values in a COPY.
fn copy_formats(width: usize, binary: bool) -> (i8, i16, Vec<i16>) {
    (i8::from(binary), width as i16, vec![i16::from(binary); width])
}

/// The client is to send the data of a COPY.
pub(super) fn copy_in(width: usize, binary: bool) -> Message {
    let (format, columns, formats) = copy_formats(width, binary);
    Message::CopyInResponse(CopyInResponse::new(format, columns, formats))
}

/// The data of a COPY follow.
pub(super) fn copy_out(width: usize, binary: bool) -> Message {
    let (format, columns, formats) = copy_formats(width, binary);
    Message::CopyOutResponse(CopyOutResponse::new(format, columns, formats))
}

/// The data of a COPY have ended.
pub(super) fn copy_done() -> Message {
    Message::CopyDone(CopyDone::new())
}

/// A statement is done.
pub(super) fn complete(tag: String) -> Message {
    Message::CommandComplete(CommandComplete::new(tag))
}

/// The client may go on.
pub(super) fn ready(status: Status) -> Message {
    let status = match status {
        Status::Idle => TransactionStatus::Idle,
        Status::Block => TransactionStatus::Transaction,
        Status::Failed => TransactionStatus::Error,
    };
    Message::ReadyForQuery(ReadyForQuery::new(status))
}

/// A setting that the client keeps track of.
pub(super) fn parameter_status(name: &str, value: &str) -> Message {
    Message::ParameterStatus(ParameterStatus::new(name.to_string(), clean(value)))
}

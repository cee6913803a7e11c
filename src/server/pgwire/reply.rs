//! What the server says, as messages of the crate pgwire.

use pgwire::messages::PgWireBackendMessage as Message;
use pgwire::messages::copy::CopyDone;
use pgwire::messages::copy::CopyInResponse;
use pgwire::messages::copy::CopyOutResponse;
use pgwire::messages::data::FieldDescription;
use pgwire::messages::data::NoData;
use pgwire::messages::data::ParameterDescription;
use pgwire::messages::data::RowDescription;
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

/// The columns of the rows to come.
pub(super) fn row_description(columns: &[Column], formats: &[Format]) -> Message {
    let fields = columns.iter().enumerate().map(|(i, column)| {
        let format = formats.get(i).copied().unwrap_or(Format::Text);
        let (ty, name) = (&column.ty, clean(&column.name));
        FieldDescription::new(name, 0, 0, ty.oid(), ty.typlen(), ty.typmod(), format as i16)
    });
    Message::RowDescription(RowDescription::new(fields.collect()))
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

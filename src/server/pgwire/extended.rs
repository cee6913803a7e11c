//! The extended protocol: Parse, Bind, Describe, Execute, Close. A portal keeps its place between two Executes.

use std::sync::Arc;

use bytes::Bytes;
use pgwire::messages::PgWireBackendMessage as Message;
use pgwire::messages::extendedquery::BindComplete;
use pgwire::messages::extendedquery::CloseComplete;
use pgwire::messages::extendedquery::ParseComplete;
use pgwire::messages::extendedquery::PortalSuspended;
use pgwire::messages::response::EmptyQueryResponse;

use crate::engine::Parameter;
use crate::error::Error;
use crate::error::Result;
use crate::server::pgwire::connection::Connection;
use crate::server::pgwire::connection::watch;
use crate::server::pgwire::frontend::Bind;
use crate::server::pgwire::frontend::Target;
use crate::server::pgwire::reply;
use crate::server::pgwire::reply::Format;
use crate::server::pgwire::rows::Sender;
use crate::server::pgwire::rows::Sent;
use crate::session::Outcome;
use crate::session::Prepared;
use crate::session::Status;
use crate::session::Tag;
use crate::types::SqlType;
use crate::types::binary;
use crate::types::parse;
use crate::types::text::from_utf8;
use crate::types::zone::Zone;

/// The OID by which clients say that they do not know a type.
const UNKNOWN: u32 = 705;

/// A prepared statement with its parameters, and how far it was executed.
pub(super) struct Portal {
    prepared: Arc<Prepared>,
    parameters: Vec<Parameter>,
    /// The formats of the result's columns, as Bind gives them.
    formats: Vec<i16>,
    progress: Progress,
}

enum Progress {
    /// Not executed yet.
    Fresh,
    /// Rows are left.
    Rows(Sender, Tag),
    /// All rows were sent; asked again it has none.
    Done(Tag),
    /// It gave no rows and cannot run again.
    Ran,
}

impl Connection {
    pub(super) async fn parse(&mut self, name: &str, query: &str, types: &[u32]) -> Result<()> {
        let given = types.iter().map(|ty| parameter_type(*ty)).collect::<Result<_>>()?;
        let interrupt = self.begin_statement()?;
        let prepared = watch(&self.wire, &interrupt, self.session.prepare(name, query, given)).await;
        interrupt.end();
        prepared?;
        self.wire.put(Message::ParseComplete(ParseComplete::new()))
    }

    pub(super) fn bind(&mut self, bind: Bind) -> Result<()> {
        let prepared = self.session.prepared(&bind.statement)?;
        if bind.parameters.len() != prepared.parameters.len() {
            return Err(Error::protocol(format!(
                "bind message supplies {} parameters, but prepared statement \"{}\" requires {}",
                bind.parameters.len(),
                bind.statement,
                prepared.parameters.len()
            )));
        }
        if !bind.portal.is_empty() && self.portals.contains_key(&bind.portal) {
            let message = format!("cursor \"{}\" already exists", bind.portal);
            return Err(Error::new(crate::error::Kind::DuplicateCursor, message));
        }
        let zone = self.zone()?;
        let parameter_formats = formats(&bind.parameter_formats, bind.parameters.len(), "parameter")?;
        let values = bind.parameters.iter().zip(parameter_formats).zip(&prepared.parameters);
        let parameters = values
            .enumerate()
            .map(|(i, ((value, format), ty))| {
                parameter(value.as_ref(), format, ty, zone)
                    .map_err(|error| error.detail(format!("The value is that of parameter ${}.", i + 1)))
            })
            .collect::<Result<_>>()?;
        if let Some(columns) = &prepared.columns {
            formats(&bind.result_formats, columns.len(), "result")?;
        }
        let portal = Portal { prepared, parameters, formats: bind.result_formats, progress: Progress::Fresh };
        self.portals.insert(bind.portal, portal);
        self.wire.put(Message::BindComplete(BindComplete::new()))
    }

    pub(super) fn describe(&mut self, target: Target, name: &str) -> Result<()> {
        let (columns, codes) = match (target, self.portals.get(name)) {
            (Target::Statement, _) => {
                let prepared = self.session.prepared(name)?;
                self.wire.put(reply::parameter_description(&prepared.parameters))?;
                (prepared.columns.clone(), Vec::new())
            }
            (Target::Portal, Some(portal)) => (portal.prepared.columns.clone(), portal.formats.clone()),
            // A cursor is a portal too.
            (Target::Portal, None) => {
                let columns = self.session.cursor_columns(name).ok_or_else(|| no_portal(name))?;
                (Some(columns), Vec::new())
            }
        };
        match &columns {
            Some(columns) => {
                let formats = formats(&codes, columns.len(), "result")?;
                reply::row_description(columns, &formats, &mut self.wire.output);
                Ok(())
            }
            None => self.wire.put(reply::no_data()),
        }
    }

    pub(super) fn close(&mut self, target: Target, name: &str) -> Result<()> {
        match target {
            Target::Statement => self.session.close(name),
            Target::Portal if self.portals.remove(name).is_none() => self.session.close_cursor(name),
            Target::Portal => {}
        }
        self.wire.put(Message::CloseComplete(CloseComplete::new()))
    }

    /// Runs a portal, or goes on with it. Rows that are left stay in it.
    pub(super) async fn execute(&mut self, name: &str, rows_max: u64) -> Result<()> {
        let mut portal = self.portals.remove(name).ok_or_else(|| no_portal(name))?;
        let done = self.run_portal(&mut portal, rows_max).await;
        self.session.interrupt().end();
        done?;
        self.portals.insert(name.to_string(), portal);
        Ok(())
    }

    async fn run_portal(&mut self, portal: &mut Portal, rows_max: u64) -> Result<()> {
        let interrupt = self.begin_statement()?;
        if let Progress::Fresh = portal.progress {
            let alone = self.session.status() == Status::Idle && self.wire.is_sync_next();
            let run = self.session.run_prepared(&portal.prepared, &portal.parameters, alone);
            let outcome = watch(&self.wire, &interrupt, run).await?;
            self.tell()?;
            portal.progress = match outcome {
                Outcome::Empty => {
                    return self.wire.put(Message::EmptyQueryResponse(EmptyQueryResponse::new()));
                }
                Outcome::Command(tag) => {
                    portal.progress = Progress::Ran;
                    return self.wire.put(reply::complete(tag));
                }
                Outcome::CopyOut { columns, rows, options } => {
                    portal.progress = Progress::Ran;
                    return Box::pin(self.copy_out(columns, rows, options, &interrupt)).await;
                }
                Outcome::CopyIn(copy) => {
                    portal.progress = Progress::Ran;
                    return Box::pin(self.copy_in(*copy, &interrupt)).await;
                }
                Outcome::Rows { columns, rows, tag, .. } => {
                    let formats = formats(&portal.formats, columns.len(), "result")?;
                    Progress::Rows(Sender::new(columns, formats, self.zone()?, rows), tag)
                }
            };
        }
        match &mut portal.progress {
            Progress::Rows(sender, tag) => match sender.send(&mut self.wire, &interrupt, rows_max).await? {
                Sent::Limit => self.wire.put(Message::PortalSuspended(PortalSuspended::new())),
                Sent::All(rows) => {
                    let tag = tag.clone();
                    self.wire.put(reply::complete(tag.after(rows)))?;
                    portal.progress = Progress::Done(tag);
                    Ok(())
                }
            },
            Progress::Done(tag) => self.wire.put(reply::complete(tag.after(0))),
            Progress::Fresh | Progress::Ran => Err(Error::new(crate::error::Kind::NotReady, "portal cannot be run")),
        }
    }
}

fn no_portal(name: &str) -> Error {
    Error::undefined_cursor(format!("portal \"{name}\" does not exist"))
}

/// The type of a parameter by its OID; `None`: to be inferred.
fn parameter_type(number: u32) -> Result<Option<SqlType>> {
    match number {
        0 | UNKNOWN => Ok(None),
        number => match SqlType::from_oid(number) {
            Some(ty) => Ok(Some(ty)),
            None => Err(Error::undefined_object(format!("type with OID {number} does not exist"))
                .hint("Send the parameter as text, or of another type.")),
        },
    }
}

/// One format for each of `count` values: none given is text, one is for all.
fn formats(codes: &[i16], count: usize, what: &str) -> Result<Vec<Format>> {
    let format = |code: &i16| match code {
        0 => Ok(Format::Text),
        1 => Ok(Format::Binary),
        other => Err(Error::invalid_parameter(format!("unsupported format code: {other}"))),
    };
    match codes {
        [] => Ok(vec![Format::Text; count]),
        [one] => Ok(vec![format(one)?; count]),
        codes if codes.len() == count => codes.iter().map(format).collect(),
        codes => Err(Error::protocol(format!("bind message has {} {what} formats but {count} {what}s", codes.len()))),
    }
}

/// A parameter's value.
fn parameter(value: Option<&Bytes>, format: Format, ty: &SqlType, zone: Zone) -> Result<Parameter> {
    let array = match (value, format) {
        (None, _) => parse::null(ty),
        (Some(bytes), Format::Text) => parse::parse(from_utf8(bytes)?, ty, zone)?,
        (Some(bytes), Format::Binary) => binary::parse(bytes, ty)?,
    };
    Parameter::try_from_array(&array, 0).map_err(|error| Error::internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_for_none_one_or_each() {
        assert_eq!(formats(&[], 2, "result").unwrap(), [Format::Text, Format::Text]);
        assert_eq!(formats(&[1], 2, "result").unwrap(), [Format::Binary, Format::Binary]);
        assert_eq!(formats(&[0, 1], 2, "result").unwrap(), [Format::Text, Format::Binary]);
        assert!(formats(&[0, 1], 3, "result").is_err());
        assert!(formats(&[7], 1, "result").is_err());
    }

    #[test]
    fn unknown_parameters_are_inferred() {
        assert_eq!(parameter_type(0), Ok(None));
        assert_eq!(parameter_type(705), Ok(None));
        assert_eq!(parameter_type(23), Ok(Some(SqlType::Integer)));
        assert!(parameter_type(600).is_err());
    }

    #[test]
    fn parameters_come_as_text_or_null() {
        let one = Bytes::from_static(b"1");
        let value = parameter(Some(&one), Format::Text, &SqlType::Integer, Zone::UTC).unwrap();
        assert_eq!(value, Parameter::Int32(Some(1)));
        assert_eq!(parameter(None, Format::Binary, &SqlType::Integer, Zone::UTC).unwrap(), Parameter::Int32(None));
        let broken = Bytes::from_static(b"\xff");
        let error = parameter(Some(&broken), Format::Text, &SqlType::Text, Zone::UTC).unwrap_err();
        assert_eq!(error.kind.sqlstate(), "22021");
    }
}

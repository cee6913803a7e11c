//! Functions about the session: who, where, which settings.

use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::ScalarValue;

use crate::error::Error;
use crate::functions::catalog::Body;
use crate::functions::catalog::CatalogContext;
use crate::functions::catalog::Definition;
use crate::functions::catalog::Value;
use crate::functions::catalog::boolean;
use crate::functions::catalog::text;
use crate::functions::catalog::text_list;
use crate::functions::catalog::text_list_type;
use crate::functions::catalog::truth;
use crate::functions::catalog::utf8;
use crate::functions::raise::raise;

/// The functions of this file.
pub(super) fn definitions() -> Vec<Definition> {
    let database: Body = |context, _| utf8(Some(context.database.as_str()));
    let user: Body = |context, _| utf8(Some(context.user.as_str()));
    let nullary = |name, returns, body| Definition { name, arguments: 0..=0, returns, body };
    vec![
        nullary("version", DataType::Utf8, |context, _| utf8(Some(context.version.as_str()))),
        nullary("current_database", DataType::Utf8, database),
        nullary("current_catalog", DataType::Utf8, database),
        nullary("current_user", DataType::Utf8, user),
        nullary("current_role", DataType::Utf8, user),
        nullary("session_user", DataType::Utf8, user),
        nullary("user", DataType::Utf8, user),
        nullary("current_schema", DataType::Utf8, |context, _| utf8(context.search_path.first().cloned())),
        Definition { name: "current_schemas", arguments: 1..=1, returns: text_list_type(), body: current_schemas },
        Definition { name: "current_setting", arguments: 1..=2, returns: DataType::Utf8, body: current_setting },
        Definition { name: "set_config", arguments: 3..=3, returns: DataType::Utf8, body: set_config },
        nullary("pg_backend_pid", DataType::Int32, |context, _| Ok(ScalarValue::Int32(Some(context.pid)))),
        nullary("pg_is_in_recovery", DataType::Boolean, |_, _| boolean(Some(false))),
        nullary("pg_client_encoding", DataType::Utf8, |_, _| utf8(Some("UTF8"))),
        nullary("pg_advisory_unlock_all", DataType::Utf8, |_, _| utf8(Some(""))),
    ]
}

fn current_schemas(context: &CatalogContext, a: &[Value]) -> Result<Value> {
    let implicit = match truth(a, 0) {
        None => return Ok(ScalarValue::Null),
        Some(implicit) => implicit,
    };
    let listed = context.search_path.iter().any(|schema| schema == "pg_catalog");
    let first = (implicit && !listed).then(|| "pg_catalog".to_string());
    let schemas: Vec<String> = first.into_iter().chain(context.search_path.iter().cloned()).collect();
    Ok(text_list(&schemas))
}

/// Drivers set what is set already, to be sure. A function cannot change its session, or not before the next statement.
fn set_config(context: &CatalogContext, a: &[Value]) -> Result<Value> {
    let Some(name) = text(a, 0) else { return Ok(ScalarValue::Null) };
    let value = current_setting(context, &a[..1])?;
    if text(a, 1).is_some_and(|wanted| value.to_string().eq_ignore_ascii_case(wanted)) {
        return Ok(value);
    }
    Err(raise(Error::unsupported("set_config cannot change a setting").hint(format!("Write SET {name} = ..."))))
}

fn current_setting(context: &CatalogContext, a: &[Value]) -> Result<Value> {
    let Some(name) = text(a, 0) else { return Ok(ScalarValue::Null) };
    let found = context.settings.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    match found {
        Some((_, value)) => utf8(Some(value.as_str())),
        None if truth(a, 1) == Some(true) => Ok(ScalarValue::Null),
        None => {
            let message = format!("unrecognized configuration parameter \"{name}\"");
            Err(raise(Error::undefined_object(message)))
        }
    }
}

//! `CREATE SCHEMA` and `DROP SCHEMA`.

use sqlparser::ast::Ident;

use crate::catalog::PUBLIC;
use crate::error::{Error, Result};
use crate::sql::bind::names::{SYSTEM_SCHEMAS, undefined_schema};
use crate::sql::bind::provider::Provider;
use crate::sql::bound::Ddl;
use crate::sql::parse::grammar::folded;

/// Binds CREATE SCHEMA.
pub fn bind_create(provider: &Provider, name: &Ident, if_not_exists: bool) -> Result<Ddl> {
    let at = |error: Error| placed(provider, name, error);
    let folded = folded(name);
    if SYSTEM_SCHEMAS.contains(&folded.as_str()) {
        return Err(at(Error::duplicate_schema(format!("schema \"{folded}\" already exists"))));
    }
    if folded.starts_with("pg_") {
        let error = Error::unsupported(format!("unacceptable schema name \"{folded}\""));
        return Err(at(error.hint("The prefix \"pg_\" is reserved for system schemas.")));
    }
    Ok(Ddl::CreateSchema { name: folded, if_not_exists })
}

/// Binds DROP SCHEMA.
pub fn bind_drop(provider: &Provider, names: &[Ident], if_exists: bool, cascade: bool) -> Result<Ddl> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        let at = |error: Error| placed(provider, name, error);
        let folded = folded(name);
        if folded == PUBLIC || SYSTEM_SCHEMAS.contains(&folded.as_str()) {
            let message = format!("cannot drop schema {folded} because it is required by the database system");
            return Err(at(Error::unsupported(message).hint("Drop the objects in it.")));
        }
        if provider.context.catalog.schemas.contains_key(&folded) {
            found.push(folded);
        } else if if_exists {
            missing.push(folded);
        } else {
            return Err(at(undefined_schema(&folded, provider.context)));
        }
    }
    Ok(Ddl::DropSchema { names: found, cascade, missing })
}

fn placed(provider: &Provider, name: &Ident, mut error: Error) -> Error {
    error.position = provider.text.and_then(|text| text.position(name.span));
    error
}

//! `DROP`.

use crate::catalog::ObjectKind;
use crate::error::{Error, Kind, Result};
use crate::sql::BindContext;
use crate::sql::bind::names::{parts, resolve_object};
use crate::sql::bound::Ddl;
use crate::sql::parse::ast::{Drop, DropKind};

/// Resolves the names.
pub fn bind_drop(context: &BindContext, drop: &Drop) -> Result<Ddl> {
    let (mut objects, mut missing) = (Vec::new(), Vec::new());
    for name in &drop.names {
        match resolve_object(name, context) {
            Ok(object) => {
                if !matches(drop.kind, &object.kind) {
                    let noun = object.noun();
                    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
                    let message = format!("\"{}\" is not a {}", object.name, noun_of(drop.kind));
                    let hint = format!("Use DROP {} to remove {article} {noun}.", noun.to_uppercase());
                    return Err(Error::wrong_object_type(message).hint(hint));
                }
                if !objects.contains(&object.id) {
                    objects.push(object.id);
                }
            }
            Err(error) if error.kind == Kind::UndefinedTable => {
                let name = parts(name).join(".");
                if !drop.if_exists {
                    let message = format!("{} \"{name}\" does not exist", noun_of(drop.kind));
                    return Err(Error { message, ..error });
                }
                missing.push(name);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Ddl::Drop { objects, cascade: drop.cascade, missing, tag: tag(drop.kind) })
}

fn matches(said: DropKind, is: &ObjectKind) -> bool {
    match is {
        ObjectKind::Table(_) => said == DropKind::Table,
        ObjectKind::Source(_) => said == DropKind::Source,
        ObjectKind::View(_) => said == DropKind::View,
        ObjectKind::MaterializedView(_) => said == DropKind::MaterializedView,
        ObjectKind::Sink(_) => said == DropKind::Sink,
        ObjectKind::Subscription(_) => said == DropKind::Subscription,
    }
}

fn noun_of(kind: DropKind) -> &'static str {
    match kind {
        DropKind::Table => "table",
        DropKind::Source => "source",
        DropKind::View => "view",
        DropKind::MaterializedView => "materialized view",
        DropKind::Sink => "sink",
        DropKind::Subscription => "subscription",
    }
}

fn tag(kind: DropKind) -> &'static str {
    match kind {
        DropKind::Table => "DROP TABLE",
        DropKind::Source => "DROP SOURCE",
        DropKind::View => "DROP VIEW",
        DropKind::MaterializedView => "DROP MATERIALIZED VIEW",
        DropKind::Sink => "DROP SINK",
        DropKind::Subscription => "DROP SUBSCRIPTION",
    }
}

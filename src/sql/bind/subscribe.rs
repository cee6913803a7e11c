//! `SUBSCRIBE`: what is followed, and the columns of its changes.

use sqlparser::ast;

use crate::catalog::ObjectKind;
use crate::error::{Error, Result};
use crate::ids::Epoch;
use crate::sql::bind::names::resolve_object;
use crate::sql::bind::provider::Provider;
use crate::sql::bind::query::{Purpose, bind_query};
use crate::sql::bound::{Subscribe, SubscribeTarget};
use crate::sql::options::Options;
use crate::sql::parse::ast as parsed;
use crate::sql::parse::ast::Statement;
use crate::sql::parse::parse;
use crate::types::{Column, SqlType};

/// Binds SUBSCRIBE.
pub fn bind_subscribe(provider: &Provider, subscribe: &parsed::Subscribe) -> Result<Subscribe> {
    let mut options = Options::new(&subscribe.options);
    let snapshot = options.boolean("snapshot")?;
    let progress = options.boolean("progress")?.unwrap_or(false);
    options.finish()?;
    let (target, columns) = target(provider, &subscribe.target)?;
    if let Some(as_of) = &subscribe.as_of {
        check_as_of(&target).map_err(|error| error.at(as_of.position))?;
    }
    Ok(Subscribe {
        target,
        columns: columns_of_changes(columns),
        snapshot,
        progress,
        as_of: subscribe.as_of.as_ref().map(|as_of| Epoch(as_of.epoch)),
    })
}

/// What is stored is followed as it is; for everything else a view is installed.
fn target(provider: &Provider, target: &parsed::SubscribeTarget) -> Result<(SubscribeTarget, Vec<Column>)> {
    let name = match target {
        parsed::SubscribeTarget::Query(query) => return of_query(provider, query),
        parsed::SubscribeTarget::Relation(name) => name,
    };
    let object = resolve_object(name, provider.context)?;
    match &object.kind {
        ObjectKind::Table(_) | ObjectKind::MaterializedView(_) => {
            Ok((SubscribeTarget::Object(object.id), object.columns().to_vec()))
        }
        ObjectKind::Subscription(subscription) => {
            let followed = provider.context.catalog.get(subscription.of);
            let followed = followed.ok_or_else(|| Error::internal("a subscription follows nothing"))?;
            Ok((SubscribeTarget::Named(object.id), followed.columns().to_vec()))
        }
        ObjectKind::Source(_) | ObjectKind::View(_) | ObjectKind::Sink(_) => of_query(provider, all_of(name)?.as_ref()),
    }
}

/// The query for all rows of a relation.
pub fn all_of(name: &ast::ObjectName) -> Result<Box<ast::Query>> {
    match parse(&format!("SELECT * FROM {name}"))?.pop().map(|statement| statement.ast) {
        Some(Statement::Query(query)) => Ok(query),
        _ => Err(Error::internal("a query over a relation is no query")),
    }
}

fn of_query(provider: &Provider, query: &ast::Query) -> Result<(SubscribeTarget, Vec<Column>)> {
    let query = bind_query(provider, query, Purpose::MaterializedView)?;
    let columns = query.columns.to_vec();
    Ok((SubscribeTarget::Query(Box::new(query)), columns))
}

fn check_as_of(target: &SubscribeTarget) -> Result<()> {
    match target {
        SubscribeTarget::Object(_) | SubscribeTarget::Named(_) => Ok(()),
        SubscribeTarget::Query(_) => {
            Err(Error::unsupported("only a table or a materialized view can be subscribed to AS OF an epoch")
                .hint("Create a materialized view WITH (retain_history = '1 hour'), say: its changes are kept."))
        }
    }
}

/// Before the relation's own columns come the epoch, its time, and by how much the row's count changes: NULL where the end
/// of an epoch is told, and then so are the columns.
fn columns_of_changes(columns: Vec<Column>) -> Vec<Column> {
    let system = [("ms_epoch", SqlType::BigInt), ("ms_time", SqlType::Timestamptz), ("ms_diff", SqlType::BigInt)];
    let system = system.into_iter().map(|(name, ty)| Column::new(name, ty));
    system.chain(columns.into_iter().map(|column| Column { nullable: true, ..column })).collect()
}

//! Names to objects, expressions to types: a parsed statement and a catalog snapshot make a [`Bound`] one.
//!
//! Queries go a long way: the syntax tree is rewritten ([`rewrite`], [`output`]) and searched for what would be answered
//! wrongly ([`refuse`]), planned by DataFusion over our relations ([`provider`]) with our windows ([`windows`]), the analyzer
//! puts Postgres' semantics in ([`crate::sql::semantics`]), and the output gets
//! the columns that the client is told ([`query`]). DML and DDL are made of such queries and expressions.

use arrow::datatypes::SchemaRef;

use crate::catalog::ObjectKind;
use crate::error::{Error, Result};
use crate::sql::bind::names::resolve_object;
use crate::sql::bind::provider::Provider;
use crate::sql::bind::query::{Purpose, bind_query};
use crate::sql::bind::state::session_state;
use crate::sql::bind::types::sql_type;
use crate::sql::bound::Bound;
use crate::sql::parse::ast::{Copied, Statement, SubscribeTarget};
use crate::sql::parse::text::Text;
use crate::sql::stack::{is_deep, on_large_stack};
use crate::sql::{BindContext, Parsed};

pub use expression::{expression, expression_for};

pub mod expression;
mod assign;
mod catalog_queries;
mod catalog_subqueries;
mod constant_rows;
mod copy;
mod ddl;
mod dml;
mod drop;
mod error;
mod insert;
mod names;
mod output;
mod provider;
mod quantified;
mod query;
mod refuse;
mod rewrite;
mod schema;
mod sink;
mod set_returning;
mod state;
mod subscribe;
mod subscription;
mod types;
mod view;
mod windows;
#[cfg(test)]
mod tests;

/// The relation of a system schema with this name: schema, name, columns.
fn system(schema: &str, name: &str) -> Option<(&'static str, &'static str, SchemaRef)> {
    crate::catalog::system::find(schema, name).map(|relation| (relation.schema, relation.name, relation.columns))
}

/// Resolves a statement.
pub fn bind(statement: &Parsed, context: &BindContext) -> Result<Bound> {
    match is_deep(&statement.text) {
        true => on_large_stack(|| bind_here(statement, context)),
        false => bind_here(statement, context),
    }
}

fn bind_here(statement: &Parsed, context: &BindContext) -> Result<Bound> {
    let text = Text::new(&statement.text);
    let provider = Provider::new(context, session_state(context), Some(&text));
    let bound = bind_statement(&statement.ast, &statement.text, &provider);
    bound.map_err(|error| place(error, &statement.ast, &text))
}

/// Resolves a statement of this text, or one inside it.
fn bind_statement(statement: &Statement, text: &str, provider: &Provider) -> Result<Bound> {
    let context = provider.context;
    Ok(match statement {
        Statement::Empty => Bound::Empty,
        Statement::Query(query) => Bound::Query(bind_query(provider, query, Purpose::Read)?),
        Statement::Subscribe(follow) => Bound::Subscribe(subscribe::bind_subscribe(provider, follow)?),
        Statement::Insert(insert) => Bound::Dml(insert::bind_insert(provider, insert)?),
        Statement::Update(update) => Bound::Dml(dml::bind_update(provider, update)?),
        Statement::Delete(delete) => Bound::Dml(dml::bind_delete(provider, delete)?),
        Statement::Truncate(tables) => Bound::Dml(dml::bind_truncate(context, tables)?),
        Statement::CreateTable(table) => Bound::Ddl(ddl::bind_table(provider, table, text)?),
        Statement::CreateSource(source) => Bound::Ddl(ddl::bind_source(provider, source, text)?),
        Statement::CreateView(view) => Bound::Ddl(ddl::bind_view(provider, view, text, false)?),
        Statement::CreateMaterializedView(view) => Bound::Ddl(ddl::bind_view(provider, view, text, true)?),
        Statement::CreateSink(sink) => Bound::Ddl(sink::bind_sink(provider, sink, text)?),
        Statement::CreateSubscription(create) => Bound::Ddl(subscription::bind_create(context, create, text)?),
        Statement::Advance(advance) => Bound::Advance(subscription::bind_advance(context, advance)?),
        Statement::Drop(drop) => Bound::Ddl(drop::bind_drop(context, drop)?),
        Statement::CreateSchema { name, if_not_exists } => {
            Bound::Ddl(schema::bind_create(provider, name, *if_not_exists)?)
        }
        Statement::DropSchema { names, if_exists, cascade } => {
            Bound::Ddl(schema::bind_drop(provider, names, *if_exists, *cascade)?)
        }
        Statement::Explain { query, analyze } => {
            Bound::Explain { query: Box::new(bind_query(provider, query, Purpose::Read)?), analyze: *analyze }
        }
        Statement::ExplainView { name, analyze } => {
            let object = resolve_object(name, context)?;
            match object.kind {
                ObjectKind::MaterializedView(_) | ObjectKind::Sink(_) => {
                    Bound::ExplainView { view: object.id, analyze: *analyze }
                }
                ObjectKind::Table(_) | ObjectKind::Source(_) | ObjectKind::View(_) | ObjectKind::Subscription(_) => {
                    let message = format!("\"{}\" is neither a materialized view nor a sink", object.name);
                    return Err(Error::wrong_object_type(message));
                }
            }
        }
        Statement::Transaction(transaction) => Bound::Transaction(transaction.clone()),
        Statement::Setting(setting) => Bound::Setting(setting.clone()),
        Statement::Flush => Bound::Flush,
        Statement::Prepare { name, types, statement } => {
            let types = types.iter().map(|ty| if is_unknown(ty) { Ok(None) } else { sql_type(ty).map(Some) });
            Bound::Prepare { name: name.clone(), types: types.collect::<Result<_>>()?, statement: statement.clone() }
        }
        Statement::Execute { name, arguments } => {
            let arguments = arguments.iter().map(|argument| expression::bind_constant(provider, argument));
            Bound::Execute { name: name.clone(), arguments: arguments.collect::<Result<_>>()? }
        }
        Statement::Deallocate(name) => Bound::Deallocate(name.clone()),
        Statement::DiscardAll => Bound::DiscardAll,
        Statement::Declare(declare) => Bound::Declare {
            name: declare.name.clone(),
            binary: declare.binary,
            hold: declare.hold,
            scroll: declare.scroll,
            query: Box::new(bind_statement(&declare.query, text, provider)?),
            sql: text.to_string(),
        },
        Statement::Fetch(fetch) => Bound::Fetch(fetch.clone()),
        Statement::Close(cursor) => Bound::Close(cursor.clone()),
        Statement::CopyTo(copy) => copy::bind_copy_to(provider, copy, text)?,
        Statement::CopyFrom(copy) => Bound::CopyFrom(copy::bind_copy_from(provider, copy)?),
        Statement::Nothing { tag, notice } => Bound::Nothing { tag, notice: notice.clone() },
    })
}

/// Whether a parameter's type is left to be inferred.
fn is_unknown(data_type: &sqlparser::ast::DataType) -> bool {
    data_type.to_string().eq_ignore_ascii_case("unknown")
}

/// Finds the place of an error in the statement.
fn place(error: Error, statement: &Statement, text: &Text) -> Error {
    match statement {
        Statement::Subscribe(subscribe) => match &subscribe.target {
            SubscribeTarget::Query(query) => error::locate(error, query.as_ref(), text),
            SubscribeTarget::Relation(name) => error::locate_name(error, std::slice::from_ref(name), text),
        },
        Statement::CreateSink(sink) => match &sink.from {
            SubscribeTarget::Query(query) => error::locate(error, query.as_ref(), text),
            SubscribeTarget::Relation(name) => error::locate_name(error, std::slice::from_ref(name), text),
        },
        Statement::Query(query) | Statement::Explain { query, .. } => error::locate(error, query.as_ref(), text),
        Statement::CreateView(view) | Statement::CreateMaterializedView(view) => {
            error::locate(error, view.query.as_ref(), text)
        }
        Statement::Insert(insert) => error::locate(error, insert.as_ref(), text),
        Statement::Update(update) => error::locate(error, update.as_ref(), text),
        Statement::Delete(delete) => error::locate(error, delete.as_ref(), text),
        Statement::Execute { arguments, .. } => error::locate(error, arguments, text),
        Statement::Truncate(names) => error::locate_name(error, names, text),
        Statement::CreateSubscription(create) => error::locate_name(error, std::slice::from_ref(&create.from), text),
        Statement::Advance(advance) => error::locate_name(error, std::slice::from_ref(&advance.name), text),
        Statement::Drop(drop) => error::locate_name(error, &drop.names, text),
        Statement::ExplainView { name, .. } => error::locate_name(error, std::slice::from_ref(name), text),
        Statement::Declare(declare) => place(error, &declare.query, text),
        Statement::CopyTo(copy) | Statement::CopyFrom(copy) => match &copy.what {
            Copied::Table { name, .. } => error::locate_name(error, std::slice::from_ref(name), text),
            Copied::Statement(statement) => place(error, statement, text),
        },
        Statement::Empty
        | Statement::CreateTable(_)
        | Statement::CreateSource(_)
        | Statement::CreateSchema { .. }
        | Statement::DropSchema { .. }
        | Statement::Transaction(_)
        | Statement::Setting(_)
        | Statement::Flush
        | Statement::Fetch(_)
        | Statement::Close(_)
        | Statement::Prepare { .. }
        | Statement::Deallocate(_)
        | Statement::DiscardAll
        | Statement::Nothing { .. } => error,
    }
}

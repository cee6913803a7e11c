//! `CREATE TABLE | SOURCE | VIEW | MATERIALIZED VIEW`: everything that can be wrong is found here.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlparser::ast::Ident;

use crate::catalog::{Feed, Fill, Watermark};
use crate::connectors;
use crate::error::{Error, Result};
use crate::formats::{Envelope, Format};
use crate::sql::bind::expression::{expression_and_type, expression_for};
use crate::sql::bind::names::{column_index, new_name};
use crate::sql::bind::provider::Provider;
use crate::sql::bind::query::{Purpose, bind_query};
use crate::sql::bind::types::sql_type;
use crate::sql::bound::{Ddl, Name, Query, ViewOptions};
use crate::sql::options::{self, IDLE_TIMEOUT_MS, Options, duration_us};
use crate::sql::parse::ast::{
    ColumnDefinition, CreateSource, CreateTable, CreateView, FormatClause, Include, OptionValue, Snippet,
    WatermarkDefinition,
};
use crate::sql::parse::grammar::folded;
use crate::types::{Column, SqlType};

/// Names that begin so are the system's.
const RESERVED: &str = "ms_";

/// Binds CREATE TABLE.
pub fn bind_table(provider: &Provider, table: &CreateTable, sql: &str) -> Result<Ddl> {
    let name = new_name(&table.name, provider.context)?;
    let mut options = Options::new(&table.options);
    if let Some(connector) = options.take("connector") {
        return bind_stored_source(provider, table, name, connector.value, options, sql);
    }
    if let Some(format) = &table.format {
        let error = Error::invalid_parameter("option \"connector\" is missing").at(format.position);
        return Err(error.hint("FORMAT says what a connector's messages mean: write WITH (connector = 'kafka', ...)."));
    }
    if let Some(include) = table.includes.first() {
        return Err(Error::invalid_parameter(format!(
            "a table without a connector has no {} to include",
            include.what
        )));
    }
    let mut columns = Vec::new();
    for definition in &table.columns {
        refuse_computed(definition)?;
        add_column(provider, &mut columns, column_of(provider, definition)?, &definition.name)?;
    }
    let primary_key = primary_key(provider, &table.primary_keys, &mut columns, &name.name)?;
    let defaults = table.columns.iter().zip(&columns).map(|(definition, column)| {
        let Some(default) = &definition.default else { return Ok(None) };
        let bound = expression_for(&default.text, &[], column, provider.context);
        bound.map_err(|error| within(error, default))?;
        Ok(Some(default.text.clone()))
    });
    let defaults = defaults.collect::<Result<_>>()?;
    let idle_timeout_ms = options.duration_ms("idle_timeout")?.unwrap_or(IDLE_TIMEOUT_MS);
    let retain_history_ms = options.duration_ms("retain_history")?;
    options.finish()?;
    let watermark = watermark(provider, &table.watermarks, &columns, &name.name, idle_timeout_ms)?;
    let (if_not_exists, append_only) = (table.if_not_exists, table.append_only);
    let (feed, sql) = (None, sql.to_string());
    Ok(Ddl::CreateTable {
        name,
        if_not_exists,
        columns,
        defaults,
        primary_key,
        append_only,
        watermark,
        retain_history_ms,
        feed,
        sql,
    })
}

/// Binds CREATE TABLE with a connector. With a PRIMARY KEY a row takes the place of that of its key, else rows are added.
fn bind_stored_source(
    provider: &Provider,
    table: &CreateTable,
    name: Name,
    connector: String,
    mut options: Options,
    sql: &str,
) -> Result<Ddl> {
    let retain_history_ms = options.duration_ms("retain_history")?;
    table.columns.iter().try_for_each(refuse_computed)?;
    let clauses =
        FeedClauses { columns: &table.columns, includes: &table.includes, format: table.format.as_ref(), stored: true };
    let sql = options.without_secrets(&connector, sql);
    let (mut columns, feed, idle_timeout_ms) = bind_feed(provider, clauses, connector, options)?;
    check_options(&feed, &table.options)?;
    let primary_key = primary_key(provider, &table.primary_keys, &mut columns, &name.name)?;
    if let Some(key) = table.primary_keys.iter().flatten().next().filter(|_| table.append_only) {
        let error = Error::unsupported("an append-only table with a primary key cannot have a connector");
        let hint = "A row takes the place of that of its key, which an append-only table does not allow. Leave out one of them.";
        return Err(placed(provider, error, key).hint(hint));
    }
    let keyed = matches!(primary_key[..], [column] if feed.fills[column] == Fill::Key);
    if feed.format.as_ref().is_some_and(|format| format.envelope == Envelope::Upsert) && !keyed {
        return Err(Error::invalid_definition("FORMAT UPSERT needs the key of a message as primary key").hint(
            "Write INCLUDE KEY AS k and PRIMARY KEY (k); a key that is no bytea has a type: INCLUDE KEY AS k BIGINT.",
        ));
    }
    let watermark = watermark(provider, &table.watermarks, &columns, &name.name, idle_timeout_ms)?;
    Ok(Ddl::CreateTable {
        name,
        if_not_exists: table.if_not_exists,
        defaults: vec![None; columns.len()],
        append_only: primary_key.is_empty(),
        columns,
        primary_key,
        watermark,
        retain_history_ms,
        feed: Some(feed),
        sql,
    })
}

/// Binds CREATE SOURCE.
pub fn bind_source(provider: &Provider, source: &CreateSource, sql: &str) -> Result<Ddl> {
    let name = new_name(&source.name, provider.context)?;
    if let Some(column) = source.primary_keys.iter().flatten().next() {
        let error = Error::unsupported("a source cannot have a primary key");
        return Err(placed(provider, error, column)
            .hint("A source is a stream of messages, any of which may repeat. CREATE TABLE with a connector keeps one row for each key."));
    }
    let mut options = Options::new(&source.options);
    let connector = options.connector("Write WITH (connector = 'kafka', ...) or WITH (connector = 'file', ...).")?;
    let clauses = FeedClauses {
        columns: &source.columns,
        includes: &source.includes,
        format: source.format.as_ref(),
        stored: false,
    };
    let sql = options.without_secrets(&connector.value, sql);
    let (columns, feed, idle_timeout_ms) = bind_feed(provider, clauses, connector.value, options)?;
    check_options(&feed, &source.options)?;
    if let Some(format) = source.format.as_ref().filter(|_| feed.format.as_ref().is_some_and(changes_rows)) {
        return Err(Error::unsupported("FORMAT UPSERT changes rows, which a source does not keep")
            .at(format.position)
            .hint("Use CREATE TABLE with a PRIMARY KEY instead of CREATE SOURCE."));
    }
    check_computed(provider, &source.columns, &columns, &feed.fills)?;
    let watermark = watermark(provider, &source.watermarks, &columns, &name.name, idle_timeout_ms)?;
    let if_not_exists = source.if_not_exists;
    Ok(Ddl::CreateSource { name, if_not_exists, columns, feed, watermark, sql })
}

/// Checks what a connector is told, as far as no more than the statement is needed for it.
fn check_options(feed: &Feed, written: &[OptionValue]) -> Result<()> {
    connectors::check_options(&feed.connector, &feed.options).map_err(|error| options::placed(written, error))
}

/// What a statement says of the rows that a connector brings.
struct FeedClauses<'a> {
    columns: &'a [ColumnDefinition],
    includes: &'a [Include],
    format: Option<&'a FormatClause>,
    /// Whether they are kept.
    stored: bool,
}

/// The columns, what fills them, and the idle timeout.
fn bind_feed(
    provider: &Provider,
    clauses: FeedClauses<'_>,
    connector: String,
    mut options: Options,
) -> Result<(Vec<Column>, Feed, u64)> {
    let idle_timeout_ms = options.duration_ms("idle_timeout")?.unwrap_or(IDLE_TIMEOUT_MS);
    let options: BTreeMap<String, String> = options.rest();
    let format = clauses.format.map(options::format).transpose()?;
    let (mut columns, mut fills) = source_columns(provider, &clauses, &connector, &options)?;
    for include in clauses.includes {
        include_column(provider, include, &mut columns, &mut fills)?;
    }
    let feed = Feed { fills, connector, options, format, start: BTreeMap::new(), identity: None };
    Ok((columns, feed, idle_timeout_ms))
}

/// Whether messages of this format change rows of earlier ones.
fn changes_rows(format: &Format) -> bool {
    match format.envelope {
        Envelope::Plain => false,
        Envelope::Upsert => true,
    }
}

fn refuse_computed(definition: &ColumnDefinition) -> Result<()> {
    let Some(computed) = &definition.computed else { return Ok(()) };
    let error = Error::unsupported("a table cannot have computed columns").at(computed.offset + 1);
    Err(error.hint("Compute the value in a view, or declare a source."))
}

/// Binds CREATE VIEW and CREATE MATERIALIZED VIEW.
pub fn bind_view(provider: &Provider, view: &CreateView, sql: &str, materialized: bool) -> Result<Ddl> {
    let name = new_name(&view.name, provider.context)?;
    let mut options = Options::new(&view.options);
    let (mut view_options, mut retain_history_ms) = (ViewOptions::default(), None);
    if materialized {
        let allowed_lateness_us = duration_us(&mut options, "allowed_lateness")?.unwrap_or(0);
        let retention_us = duration_us(&mut options, "retention")?;
        view_options = ViewOptions { allowed_lateness_us, emit_final: view.emit_final, retention_us };
        retain_history_ms = options.duration_ms("retain_history")?;
    }
    options.finish()?;
    let purpose = if materialized { Purpose::MaterializedView } else { Purpose::View };
    let mut bound = bind_query(provider, &view.query, purpose)?;
    rename(provider, &mut bound, &view.columns)?;
    check_columns(&bound, materialized)?;
    let (query, sql) = (view.text.text.clone(), sql.to_string());
    let (if_not_exists, or_replace) = (view.if_not_exists, view.or_replace);
    Ok(match materialized {
        true => {
            let options = view_options;
            Ddl::CreateMaterializedView { name, if_not_exists, query, bound, options, retain_history_ms, sql }
        }
        false => {
            let search_path = provider.context.search_path.clone();
            Ddl::CreateView { name, or_replace, if_not_exists, query, search_path, bound, sql }
        }
    })
}

/// Refuses columns of one name; with `maintained` also names that the system needs.
pub fn check_columns(bound: &Query, maintained: bool) -> Result<()> {
    for (n, column) in bound.columns.iter().enumerate() {
        if bound.columns[..n].iter().any(|earlier| earlier.name == column.name) {
            return Err(Error::duplicate_column(format!("column \"{}\" specified more than once", column.name))
                .hint("Give the columns different names with AS."));
        }
        if maintained && column.name.starts_with(RESERVED) {
            return Err(reserved(&column.name));
        }
    }
    Ok(())
}

/// Gives the first columns the names that the statement lists.
fn rename(provider: &Provider, bound: &mut Query, names: &[Ident]) -> Result<()> {
    if let Some(name) = names.get(bound.columns.len()) {
        let message = "CREATE VIEW specifies more column names than columns";
        return Err(placed(provider, Error::syntax(message), name));
    }
    for (column, name) in Arc::make_mut(&mut bound.columns).iter_mut().zip(names) {
        column.name = folded(name);
    }
    Ok(())
}

fn column_of(provider: &Provider, definition: &ColumnDefinition) -> Result<Column> {
    let ty = sql_type(&definition.data_type).map_err(|error| error.at(definition.type_position))?;
    if matches!(ty, SqlType::Oid | SqlType::Name | SqlType::Char) {
        let error = Error::unsupported(format!("a column cannot be of type {ty}"));
        return Err(placed(provider, error, &definition.name));
    }
    Ok(Column { name: folded(&definition.name), ty, nullable: !definition.not_null })
}

fn add_column(provider: &Provider, columns: &mut Vec<Column>, column: Column, name: &Ident) -> Result<()> {
    if columns.iter().any(|earlier| earlier.name == column.name) {
        let error = Error::duplicate_column(format!("column \"{}\" specified more than once", column.name));
        return Err(placed(provider, error, name));
    }
    if column.name.starts_with(RESERVED) {
        return Err(placed(provider, reserved(&column.name), name));
    }
    columns.push(column);
    Ok(())
}

fn reserved(name: &str) -> Error {
    Error::invalid_definition(format!("column name \"{name}\" is reserved"))
        .hint("Names that begin with \"ms_\" are the system's.")
}

fn primary_key(provider: &Provider, keys: &[Vec<Ident>], columns: &mut [Column], table: &str) -> Result<Vec<usize>> {
    let [key] = keys else {
        return match keys.get(1).and_then(|second| second.first()) {
            None => Ok(Vec::new()),
            Some(second) => {
                let message = format!("multiple primary keys for table \"{table}\" are not allowed");
                Err(placed(provider, Error::invalid_table_definition(message), second))
            }
        };
    };
    let mut indexes = Vec::new();
    for name in key {
        let column = folded(name);
        let index = columns.iter().position(|c| c.name == column).ok_or_else(|| {
            let error = Error::undefined_column(format!("column \"{column}\" named in key does not exist"));
            placed(provider, error, name)
        })?;
        if indexes.contains(&index) {
            let message = format!("column \"{column}\" appears twice in primary key constraint");
            return Err(placed(provider, Error::duplicate_column(message), name));
        }
        columns[index].nullable = false;
        indexes.push(index);
    }
    Ok(indexes)
}

fn watermark(
    provider: &Provider,
    definitions: &[WatermarkDefinition],
    columns: &[Column],
    relation: &str,
    idle_timeout_ms: u64,
) -> Result<Option<Watermark>> {
    let [definition, more @ ..] = definitions else { return Ok(None) };
    if let Some(second) = more.first() {
        let error = Error::invalid_definition("only one column can have a watermark");
        return Err(placed(provider, error, &second.column));
    }
    let index = column_index(columns, &definition.column, relation)
        .map_err(|error| placed(provider, error, &definition.column))?;
    let column = &columns[index];
    if !matches!(column.ty, SqlType::Timestamp | SqlType::Timestamptz) {
        let message = format!("column \"{}\" of a watermark must be a timestamp, not {}", column.name, column.ty);
        return Err(placed(provider, Error::type_mismatch(message), &definition.column));
    }
    let expression = &definition.expression;
    let (_, ty) =
        expression_and_type(&expression.text, columns, provider.context).map_err(|error| within(error, expression))?;
    if ty != column.ty {
        let message = format!("the expression of a watermark must be of type {}, not {ty}", column.ty);
        return Err(Error::type_mismatch(message).at(expression.offset + 1));
    }
    Ok(Some(Watermark { column: index, expression: expression.text.clone(), idle_timeout_ms }))
}

/// The columns that are declared, else those that the connector knows.
fn source_columns(
    provider: &Provider,
    clauses: &FeedClauses<'_>,
    connector: &str,
    options: &BTreeMap<String, String>,
) -> Result<(Vec<Column>, Vec<Fill>)> {
    let (mut columns, mut fills) = (Vec::new(), Vec::new());
    let declares = clauses.columns.iter().any(|definition| definition.computed.is_none());
    if !declares {
        columns = connectors::find(connector)?.columns(options)?.unwrap_or_default();
        fills = columns.iter().map(|column| Fill::Payload(column.name.clone())).collect();
        if columns.is_empty() && clauses.includes.is_empty() {
            return Err(Error::invalid_definition("the columns of the source are missing")
                .hint("Declare them: CREATE SOURCE name (column type, ...)."));
        }
    }
    for definition in clauses.columns {
        if let Some(default) = &definition.default {
            let error =
                Error::unsupported("a column that a connector fills cannot have a default").at(default.offset + 1);
            return Err(error.hint("Put coalesce() into a view."));
        }
        if definition.not_null && !clauses.stored {
            let error = Error::unsupported("a source's column cannot be NOT NULL");
            let error = error.hint("What a message lacks is NULL. Filter the rows in a view over the source.");
            return Err(placed(provider, error, &definition.name));
        }
        let column = column_of(provider, definition)?;
        fills.push(match &definition.computed {
            Some(computed) => Fill::Computed(computed.text.clone()),
            None => Fill::Payload(column.name.clone()),
        });
        add_column(provider, &mut columns, column, &definition.name)?;
    }
    Ok((columns, fills))
}

fn include_column(
    provider: &Provider,
    include: &Include,
    columns: &mut Vec<Column>,
    fills: &mut Vec<Fill>,
) -> Result<()> {
    let (fill, ty) = match include.what {
        "key" => match &include.data_type {
            Some(ty) => (Fill::Key, sql_type(ty)?),
            None => (Fill::Key, SqlType::Bytea),
        },
        "partition" => (Fill::Partition, SqlType::Integer),
        "offset" => (Fill::Offset, SqlType::BigInt),
        "timestamp" => (Fill::Timestamp, SqlType::Timestamptz),
        "file" => (Fill::File, SqlType::Text),
        _ => (Fill::Headers, SqlType::Text),
    };
    let name = include.name.clone().unwrap_or_else(|| Ident::new(include.what));
    fills.push(fill);
    add_column(provider, columns, Column::new(folded(&name), ty), &name)
}

/// Binds the computed columns over the others: they cannot read each other.
fn check_computed(
    provider: &Provider,
    definitions: &[ColumnDefinition],
    columns: &[Column],
    fills: &[Fill],
) -> Result<()> {
    let inputs: Vec<Column> = columns
        .iter()
        .zip(fills)
        .filter(|(_, fill)| !matches!(fill, Fill::Computed(_)))
        .map(|(column, _)| column.clone())
        .collect();
    for definition in definitions {
        let Some(computed) = &definition.computed else { continue };
        let column = column_of(provider, definition)?;
        expression_for(&computed.text, &inputs, &column, provider.context).map_err(|error| within(error, computed))?;
    }
    Ok(())
}

/// An error of a piece of text, placed in the statement.
fn within(mut error: Error, snippet: &Snippet) -> Error {
    error.position = Some(error.position.unwrap_or(1) + snippet.offset);
    error
}

fn placed(provider: &Provider, mut error: Error, ident: &Ident) -> Error {
    error.position = error.position.or_else(|| provider.text?.position(ident.span));
    error
}

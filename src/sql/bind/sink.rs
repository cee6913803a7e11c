//! `CREATE SINK`.

use crate::connectors;
use crate::error::Result;
use crate::sql::bind::ddl::check_columns;
use crate::sql::bind::names::new_name;
use crate::sql::bind::provider::Provider;
use crate::sql::bind::query::{Purpose, bind_query};
use crate::sql::bind::subscribe::all_of;
use crate::sql::bound::{Ddl, ViewOptions};
use crate::sql::options::{Options, duration_us, placed};
use crate::sql::parse::ast::{CreateSink, SubscribeTarget};

/// Binds CREATE SINK.
pub fn bind_sink(provider: &Provider, sink: &CreateSink, sql: &str) -> Result<Ddl> {
    let name = new_name(&sink.name, provider.context)?;
    let mut options = Options::new(&sink.options);
    let connector = options.connector("Write WITH (connector = 'blackhole').")?;
    let found = connectors::find_sink(&connector.value).map_err(|error| error.at(connector.position))?;
    let allowed_lateness_us = duration_us(&mut options, "allowed_lateness")?.unwrap_or(0);
    let view_options = ViewOptions { allowed_lateness_us, emit_final: sink.emit_final, retention_us: None };
    let sql = options.without_secrets(&connector.value, sql);
    let options = options.rest();
    found.validate(&options).map_err(|error| placed(&sink.options, error))?;
    let query = match &sink.from {
        SubscribeTarget::Relation(name) => all_of(name)?,
        SubscribeTarget::Query(query) => query.clone(),
    };
    let bound = bind_query(provider, &query, Purpose::MaterializedView)?;
    check_columns(&bound, true)?;
    let (if_not_exists, connector) = (sink.if_not_exists, connector.value);
    Ok(Ddl::CreateSink { name, if_not_exists, bound, view_options, connector, options, sql })
}

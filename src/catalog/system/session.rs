//! What is one session's alone: its settings, cursors and prepared statements, as the system relations show them.

use std::collections::BTreeMap;

use crate::catalog::system::PG_CATALOG;
use crate::catalog::system::rows::Rows;
use crate::types::SqlType;

/// The relations whose rows differ from session to session.
const RELATIONS: [&str; 6] =
    ["pg_authid", "pg_roles", "pg_user", "pg_settings", "pg_cursors", "pg_prepared_statements"];

/// Whether a relation's rows differ from session to session.
pub fn is_of_session(schema: &str, name: &str) -> bool {
    schema == PG_CATALOG && RELATIONS.contains(&name)
}

/// A session as the system relations show it.
#[derive(Clone, Debug, Default)]
pub struct SessionFacts {
    /// The user who asks; owner of everything.
    pub user: String,
    /// Values of settings that differ from their defaults.
    pub settings: BTreeMap<String, String>,
    /// Its cursors.
    pub cursors: Vec<CursorFacts>,
    /// Its prepared statements.
    pub statements: Vec<StatementFacts>,
}

/// A cursor.
#[derive(Clone, Debug)]
pub struct CursorFacts {
    pub name: String,
    /// The statement that declared it.
    pub sql: String,
    pub hold: bool,
    pub binary: bool,
    /// Whether it can go back.
    pub scroll: bool,
}

/// A prepared statement.
#[derive(Clone, Debug)]
pub struct StatementFacts {
    pub name: String,
    pub sql: String,
    pub parameters: Vec<SqlType>,
    /// Whether PREPARE made it, not the protocol.
    pub from_sql: bool,
}

pub(super) fn cursors(session: &SessionFacts, rows: &mut Rows) {
    for cursor in &session.cursors {
        rows.push([
            ("name", cursor.name.as_str().into()),
            ("statement", cursor.sql.as_str().into()),
            ("is_holdable", cursor.hold.into()),
            ("is_binary", cursor.binary.into()),
            ("is_scrollable", cursor.scroll.into()),
        ]);
    }
}

pub(super) fn statements(session: &SessionFacts, rows: &mut Rows) {
    for statement in &session.statements {
        let types = statement.parameters.iter().map(|ty| ty.to_string()).collect::<Vec<_>>();
        rows.push([
            ("name", statement.name.as_str().into()),
            ("statement", statement.sql.as_str().into()),
            ("parameter_types", types.into()),
            ("from_sql", statement.from_sql.into()),
        ]);
    }
}

//! SQL text to bound statements: `parse` splits a text into statements, `bind` resolves one against a catalog snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::error::Result;
use crate::types::SqlType;

pub mod bound;
pub mod window;
pub mod stack;
mod walk;
pub mod semantics;
pub mod dialect;
pub mod parse;
pub mod options;
pub mod bind;

/// One statement of a text.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The syntax tree.
    pub ast: parse::ast::Statement,
    /// The statement's own text.
    pub text: String,
    /// Where it begins in the whole text, in characters from 0; added to the positions of its errors.
    pub offset: usize,
}

/// What binding depends on besides the catalog.
#[derive(Clone, Debug, Default)]
pub struct BindContext {
    /// What exists.
    pub catalog: Arc<Catalog>,
    /// Schemas to look in, in order; `pg_catalog` comes first by itself.
    pub search_path: Vec<String>,
    /// `TimeZone`, for casts to and from `timestamptz` and its text form.
    pub time_zone: String,
    /// The user, for `current_user`.
    pub user: String,
    /// The session's number, for `pg_backend_pid()`.
    pub pid: i32,
    /// Every setting with its present value, for `current_setting`.
    pub settings: Arc<BTreeMap<String, String>>,
    /// Types of `$1`, `$2`, ... that the client gave; others are inferred.
    pub parameter_types: Vec<Option<SqlType>>,
}

/// Splits a text into statements.
pub fn parse(text: &str) -> Result<Vec<Parsed>> {
    parse::parse(text)
}

/// Resolves a statement.
pub fn bind(statement: &Parsed, context: &BindContext) -> Result<bound::Bound> {
    bind::bind(statement, context)
}

/// Resolves a statement. Of one that may take long the wait can be given up at any time.
pub async fn bind_interruptibly(statement: &Parsed, context: BindContext) -> Result<bound::Bound> {
    if !stack::is_deep(&statement.text) {
        return bind(statement, &context);
    }
    let statement = statement.clone();
    stack::apart(&stack::GIVEN_UP, move || bind(&statement, &context)).await
}

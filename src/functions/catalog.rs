//! The functions of `pg_catalog`: names by OID, definitions, visibility, privileges, and who and where a session is.
//!
//! They are made for one session and one catalog snapshot: what they answer from is a [`CatalogContext`], captured when
//! they are made. Clients call them on a handful of rows, hence row by row.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;

use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use datafusion::common::Result;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::ScalarFunctionArgs;
use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::ScalarUDFImpl;
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::TypeSignature;
use datafusion::logical_expr::Volatility;

use crate::types::known;

mod definitions;
mod session;

/// What exists, by OID and by name: the catalog, as these functions see it.
pub trait Names: fmt::Debug + Send + Sync {
    /// Schema and name of a relation or index.
    fn relation(&self, oid: u32) -> Option<(String, String)>;

    /// The OID of a relation or index.
    fn find(&self, schema: &str, name: &str) -> Option<u32>;

    /// The name of a schema that a user created.
    fn schema(&self, oid: u32) -> Option<String>;

    /// The query of a view, or the definition of an index or a constraint.
    fn definition(&self, oid: u32) -> Option<String>;

    /// The name of a relation's column, counted from 1.
    fn column(&self, relation: u32, number: usize) -> Option<String>;
}

/// Who asks, and about what.
#[derive(Clone, Debug)]
pub struct CatalogContext {
    /// The database's name.
    pub database: String,
    /// The session's user.
    pub user: String,
    /// The role that owns every object.
    pub owner: &'static str,
    /// Schemas that unqualified names are looked for in, besides `pg_catalog`, which comes first.
    pub search_path: Vec<String>,
    /// The session's number, for `pg_backend_pid()`.
    pub pid: i32,
    /// What `version()` says.
    pub version: String,
    /// Every setting with its present value.
    pub settings: Arc<BTreeMap<String, String>>,
    /// The catalog snapshot.
    pub names: Arc<dyn Names>,
}

/// An argument or a result: what these functions deal in.
type Value = ScalarValue;

/// What a function does with one row of arguments.
type Body = fn(&CatalogContext, &[Value]) -> Result<Value>;

/// One function: its name, how many arguments it takes, its type, and what it does.
struct Definition {
    name: &'static str,
    arguments: std::ops::RangeInclusive<usize>,
    returns: DataType,
    body: Body,
}

/// A [`Definition`] bound to its context.
#[derive(Clone)]
struct CatalogFunction {
    name: &'static str,
    signature: Signature,
    returns: DataType,
    body: Body,
    context: Arc<CatalogContext>,
}

/// All functions of this file's family for one session.
pub fn functions(context: &Arc<CatalogContext>) -> Vec<ScalarUDF> {
    all().map(|definition| definition.bind(context)).collect()
}

/// The function of this name, if it is one of this family.
pub fn find(name: &str, context: &Arc<CatalogContext>) -> Option<ScalarUDF> {
    all().find(|definition| definition.name == name).map(|definition| definition.bind(context))
}

fn all() -> impl Iterator<Item = Definition> {
    definitions::definitions().into_iter().chain(session::definitions())
}

impl Definition {
    fn bind(self, context: &Arc<CatalogContext>) -> ScalarUDF {
        let arities = self.arguments.map(|n| if n == 0 { TypeSignature::Nullary } else { TypeSignature::Any(n) });
        ScalarUDF::from(CatalogFunction {
            name: self.name,
            signature: Signature::one_of(arities.collect(), Volatility::Stable),
            returns: self.returns,
            body: self.body,
            context: context.clone(),
        })
    }
}

impl ScalarUDFImpl for CatalogFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = arguments.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { arguments.number_rows };
        let mut results = Vec::with_capacity(rows);
        let mut row = Vec::with_capacity(arguments.args.len());
        for i in 0..rows {
            row.clear();
            for argument in &arguments.args {
                row.push(match argument {
                    ColumnarValue::Scalar(value) => value.clone(),
                    ColumnarValue::Array(array) => ScalarValue::try_from_array(array, i)?,
                });
            }
            let value = (self.body)(&self.context, &row)?;
            results.push(if value.is_null() { ScalarValue::try_from(&self.returns)? } else { value });
        }
        if constant {
            return Ok(ColumnarValue::Scalar(results.swap_remove(0)));
        }
        if results.is_empty() {
            return Ok(ColumnarValue::Array(arrow::array::new_empty_array(&self.returns)));
        }
        Ok(ColumnarValue::Array(ScalarValue::iter_to_array(results)?))
    }
}

impl fmt::Debug for CatalogFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for CatalogFunction {
    fn eq(&self, other: &CatalogFunction) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.context, &other.context)
    }
}

impl Eq for CatalogFunction {}

impl Hash for CatalogFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// A name in SQL, quoted when it must be.
pub fn quote_identifier(name: &str) -> String {
    let mut letters = name.chars();
    let plain = letters.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !RESERVED.contains(&name);
    if plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Words that cannot be a column's name without quotes in Postgres.
pub const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "overlaps",
    "placing",
    "primary",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "similar",
    "some",
    "symmetric",
    "table",
    "tablesample",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
];

impl CatalogContext {
    /// Whether an unqualified name finds this relation.
    fn is_visible(&self, schema: &str, name: &str) -> bool {
        let before = |path: &&String| *path != schema;
        schema == "pg_catalog"
            || (self.search_path.iter().any(|path| path == schema)
                && !self.search_path.iter().take_while(before).any(|path| self.names.find(path, name).is_some())
                && self.names.find("pg_catalog", name).is_none())
    }

    /// A relation's name, with its schema where that is needed to find it.
    fn relation_name(&self, oid: u32) -> Option<String> {
        let (schema, name) = self.names.relation(oid)?;
        let quoted = quote_identifier(&name);
        Some(if self.is_visible(&schema, &name) { quoted } else { format!("{}.{quoted}", quote_identifier(&schema)) })
    }

    /// The OID of a relation by its name as SQL writes it.
    fn relation_oid(&self, text: &str) -> Option<u32> {
        let parts = split_name(text)?;
        match parts.as_slice() {
            [name] => {
                let schemas = std::iter::once("pg_catalog").chain(self.search_path.iter().map(String::as_str));
                schemas.into_iter().find_map(|schema| self.names.find(schema, name))
            }
            [schema, name] => self.names.find(schema, name),
            [database, schema, name] if *database == self.database => self.names.find(schema, name),
            _ => None,
        }
    }
}

/// The parts of a dotted name, folded where they are not quoted; `None` when it is no name.
fn split_name(text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut letters = text.trim().chars().peekable();
    loop {
        let mut part = String::new();
        if letters.next_if_eq(&'"').is_some() {
            loop {
                match letters.next()? {
                    '"' if letters.next_if_eq(&'"').is_some() => part.push('"'),
                    '"' => break,
                    c => part.push(c),
                }
            }
        } else {
            while let Some(c) = letters.next_if(|c| *c != '.' && *c != '"') {
                part.extend(c.to_lowercase());
            }
        }
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        match letters.next() {
            None => return Some(parts),
            Some('.') => {}
            Some(_) => return None,
        }
    }
}

/// An argument as an OID: a number, or text that holds one.
fn oid(arguments: &[Value], index: usize) -> Option<u32> {
    int(arguments, index).and_then(|n| u32::try_from(n).ok())
}

/// An argument as a whole number.
fn int(arguments: &[Value], index: usize) -> Option<i64> {
    match arguments.get(index)? {
        ScalarValue::Int16(n) => n.map(i64::from),
        ScalarValue::Int32(n) => n.map(i64::from),
        ScalarValue::Int64(n) => *n,
        ScalarValue::UInt32(n) => n.map(i64::from),
        ScalarValue::UInt64(n) => n.and_then(|n| i64::try_from(n).ok()),
        other => other.try_as_str().flatten()?.trim().parse().ok(),
    }
}

/// An argument as text.
fn text(arguments: &[Value], index: usize) -> Option<&str> {
    arguments.get(index)?.try_as_str().flatten()
}

/// An argument as a truth value.
fn truth(arguments: &[Value], index: usize) -> Option<bool> {
    match arguments.get(index)? {
        ScalarValue::Boolean(b) => *b,
        other => match other.try_as_str().flatten()? {
            "t" | "true" | "on" | "1" => Some(true),
            "f" | "false" | "off" | "0" => Some(false),
            _ => None,
        },
    }
}

/// A result of text.
fn utf8(value: Option<impl Into<String>>) -> Result<Value> {
    Ok(ScalarValue::Utf8(value.map(Into::into)))
}

/// A result of truth.
fn boolean(value: Option<bool>) -> Result<Value> {
    Ok(ScalarValue::Boolean(value))
}

/// A list of text, as [`text_list_type`].
fn text_list(items: &[String]) -> Value {
    let items: Vec<ScalarValue> = items.iter().map(|item| ScalarValue::from(item.as_str())).collect();
    ScalarValue::List(ScalarValue::new_list_nullable(&items, &DataType::Utf8))
}

/// `text[]`.
fn text_list_type() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)))
}

/// The OID of a type by its name as SQL writes it.
fn type_oid(name: &str) -> Option<u32> {
    let folded = name.trim().to_lowercase();
    let folded = folded.strip_prefix("pg_catalog.").unwrap_or(&folded);
    if let Some(item) = folded.strip_suffix("[]").or_else(|| folded.strip_prefix('_')) {
        return known::named(item.trim()).map(|t| t.array).filter(|oid| *oid != 0);
    }
    let bare = folded.split('(').next().unwrap_or(folded).trim();
    known::named(bare).map(|t| t.oid)
}

#[cfg(test)]
mod tests;

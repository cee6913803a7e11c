//! The types that SQL text names.

use arrow::datatypes::FieldRef;
use datafusion::common::DataFusionError;
use datafusion::logical_expr::planner::TypePlanner;
use sqlparser::ast::{ArrayElemTypeDef, DataType, ObjectName};

use crate::error::{Error, Result};
use crate::sql::bind::names::parts;
use crate::sql::options::nearest;
use crate::sql::semantics::names;
use crate::types::SqlType;

/// Names of types, to suggest the nearest.
const NAMES: [&str; 30] = [
    "boolean",
    "bool",
    "smallint",
    "integer",
    "int",
    "bigint",
    "int2",
    "int4",
    "int8",
    "real",
    "float4",
    "float8",
    "double precision",
    "numeric",
    "decimal",
    "text",
    "varchar",
    "char",
    "bytea",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "interval",
    "oid",
    "name",
    "regclass",
    "regtype",
    "string",
    "float",
];

/// The SQL type that a type's syntax means.
pub fn sql_type(data_type: &DataType) -> Result<SqlType> {
    match data_type {
        DataType::Custom(name, arguments) if arguments.is_empty() => named(name),
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, _) | ArrayElemTypeDef::AngleBracket(item)) => {
            Ok(SqlType::Array(Box::new(sql_type(item)?)))
        }
        DataType::Char(_) | DataType::Character(_) => {
            Err(Error::unsupported(format!("type {} is not supported", data_type.to_string().to_lowercase()))
                .hint("Use varchar(n) or text, which do not pad with blanks."))
        }
        other => names::sql_type(other),
    }
}

/// A type by a name that the parser does not know, with or without `pg_catalog` before it.
fn named(name: &ObjectName) -> Result<SqlType> {
    let parts = parts(name);
    let bare = match parts.as_slice() {
        [bare] => bare,
        [schema, bare] if schema == "pg_catalog" => bare,
        _ => return Err(unknown(&parts.join("."))),
    };
    Ok(match bare.as_str() {
        "bool" | "boolean" => SqlType::Boolean,
        "int2" | "smallint" => SqlType::SmallInt,
        "int4" | "integer" | "int" => SqlType::Integer,
        "int8" | "bigint" => SqlType::BigInt,
        "float4" | "real" => SqlType::Real,
        "float8" => SqlType::Double,
        "numeric" | "decimal" => SqlType::NUMERIC,
        "text" | "varchar" | "bpchar" | "string" => SqlType::Text,
        "bytea" => SqlType::Bytea,
        "date" => SqlType::Date,
        "time" => SqlType::Time,
        "timestamp" => SqlType::Timestamp,
        "timestamptz" => SqlType::Timestamptz,
        "interval" => SqlType::Interval,
        "oid" | "xid" | "cid" | "regclass" | "regtype" | "regproc" | "regnamespace" | "regrole" => SqlType::Oid,
        "name" => SqlType::Name,
        "char" => SqlType::Char,
        other => return Err(unknown(other)),
    })
}

fn unknown(name: &str) -> Error {
    let error = Error::undefined_object(format!("type \"{name}\" does not exist"));
    match nearest(name, NAMES) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => error,
    }
}

/// Tells DataFusion's planner the types of casts.
#[derive(Debug)]
pub struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, data_type: &DataType) -> Result<Option<FieldRef>, DataFusionError> {
        match sql_type(data_type) {
            Ok(ty) => Ok(Some(ty.field("", true).into())),
            Err(error) => Err(DataFusionError::External(Box::new(error))),
        }
    }
}

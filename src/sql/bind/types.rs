//! The types that SQL text names.

use arrow::datatypes::FieldRef;
use datafusion::common::DataFusionError;
use datafusion::logical_expr::planner::TypePlanner;
use sqlparser::ast::{ArrayElemTypeDef, CharacterLength, DataType, ExactNumberInfo, ObjectName, TimezoneInfo};

use crate::error::{Error, Result};
use crate::sql::bind::names::parts;
use crate::sql::options::nearest;
use crate::types::SqlType;

/// What `numeric` without arguments means.
pub const NUMERIC: SqlType = SqlType::Numeric { precision: 38, scale: 9 };

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
    Ok(match data_type {
        DataType::Boolean | DataType::Bool => SqlType::Boolean,
        DataType::SmallInt(None) | DataType::Int2(None) => SqlType::SmallInt,
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => SqlType::Integer,
        DataType::BigInt(None) | DataType::Int8(None) => SqlType::BigInt,
        DataType::Real | DataType::Float4 => SqlType::Real,
        DataType::Float(ExactNumberInfo::Precision(1..=24)) => SqlType::Real,
        DataType::Float(ExactNumberInfo::None | ExactNumberInfo::Precision(25..=53)) => SqlType::Double,
        DataType::Double(ExactNumberInfo::None) | DataType::DoublePrecision | DataType::Float8 => SqlType::Double,
        DataType::Numeric(info) | DataType::Decimal(info) | DataType::Dec(info) => numeric(info)?,
        DataType::Text | DataType::String(None) => SqlType::Text,
        DataType::Varchar(n) | DataType::CharacterVarying(n) | DataType::CharVarying(n) => varchar(n)?,
        DataType::Bytea => SqlType::Bytea,
        DataType::Date => SqlType::Date,
        DataType::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => SqlType::Time,
        DataType::Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => SqlType::Timestamp,
        DataType::Timestamp(_, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => SqlType::Timestamptz,
        DataType::Interval { .. } => SqlType::Interval,
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, _)) => SqlType::Array(Box::new(sql_type(item)?)),
        DataType::Array(ArrayElemTypeDef::AngleBracket(item)) => SqlType::Array(Box::new(sql_type(item)?)),
        DataType::Custom(name, arguments) if arguments.is_empty() => named(name)?,
        DataType::Char(_) | DataType::Character(_) => {
            return Err(Error::unsupported(format!("type {data_type} is not supported"))
                .hint("Use varchar(n) or text, which do not pad with blanks."));
        }
        DataType::Time(..) => return Err(Error::unsupported("type time with time zone is not supported")),
        other => return Err(unknown(&other.to_string().to_lowercase())),
    })
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
        "numeric" | "decimal" => NUMERIC,
        "text" | "varchar" | "bpchar" | "string" => SqlType::Text,
        "bytea" => SqlType::Bytea,
        "date" => SqlType::Date,
        "time" => SqlType::Time,
        "timestamp" => SqlType::Timestamp,
        "timestamptz" => SqlType::Timestamptz,
        "interval" => SqlType::Interval,
        "oid" | "xid" | "cid" => SqlType::Oid,
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

fn numeric(info: &ExactNumberInfo) -> Result<SqlType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => return Ok(NUMERIC),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    if precision == 0 || precision > 38 {
        let error = Error::invalid_parameter(format!("NUMERIC precision {precision} must be between 1 and 38"));
        return Err(error);
    }
    if scale < 0 || scale as u64 > precision {
        return Err(Error::invalid_parameter(format!("NUMERIC scale {scale} must be between 0 and {precision}")));
    }
    Ok(SqlType::Numeric { precision: precision as u8, scale: scale as i8 })
}

fn varchar(length: &Option<CharacterLength>) -> Result<SqlType> {
    match length {
        None | Some(CharacterLength::Max) => Ok(SqlType::Text),
        Some(CharacterLength::IntegerLength { length, .. }) => match u32::try_from(*length) {
            Ok(length @ 1..=10_485_760) => Ok(SqlType::Varchar(length)),
            Ok(0) => Err(Error::invalid_parameter("length for type varchar must be at least 1")),
            _ => Err(Error::invalid_parameter("length for type varchar cannot exceed 10485760")),
        },
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

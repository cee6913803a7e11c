//! The names of types in SQL.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::logical_expr::planner::TypePlanner;
use sqlparser::ast::ArrayElemTypeDef;
use sqlparser::ast::CharacterLength;
use sqlparser::ast::DataType;
use sqlparser::ast::ExactNumberInfo;
use sqlparser::ast::TimezoneInfo;

use crate::error::Error;
use crate::error::Result;
use crate::functions::raise::raise;
use crate::types::SqlType;
use crate::types::numeric::PRECISION_MAX;

/// The type that SQL names; 0A000 for one that we lack.
pub fn sql_type(ty: &DataType) -> Result<SqlType> {
    Ok(match ty {
        DataType::Boolean | DataType::Bool => SqlType::Boolean,
        DataType::SmallInt(_) | DataType::Int2(_) => SqlType::SmallInt,
        DataType::Int(_) | DataType::Integer(_) | DataType::Int4(_) => SqlType::Integer,
        DataType::BigInt(_) | DataType::Int8(_) => SqlType::BigInt,
        DataType::Real | DataType::Float4 => SqlType::Real,
        DataType::DoublePrecision | DataType::Double(_) | DataType::Float8 => SqlType::Double,
        DataType::Float(bits) => float(bits)?,
        DataType::Numeric(info) | DataType::Decimal(info) | DataType::Dec(info) => numeric(info)?,
        DataType::Text | DataType::String(_) => SqlType::Text,
        DataType::Varchar(length) | DataType::CharacterVarying(length) | DataType::CharVarying(length) => {
            varchar(length)?
        }
        DataType::Bytea => SqlType::Bytea,
        DataType::Date => SqlType::Date,
        DataType::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => SqlType::Time,
        DataType::Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => SqlType::Timestamp,
        DataType::Timestamp(_, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => SqlType::Timestamptz,
        DataType::Interval { .. } => SqlType::Interval,
        DataType::Regclass => SqlType::Oid,
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, _) | ArrayElemTypeDef::AngleBracket(item)) => {
            SqlType::Array(Box::new(sql_type(item)?))
        }
        DataType::Custom(name, _) => custom(&name.to_string())?,
        other => return Err(Error::unsupported(format!("type {} is not supported", other.to_string().to_lowercase()))),
    })
}

fn float(bits: &ExactNumberInfo) -> Result<SqlType> {
    match bits {
        ExactNumberInfo::None => Ok(SqlType::Double),
        ExactNumberInfo::Precision(1..=24) => Ok(SqlType::Real),
        ExactNumberInfo::Precision(25..=53) => Ok(SqlType::Double),
        _ => Err(Error::invalid_parameter("precision for type float must be between 1 and 53 bits")),
    }
}

fn numeric(info: &ExactNumberInfo) -> Result<SqlType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => return Ok(SqlType::NUMERIC),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    if !(1..=1000).contains(&precision) {
        return Err(Error::invalid_parameter(format!("NUMERIC precision {precision} must be between 1 and 1000")));
    }
    if precision > PRECISION_MAX as u64 {
        return Err(Error::unsupported(format!("numeric with {precision} digits is not supported"))
            .hint(format!("A numeric has at most {PRECISION_MAX} digits.")));
    }
    if !(0..=precision as i64).contains(&scale) {
        return Err(Error::unsupported(format!("NUMERIC scale {scale} must be between 0 and precision {precision}")));
    }
    Ok(SqlType::Numeric { precision: precision as u8, scale: scale as i8 })
}

fn varchar(length: &Option<CharacterLength>) -> Result<SqlType> {
    match length {
        None | Some(CharacterLength::Max) => Ok(SqlType::Text),
        Some(CharacterLength::IntegerLength { length: 0, .. }) => {
            Err(Error::invalid_parameter("length for type varchar must be at least 1"))
        }
        Some(CharacterLength::IntegerLength { length, .. }) if *length > 10_485_760 => {
            Err(Error::invalid_parameter("length for type varchar cannot exceed 10485760"))
        }
        Some(CharacterLength::IntegerLength { length, .. }) => Ok(SqlType::Varchar(*length as u32)),
    }
}

fn custom(name: &str) -> Result<SqlType> {
    let plain = name.rsplit('.').next().unwrap_or(name);
    Ok(match plain.to_ascii_lowercase().as_str() {
        "name" => SqlType::Name,
        "\"char\"" => SqlType::Char,
        "oid" | "regclass" | "regtype" | "regproc" | "regnamespace" | "regrole" => SqlType::Oid,
        "timestamptz" => SqlType::Timestamptz,
        _ => return Err(Error::undefined_object(format!("type \"{plain}\" does not exist"))),
    })
}

/// Tells DataFusion what the names of types mean.
#[derive(Debug)]
pub struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, ty: &DataType) -> datafusion::common::Result<Option<FieldRef>> {
        let ty = sql_type(ty).map_err(raise)?;
        Ok(Some(Arc::new(ty.field("", true))))
    }
}

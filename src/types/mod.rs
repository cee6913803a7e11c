//! SQL types on top of Arrow: each SQL type has exactly one Arrow type on every plan edge and in every stored row.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

pub mod binary;
pub mod calendar;
pub mod cast;
pub mod datetime;
pub mod interval;
pub mod known;
pub mod numeric;
pub mod oid;
pub mod parse;
pub mod text;
pub mod zone;

#[cfg(test)]
mod tests;

/// The time zone written into the Arrow type of `timestamptz`. Values are always UTC.
pub const UTC: &str = "UTC";

/// The Arrow field metadata key that keeps a SQL type which its Arrow type alone does not tell (`varchar(20)`, `oid`).
pub const TYPE_KEY: &str = "ms.type";

/// The hidden column that changes of a table or source with a watermark carry: the watermark at the end of the epoch
/// before the row's.
pub const WATERMARK_COLUMN: &str = "ms_watermark";

/// The hidden row id of a table without PRIMARY KEY.
pub const ROW_ID_COLUMN: &str = "ms_row_id";

/// A SQL type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SqlType {
    Boolean,
    SmallInt,
    Integer,
    BigInt,
    Real,
    Double,
    /// `numeric(precision, scale)`; without arguments 38 digits, 9 after the point.
    Numeric {
        precision: u8,
        scale: i8,
    },
    Text,
    /// `varchar(n)`: at most `n` characters.
    Varchar(u32),
    Bytea,
    Date,
    Time,
    /// Microseconds, no zone.
    Timestamp,
    /// Microseconds, UTC.
    Timestamptz,
    Interval,
    /// `oid` of the system catalog.
    Oid,
    /// `name` of the system catalog.
    Name,
    /// `"char"` of the system catalog.
    Char,
    /// `T[]`.
    Array(Box<SqlType>),
}

impl SqlType {
    /// `numeric` without arguments.
    pub const NUMERIC: SqlType = SqlType::Numeric { precision: 38, scale: 9 };

    /// The one Arrow type of this SQL type.
    pub fn arrow(&self) -> DataType {
        match self {
            SqlType::Boolean => DataType::Boolean,
            SqlType::SmallInt => DataType::Int16,
            SqlType::Integer => DataType::Int32,
            SqlType::BigInt => DataType::Int64,
            SqlType::Real => DataType::Float32,
            SqlType::Double => DataType::Float64,
            SqlType::Numeric { precision, scale } => DataType::Decimal128(*precision, *scale),
            SqlType::Text | SqlType::Varchar(_) | SqlType::Name | SqlType::Char => DataType::Utf8,
            SqlType::Bytea => DataType::Binary,
            SqlType::Date => DataType::Date32,
            SqlType::Time => DataType::Time64(TimeUnit::Microsecond),
            SqlType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            SqlType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            SqlType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            SqlType::Oid => DataType::Int64,
            SqlType::Array(item) => DataType::List(Arc::new(Field::new_list_field(item.arrow(), true))),
        }
    }

    /// The SQL type of an Arrow field: what its metadata says, else what its Arrow type means. `None` for an Arrow type
    /// that no SQL type maps to (`UInt64`, say): a plan output of that type is a defect, to be cast.
    pub fn of_field(field: &Field) -> Option<SqlType> {
        if let Some(json) = field.metadata().get(TYPE_KEY) {
            return serde_json::from_str(json).ok();
        }
        SqlType::of_arrow(field.data_type())
    }

    /// The SQL type that an Arrow type means by itself.
    pub fn of_arrow(data_type: &DataType) -> Option<SqlType> {
        Some(match data_type {
            DataType::Boolean => SqlType::Boolean,
            DataType::Int16 => SqlType::SmallInt,
            DataType::Int32 => SqlType::Integer,
            DataType::Int64 => SqlType::BigInt,
            DataType::Float32 => SqlType::Real,
            DataType::Float64 => SqlType::Double,
            DataType::Decimal128(precision, scale) => SqlType::Numeric { precision: *precision, scale: *scale },
            DataType::Utf8 => SqlType::Text,
            DataType::Binary => SqlType::Bytea,
            DataType::Date32 => SqlType::Date,
            DataType::Time64(TimeUnit::Microsecond) => SqlType::Time,
            DataType::Timestamp(TimeUnit::Microsecond, None) => SqlType::Timestamp,
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => SqlType::Timestamptz,
            DataType::Interval(IntervalUnit::MonthDayNano) => SqlType::Interval,
            DataType::List(item) => SqlType::Array(Box::new(SqlType::of_field(item)?)),
            _ => return None,
        })
    }

    /// The Arrow field of a column of this type.
    pub fn field(&self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.arrow(), nullable);
        if SqlType::of_arrow(field.data_type()).as_ref() == Some(self) {
            return field;
        }
        let json = serde_json::to_string(self).expect("a type is plain data");
        field.with_metadata([(TYPE_KEY.to_string(), json)].into())
    }
}

/// The name as `format_type` and `\d` show it.
impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SqlType::Boolean => f.write_str("boolean"),
            SqlType::SmallInt => f.write_str("smallint"),
            SqlType::Integer => f.write_str("integer"),
            SqlType::BigInt => f.write_str("bigint"),
            SqlType::Real => f.write_str("real"),
            SqlType::Double => f.write_str("double precision"),
            SqlType::Numeric { precision, scale } => write!(f, "numeric({precision},{scale})"),
            SqlType::Text => f.write_str("text"),
            SqlType::Varchar(n) => write!(f, "character varying({n})"),
            SqlType::Bytea => f.write_str("bytea"),
            SqlType::Date => f.write_str("date"),
            SqlType::Time => f.write_str("time without time zone"),
            SqlType::Timestamp => f.write_str("timestamp without time zone"),
            SqlType::Timestamptz => f.write_str("timestamp with time zone"),
            SqlType::Interval => f.write_str("interval"),
            SqlType::Oid => f.write_str("oid"),
            SqlType::Name => f.write_str("name"),
            SqlType::Char => f.write_str("\"char\""),
            SqlType::Array(item) => write!(f, "{item}[]"),
        }
    }
}

/// A column of a relation or of a plan edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name; on plan edges not necessarily unique.
    pub name: String,
    /// Its type.
    pub ty: SqlType,
    /// Whether it may hold NULL.
    pub nullable: bool,
}

impl Column {
    /// A column that may hold NULL.
    pub fn new(name: impl Into<String>, ty: SqlType) -> Column {
        Column { name: name.into(), ty, nullable: true }
    }
}

/// The Arrow schema of these columns. Every field is nullable for Arrow: nullability is ours, and a batch whose column
/// happens to hold no NULL must not differ in schema from one that does.
pub fn schema_of(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|c| c.ty.field(&c.name, true)).collect::<Vec<_>>()))
}

//! Types as Postgres numbers them.

use crate::types::SqlType;

impl SqlType {
    /// The type's OID in `pg_type`.
    pub fn oid(&self) -> u32 {
        match self {
            SqlType::Boolean => 16,
            SqlType::Bytea => 17,
            SqlType::Char => 18,
            SqlType::Name => 19,
            SqlType::BigInt => 20,
            SqlType::SmallInt => 21,
            SqlType::Integer => 23,
            SqlType::Text => 25,
            SqlType::Oid => 26,
            SqlType::Real => 700,
            SqlType::Double => 701,
            SqlType::Varchar(_) => 1043,
            SqlType::Date => 1082,
            SqlType::Time => 1083,
            SqlType::Timestamp => 1114,
            SqlType::Timestamptz => 1184,
            SqlType::Interval => 1186,
            SqlType::Numeric { .. } => 1700,
            SqlType::Array(item) => item.array_oid(),
        }
    }

    /// The OID of the array of this type. An array of arrays is of the same type as the array, as in Postgres.
    pub fn array_oid(&self) -> u32 {
        match self {
            SqlType::Boolean => 1000,
            SqlType::Bytea => 1001,
            SqlType::Char => 1002,
            SqlType::Name => 1003,
            SqlType::SmallInt => 1005,
            SqlType::Integer => 1007,
            SqlType::Text => 1009,
            SqlType::Varchar(_) => 1015,
            SqlType::BigInt => 1016,
            SqlType::Real => 1021,
            SqlType::Double => 1022,
            SqlType::Oid => 1028,
            SqlType::Timestamp => 1115,
            SqlType::Date => 1182,
            SqlType::Time => 1183,
            SqlType::Timestamptz => 1185,
            SqlType::Interval => 1187,
            SqlType::Numeric { .. } => 1231,
            SqlType::Array(item) => item.array_oid(),
        }
    }

    /// The bytes that a value takes in Postgres; −1: it varies.
    pub fn typlen(&self) -> i16 {
        match self {
            SqlType::Boolean | SqlType::Char => 1,
            SqlType::SmallInt => 2,
            SqlType::Integer | SqlType::Real | SqlType::Date | SqlType::Oid => 4,
            SqlType::BigInt | SqlType::Double | SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz => 8,
            SqlType::Interval => 16,
            SqlType::Name => 64,
            SqlType::Numeric { .. } | SqlType::Text | SqlType::Varchar(_) | SqlType::Bytea | SqlType::Array(_) => -1,
        }
    }

    /// The type modifier of `pg_attribute` and of a row description; −1: none.
    pub fn typmod(&self) -> i32 {
        match self {
            SqlType::Varchar(length) => *length as i32 + 4,
            SqlType::Numeric { precision, scale } => ((*precision as i32) << 16 | (*scale as i32 & 0x7ff)) + 4,
            SqlType::Array(item) => item.typmod(),
            SqlType::Boolean
            | SqlType::SmallInt
            | SqlType::Integer
            | SqlType::BigInt
            | SqlType::Real
            | SqlType::Double
            | SqlType::Text
            | SqlType::Bytea
            | SqlType::Date
            | SqlType::Time
            | SqlType::Timestamp
            | SqlType::Timestamptz
            | SqlType::Interval
            | SqlType::Oid
            | SqlType::Name
            | SqlType::Char => -1,
        }
    }

    /// The type with this OID, without a modifier; `None` for one that we lack. `varchar` without a length is `text`.
    pub fn from_oid(oid: u32) -> Option<SqlType> {
        const PLAIN: [SqlType; 17] = [
            SqlType::Boolean,
            SqlType::Bytea,
            SqlType::Char,
            SqlType::Name,
            SqlType::BigInt,
            SqlType::SmallInt,
            SqlType::Integer,
            SqlType::Text,
            SqlType::Oid,
            SqlType::Real,
            SqlType::Double,
            SqlType::Date,
            SqlType::Time,
            SqlType::Timestamp,
            SqlType::Timestamptz,
            SqlType::Interval,
            SqlType::NUMERIC,
        ];
        const TEXTS: [u32; 3] = [1042, 1043, 705];
        if TEXTS.contains(&oid) {
            return Some(SqlType::Text);
        }
        if oid == 1015 {
            return Some(SqlType::Array(Box::new(SqlType::Text)));
        }
        PLAIN.into_iter().find_map(|ty| match oid {
            oid if oid == ty.oid() => Some(ty),
            oid if oid == ty.array_oid() => Some(SqlType::Array(Box::new(ty))),
            _ => None,
        })
    }
}

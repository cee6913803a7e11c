//! Constants between DataFusion's `ScalarValue` and the text form in which a stored plan holds them.

use datafusion::common::ScalarValue;

use crate::error::Error;
use crate::error::Result;
use crate::functions::from_datafusion;
use crate::plan::ir::Literal;
use crate::types::SqlType;
use crate::types::parse;
use crate::types::text;
use crate::types::zone::Zone;

/// A constant in its stored form.
pub fn from_value(value: &ScalarValue, ty: SqlType) -> Result<Literal> {
    if value.is_null() {
        return Ok(Literal { ty, text: None });
    }
    let array = value.cast_to(&ty.arrow()).and_then(|v| v.to_array()).map_err(from_datafusion)?;
    let mut text = String::new();
    text::format(&array, &ty, 0, Zone::UTC, &mut text)?;
    Ok(Literal { ty, text: Some(text) })
}

/// The value of a stored constant.
pub fn to_value(literal: &Literal) -> Result<ScalarValue> {
    let array = match &literal.text {
        Some(text) => parse::parse(text, &literal.ty, Zone::UTC).map_err(|error| {
            let message = format!("a stored plan has '{text}' for a constant of type {}", literal.ty);
            Error::corrupted(message).detail(format!("{error}."))
        })?,
        None => parse::null(&literal.ty),
    };
    ScalarValue::try_from_array(&array, 0).map_err(from_datafusion)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let interval = ScalarValue::new_interval_mdn(14, -3, 1_500_000_000);
        for (value, ty) in [
            (ScalarValue::Int64(Some(-5)), SqlType::BigInt),
            (ScalarValue::Float64(Some(1.0 / 3.0)), SqlType::Double),
            (ScalarValue::Boolean(Some(true)), SqlType::Boolean),
            (ScalarValue::Float64(Some(-0.1)), SqlType::Double),
            (ScalarValue::Float64(Some(f64::NEG_INFINITY)), SqlType::Double),
            (ScalarValue::Float32(Some(1e-30)), SqlType::Real),
            (ScalarValue::Utf8(Some("a'\u{e9}".into())), SqlType::Varchar(3)),
            (ScalarValue::Binary(Some(vec![0, 255, 16])), SqlType::Bytea),
            (ScalarValue::Date32(Some(-400)), SqlType::Date),
            (ScalarValue::Decimal128(Some(-12345), 9, 2), SqlType::Numeric { precision: 9, scale: 2 }),
            (ScalarValue::TimestampMicrosecond(Some(1), None), SqlType::Timestamp),
            (ScalarValue::TimestampMicrosecond(Some(-7), Some("UTC".into())), SqlType::Timestamptz),
            (interval, SqlType::Interval),
            (ScalarValue::Utf8(None), SqlType::Text),
        ] {
            let literal = from_value(&value, ty).unwrap();
            assert_eq!(to_value(&literal).unwrap(), value, "{literal:?}");
        }
    }
}

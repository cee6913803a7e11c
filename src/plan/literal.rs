//! Constants between DataFusion's `ScalarValue` and the text form in which a stored plan holds them.

use arrow::array::BinaryArray;
use arrow::compute::CastOptions;
use arrow::compute::cast_with_options;
use arrow::datatypes::DataType;
use arrow::util::display::FormatOptions;
use datafusion::common::ScalarValue;

use crate::error::Error;
use crate::error::Result;
use crate::plan::ir::Literal;
use crate::types::SqlType;

/// A constant in its stored form.
pub fn from_value(value: &ScalarValue, ty: SqlType) -> Result<Literal> {
    if value.is_null() {
        return Ok(Literal { ty, text: None });
    }
    let value = value.cast_to(&ty.arrow()).map_err(|_| unsupported(&ty))?;
    let text = match &value {
        ScalarValue::Utf8(Some(text)) => text.clone(),
        ScalarValue::Boolean(Some(b)) => String::from(if *b { "t" } else { "f" }),
        ScalarValue::Binary(Some(bytes)) => hex(bytes),
        ScalarValue::Float32(Some(x)) => x.to_string(),
        ScalarValue::Float64(Some(x)) => x.to_string(),
        ScalarValue::List(_) => return Err(unsupported(&ty)),
        other => match other.cast_to(&DataType::Utf8) {
            Ok(ScalarValue::Utf8(Some(text))) => text,
            _ => return Err(unsupported(&ty)),
        },
    };
    Ok(Literal { ty, text: Some(text) })
}

/// The value of a stored constant.
pub fn to_value(literal: &Literal) -> Result<ScalarValue> {
    let damaged = || Error::corrupted(format!("{:?} is no constant of type {}", literal.text, literal.ty));
    let data_type = literal.ty.arrow();
    let Some(text) = &literal.text else {
        return ScalarValue::try_from(&data_type).map_err(|_| damaged());
    };
    match data_type {
        DataType::Utf8 => Ok(ScalarValue::Utf8(Some(text.clone()))),
        DataType::Boolean => Ok(ScalarValue::Boolean(Some(text == "t"))),
        DataType::Binary => {
            let bytes = unhex(text).ok_or_else(damaged)?;
            ScalarValue::try_from_array(&BinaryArray::from_vec(vec![&bytes]), 0).map_err(|_| damaged())
        }
        _ => {
            let options = CastOptions { safe: false, format_options: FormatOptions::default() };
            let array = arrow::array::StringArray::from(vec![text.as_str()]);
            let array = cast_with_options(&array, &data_type, &options).map_err(|_| damaged())?;
            ScalarValue::try_from_array(&array, 0).map_err(|_| damaged())
        }
    }
}

fn unsupported(ty: &SqlType) -> Error {
    Error::unsupported(format!("a constant of type {ty} cannot be stored with a view"))
        .hint("Compute it from constants of simpler types.")
}

/// Bytes as Postgres writes them.
fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|b| format!("{b:02x}"));
    std::iter::once(String::from("\\x")).chain(digits).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let interval = ScalarValue::new_interval_mdn(14, -3, 1_500_000_000);
        for (value, ty) in [
            (ScalarValue::Int64(Some(-5)), SqlType::BigInt),
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

//! What assignment does that a cast does not: [`varchar_assign`](VarcharAssign) refuses text that is too long.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::error::Error;

/// [`VarcharAssign`] as DataFusion wants it.
pub fn varchar_assign() -> Arc<ScalarUDF> {
    let signature = Signature::exact(vec![DataType::Utf8, DataType::Int64], Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(VarcharAssign { signature }))
}

/// `varchar_assign(text, n)`: the text if it has at most `n` characters, blanks at its end cut off for that; else an error.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct VarcharAssign {
    /// Text and length.
    signature: Signature,
}

impl ScalarUDFImpl for VarcharAssign {
    fn name(&self) -> &str {
        "varchar_assign"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [text, ColumnarValue::Scalar(ScalarValue::Int64(Some(length)))] = args.args.as_slice() else {
            return plan_err!("varchar_assign takes a text and a constant length");
        };
        let length = *length as usize;
        let array = text.to_array(args.number_rows)?;
        let texts = array.as_string::<i32>();
        // No character is shorter than a byte: mostly nothing is counted, and the array passes as it is.
        if texts.iter().flatten().all(|text| text.len() <= length) {
            return Ok(ColumnarValue::Array(array));
        }
        let cut: Result<StringArray> = texts.iter().map(|text| text.map(|t| cut(t, length)).transpose()).collect();
        Ok(ColumnarValue::Array(Arc::new(cut?) as ArrayRef))
    }
}

/// The text without the blanks that are too many.
fn cut(text: &str, length: usize) -> Result<&str> {
    let Some((end, _)) = text.char_indices().nth(length) else { return Ok(text) };
    if text[end..].bytes().all(|b| b == b' ') {
        return Ok(&text[..end]);
    }
    let error = Error::string_too_long(format!("value too long for type character varying({length})"));
    Err(DataFusionError::External(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blanks_are_cut() {
        assert_eq!(cut("abc", 3).unwrap(), "abc");
        assert_eq!(cut("äöü  ", 3).unwrap(), "äöü");
        assert!(cut("abcd", 3).is_err());
    }
}

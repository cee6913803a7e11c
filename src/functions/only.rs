//! `only`: the value of a group that has one row at most; a second row is Postgres' error of a scalar subquery (21000).

use std::sync::Arc;

use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::AsArray;
use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use arrow::datatypes::FieldRef;
use datafusion::common::Result;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Accumulator;
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::AggregateUDFImpl;
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::Volatility;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::function::StateFieldsArgs;

use crate::error::Error;
use crate::functions::raise::raise;

/// What the function is called in plans; no SQL name can be spelt so without quotes.
pub const ONLY: &str = "Only";

/// The function.
pub fn only() -> AggregateUDF {
    AggregateUDF::from(Only { signature: Signature::any(1, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Only {
    signature: Signature,
}

impl AggregateUDFImpl for Only {
    fn name(&self) -> &str {
        ONLY
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(One { value: ScalarValue::try_from(args.return_field.data_type())?, seen: false }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let value = Field::new(format!("{}[value]", args.name), args.return_field.data_type().clone(), true);
        let seen = Field::new(format!("{}[seen]", args.name), DataType::Boolean, true);
        Ok(vec![Arc::new(value), Arc::new(seen)])
    }
}

/// What a group has seen.
#[derive(Debug)]
struct One {
    /// The value of its row; NULL before.
    value: ScalarValue,
    /// Whether it had a row.
    seen: bool,
}

impl One {
    fn take(&mut self, values: &ArrayRef, row: usize) -> Result<()> {
        if self.seen {
            let message = "more than one row returned by a subquery used as an expression";
            return Err(raise(Error::cardinality(message)));
        }
        self.seen = true;
        self.value = ScalarValue::try_from_array(values, row)?;
        Ok(())
    }
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        (0..values[0].len()).try_for_each(|row| self.take(&values[0], row))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn size(&self) -> usize {
        size_of::<One>() + self.value.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), ScalarValue::Boolean(Some(self.seen))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let seen = states[1].as_boolean();
        (0..seen.len()).filter(|row| seen.value(*row)).try_for_each(|row| self.take(&states[0], row))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int32Array;

    use super::*;

    #[test]
    fn a_second_row_is_an_error() {
        let one: ArrayRef = Arc::new(Int32Array::from(vec![7]));
        let mut group = One { value: ScalarValue::Int32(None), seen: false };
        assert_eq!(group.evaluate().unwrap(), ScalarValue::Int32(None));
        group.update_batch(std::slice::from_ref(&one)).unwrap();
        assert_eq!(group.evaluate().unwrap(), ScalarValue::Int32(Some(7)));
        assert!(group.update_batch(&[one]).is_err());
    }
}

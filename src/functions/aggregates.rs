//! `sum` and `avg` over batches, for reads; maintained views share their arithmetic ([`accumulators`](super::accumulators)).

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::AsArray;
use arrow::array::types::Decimal128Type;
use arrow::array::types::Float32Type;
use arrow::array::types::Float64Type;
use arrow::array::types::Int16Type;
use arrow::array::types::Int32Type;
use arrow::array::types::Int64Type;
use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use arrow::datatypes::FieldRef;
use datafusion::common::Result as DfResult;
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate::bool_and_or;
use datafusion::logical_expr::Accumulator;
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::AggregateUDFImpl;
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::Volatility;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::function::StateFieldsArgs;

use crate::error::Error;
use crate::error::Result;
use crate::functions::accumulators::ExactFloat;
use crate::functions::accumulators::WideSum;
use crate::functions::accumulators::avg_type;
use crate::functions::accumulators::sum_type;
use crate::functions::define::known;
use crate::functions::define::no_function;
use crate::functions::operator::scale_of;
use crate::functions::raise::raise;
use crate::types::SqlType;

/// The functions of this file, and `every`.
pub fn functions() -> Vec<AggregateUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    let sum = Sum { average: false, aliases: Vec::new(), signature: signature.clone() };
    let avg = Sum { average: true, aliases: vec!["mean".to_string()], signature };
    let every = bool_and_or::bool_and_udaf().as_ref().clone().with_aliases(["every"]);
    vec![AggregateUDF::from(sum), AggregateUDF::from(avg), every]
}

/// `sum` or `avg`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Sum {
    average: bool,
    aliases: Vec<String>,
    signature: Signature,
}

impl Sum {
    /// The types of argument and result.
    fn types(&self, types: &[DataType]) -> Result<(SqlType, SqlType)> {
        let types: Vec<_> = types.iter().map(known).collect();
        let rule = if self.average { avg_type } else { sum_type };
        let argument = match types.as_slice() {
            [None] => Some(SqlType::Double),
            [Some(ty)] => Some(ty.clone()),
            _ => None,
        };
        let result = argument.as_ref().and_then(rule);
        argument.zip(result).ok_or_else(|| no_function(self.name(), &types))
    }
}

impl AggregateUDFImpl for Sum {
    fn name(&self) -> &str {
        if self.average { "avg" } else { "sum" }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(vec![self.types(types).map_err(raise)?.0.arrow()])
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(self.types(types).map_err(raise)?.1.arrow())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        let types: Vec<_> = args.expr_fields.iter().map(|field| field.data_type().clone()).collect();
        let (argument, result) = self.types(&types).map_err(raise)?;
        let float = matches!(argument, SqlType::Real | SqlType::Double);
        Ok(Box::new(SumAccumulator {
            total: if float { Total::Float(ExactFloat::default()) } else { Total::Whole(WideSum::default()) },
            count: 0,
            distinct: args.is_distinct.then(HashSet::new),
            average: self.average,
            argument,
            result,
        }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[state]", args.name), DataType::Binary, true))])
    }
}

/// What a group has seen.
#[derive(Debug)]
struct SumAccumulator {
    argument: SqlType,
    result: SqlType,
    average: bool,
    /// How many values that are not NULL.
    count: i64,
    total: Total,
    /// With DISTINCT, the values that were counted; floats by their bits.
    distinct: Option<HashSet<i128>>,
}

#[derive(Debug)]
enum Total {
    Whole(WideSum),
    Float(ExactFloat),
}

impl SumAccumulator {
    fn add(&mut self, values: &ArrayRef, weight: i64) -> Result<()> {
        match &self.argument {
            SqlType::SmallInt => {
                values.as_primitive::<Int16Type>().iter().flatten().for_each(|v| self.whole(v.into(), weight))
            }
            SqlType::Integer => {
                values.as_primitive::<Int32Type>().iter().flatten().for_each(|v| self.whole(v.into(), weight))
            }
            SqlType::BigInt => {
                values.as_primitive::<Int64Type>().iter().flatten().for_each(|v| self.whole(v.into(), weight))
            }
            SqlType::Numeric { .. } => {
                values.as_primitive::<Decimal128Type>().iter().flatten().for_each(|v| self.whole(v, weight))
            }
            SqlType::Real => {
                values.as_primitive::<Float32Type>().iter().flatten().for_each(|v| self.float(v.into(), weight))
            }
            SqlType::Double => {
                values.as_primitive::<Float64Type>().iter().flatten().for_each(|v| self.float(v, weight))
            }
            other => return Err(Error::internal(format!("sum of {other}"))),
        }
        Ok(())
    }

    fn whole(&mut self, value: i128, weight: i64) {
        if self.distinct.as_mut().is_none_or(|seen| seen.insert(value))
            && let Total::Whole(sum) = &mut self.total
        {
            sum.add(value, weight);
            self.count += weight;
        }
    }

    fn float(&mut self, value: f64, weight: i64) {
        let canonical = if value.is_nan() { f64::NAN } else { value + 0.0 };
        if self.distinct.as_mut().is_none_or(|seen| seen.insert(canonical.to_bits() as i128))
            && let Total::Float(sum) = &mut self.total
        {
            sum.add(value, weight);
            self.count += weight;
        }
    }

    fn value(&self) -> Result<ScalarValue> {
        if self.count == 0 {
            return ScalarValue::try_from(&self.result.arrow()).map_err(crate::functions::from_datafusion);
        }
        Ok(match (&self.total, &self.result) {
            (Total::Float(sum), SqlType::Real) => ScalarValue::Float32(Some(sum.value_real()?)),
            (Total::Float(sum), _) if self.average => ScalarValue::Float64(Some(sum.average(self.count)?)),
            (Total::Float(sum), _) => ScalarValue::Float64(Some(sum.value()?)),
            (Total::Whole(sum), SqlType::BigInt) => ScalarValue::Int64(Some(sum.sum(&self.result)? as i64)),
            (Total::Whole(sum), result) => {
                let scale = scale_of(result);
                let value = match self.average {
                    true => sum.average(self.count, (scale - scale_of(&self.argument)) as u32)?,
                    false => sum.sum(result)?,
                };
                ScalarValue::Decimal128(Some(value), 38, scale)
            }
        })
    }

    /// The count and the sum; with DISTINCT the values.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(seen) = &self.distinct {
            seen.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
            return bytes;
        }
        bytes.extend_from_slice(&self.count.to_le_bytes());
        match &self.total {
            Total::Whole(sum) => sum.to_bytes(&mut bytes),
            Total::Float(sum) => sum.to_bytes(&mut bytes),
        }
        bytes
    }

    fn merge(&mut self, mut bytes: &[u8]) -> Result<()> {
        let damaged = || Error::internal("the state of an aggregate is damaged");
        if self.distinct.is_some() {
            for value in bytes.chunks_exact(16) {
                let value = i128::from_le_bytes(value.try_into().map_err(|_| damaged())?);
                match self.total {
                    Total::Whole(_) => self.whole(value, 1),
                    Total::Float(_) => self.float(f64::from_bits(value as u64), 1),
                }
            }
            return Ok(());
        }
        let (count, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
        self.count += i64::from_le_bytes(*count);
        bytes = rest;
        match &mut self.total {
            Total::Whole(sum) => sum.merge(&WideSum::from_bytes(&mut bytes)?),
            Total::Float(sum) => sum.merge(&ExactFloat::from_bytes(&mut bytes)?),
        }
        Ok(())
    }
}

impl Accumulator for SumAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.add(&values[0], 1).map_err(raise)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.add(&values[0], -1).map_err(raise)
    }

    fn supports_retract_batch(&self) -> bool {
        self.distinct.is_none()
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        self.value().map_err(raise)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.distinct.as_ref().map_or(0, |seen| seen.capacity() * 16)
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.encode()))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let states = states[0].as_binary::<i32>();
        states.iter().flatten().try_for_each(|state| self.merge(state)).map_err(raise)
    }
}

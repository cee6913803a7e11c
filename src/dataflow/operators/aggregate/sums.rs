//! `sum` and `avg`: exact totals with weights, rounded and checked only when the result is asked for.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::AsArray;
use arrow::array::Decimal128Array;
use arrow::array::Float32Array;
use arrow::array::Float64Array;
use arrow::array::Int64Array;
use arrow::datatypes::ArrowPrimitiveType;
use arrow::datatypes::DataType;
use arrow::datatypes::Decimal128Type;
use arrow::datatypes::Float32Type;
use arrow::datatypes::Float64Type;
use arrow::datatypes::Int16Type;
use arrow::datatypes::Int32Type;
use arrow::datatypes::Int64Type;

use crate::delta::arrow_error;
use crate::error::Error;
use crate::error::Result;
use crate::functions::accumulators::ExactFloat;
use crate::functions::accumulators::WideSum;
use crate::state::Moves;
use crate::types::SqlType;

use super::accumulators::Accumulators;
use super::accumulators::Rows;
use super::accumulators::argument;
use super::record::put_integer;
use super::record::take_integer;
use super::record::take_long;

/// Which of the two that keep a sum.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SumResult {
    Sum,
    Avg,
}

/// A column for `sum` or `avg` of `argument`, with results of type `ty`.
pub(super) fn sums(argument: &SqlType, result: SumResult, ty: &SqlType) -> Result<Box<dyn Accumulators>> {
    let refused = || Error::internal(format!("no sum of {argument} as {ty}"));
    Ok(match argument {
        SqlType::SmallInt | SqlType::Integer | SqlType::BigInt => {
            Box::new(ExactSums::<i128>::new(0, result, ty).ok_or_else(refused)?)
        }
        SqlType::Numeric { scale, .. } => Box::new(ExactSums::<WideSum>::new(*scale, result, ty).ok_or_else(refused)?),
        SqlType::Real | SqlType::Double => Box::new(FloatSums::new(result, ty).ok_or_else(refused)?),
        SqlType::Boolean
        | SqlType::Text
        | SqlType::Varchar(_)
        | SqlType::Bytea
        | SqlType::Date
        | SqlType::Time
        | SqlType::Timestamp
        | SqlType::Timestamptz
        | SqlType::Interval
        | SqlType::Oid
        | SqlType::Name
        | SqlType::Char
        | SqlType::Array(_) => return Err(refused()),
    })
}

/// An integer wide enough for every sum of one type.
trait Total: Copy + Default {
    /// Adds `value`, `weight` times.
    fn add(&mut self, value: i128, weight: i64);

    /// In the form that knows the rules of results.
    fn wide(&self) -> WideSum;

    /// Appends it to a record.
    fn write(&self, out: &mut Vec<u8>);

    /// Reads what `write` wrote.
    fn read(bytes: &mut &[u8]) -> Result<Self>;
}

/// For integers of up to 64 bits: with weights that add up to at most 2^63 their sum stays below 2^126. In between it may wrap.
impl Total for i128 {
    #[inline]
    fn add(&mut self, value: i128, weight: i64) {
        *self = self.wrapping_add(value.wrapping_mul(weight as i128));
    }

    fn wide(&self) -> WideSum {
        let mut sum = WideSum::default();
        sum.add(*self, 1);
        sum
    }

    fn write(&self, out: &mut Vec<u8>) {
        put_integer(out, *self);
    }

    fn read(bytes: &mut &[u8]) -> Result<i128> {
        take_integer(bytes)
    }
}

/// For decimals.
impl Total for WideSum {
    #[inline]
    fn add(&mut self, value: i128, weight: i64) {
        WideSum::add(self, value, weight);
    }

    fn wide(&self) -> WideSum {
        *self
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.to_bytes(out);
    }

    fn read(bytes: &mut &[u8]) -> Result<WideSum> {
        WideSum::from_bytes(bytes)
    }
}

/// Sums of integers or decimals.
struct ExactSums<T> {
    /// How many values were summed, by slot: without any, the result is NULL.
    counts: Vec<i64>,
    /// Their sum, by slot, in units of the argument's scale.
    totals: Vec<T>,
    /// What is asked for.
    result: SumResult,
    /// The type of the result.
    ty: SqlType,
    /// By how many digits after the point an average has more than the argument.
    places: u32,
}

impl<T: Total> ExactSums<T> {
    fn new(scale: i8, result: SumResult, ty: &SqlType) -> Option<ExactSums<T>> {
        let places = match (ty, result) {
            (SqlType::BigInt, SumResult::Sum) if scale == 0 => 0,
            (SqlType::Numeric { scale: places, .. }, _) => u32::try_from(places - scale).ok()?,
            _ => return None,
        };
        if result == SumResult::Sum && places != 0 {
            return None;
        }
        Some(ExactSums { counts: Vec::new(), totals: Vec::new(), result, ty: ty.clone(), places })
    }

    fn add<V: ArrowPrimitiveType>(&mut self, rows: &Rows<'_>, values: &ArrayRef)
    where
        V::Native: Into<i128>,
    {
        let values = values.as_primitive::<V>().values();
        rows.each(|row, slot, weight| {
            self.counts[slot] += weight;
            self.totals[slot].add(values[row].into(), weight);
        });
    }

    fn value(&self, slot: usize) -> Result<i128> {
        let total = self.totals[slot].wide();
        match self.result {
            SumResult::Sum => total.sum(&self.ty),
            SumResult::Avg => total.average(self.counts[slot], self.places),
        }
    }
}

impl<T: Total> Accumulators for ExactSums<T> {
    fn grow(&mut self, slots: usize) {
        self.counts.resize(slots, 0);
        self.totals.resize(slots, T::default());
    }

    fn compact(&mut self, moves: &Moves) {
        moves.apply(&mut self.counts);
        moves.apply(&mut self.totals);
    }

    fn update(&mut self, rows: &Rows<'_>, values: Option<&ArrayRef>) -> Result<()> {
        let values = argument(values)?;
        match values.data_type() {
            DataType::Int16 => self.add::<Int16Type>(rows, values),
            DataType::Int32 => self.add::<Int32Type>(rows, values),
            DataType::Int64 => self.add::<Int64Type>(rows, values),
            DataType::Decimal128(..) => self.add::<Decimal128Type>(rows, values),
            other => return Err(Error::internal(format!("sum of a column of {other}"))),
        }
        Ok(())
    }

    fn finish(&self, slots: &[u32], errors: &mut Vec<(usize, Error)>) -> Result<ArrayRef> {
        let results = finish(&self.counts, slots, errors, |slot| self.value(slot));
        Ok(match &self.ty {
            SqlType::Numeric { precision, scale } => {
                let array = results.collect::<Decimal128Array>().with_precision_and_scale(*precision, *scale);
                Arc::new(array.map_err(arrow_error)?)
            }
            _ => Arc::new(results.map(|sum| sum.map(|sum| sum as i64)).collect::<Int64Array>()),
        })
    }

    fn write(&self, slot: u32, out: &mut Vec<u8>) {
        put_integer(out, self.counts[slot as usize] as i128);
        self.totals[slot as usize].write(out);
    }

    fn read(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        self.counts[slot as usize] = take_long(bytes)?;
        self.totals[slot as usize] = T::read(bytes)?;
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.counts.len() * size_of::<i64>() + self.totals.len() * size_of::<T>()
    }
}

/// Sums of floats.
struct FloatSums {
    /// How many values were summed, by slot: without any, the result is NULL.
    counts: Vec<i64>,
    /// Their exact sum, by slot.
    totals: Vec<ExactFloat>,
    /// What is asked for.
    result: SumResult,
    /// Whether the result is a `real`.
    real: bool,
}

/// What the digits of an [`ExactFloat`] usually take beside itself: values of similar magnitude need three or four.
const DIGITS_BYTES: usize = 48;

impl FloatSums {
    fn new(result: SumResult, ty: &SqlType) -> Option<FloatSums> {
        let real = match (ty, result) {
            (SqlType::Real, SumResult::Sum) => true,
            (SqlType::Double, _) => false,
            _ => return None,
        };
        Some(FloatSums { counts: Vec::new(), totals: Vec::new(), result, real })
    }

    fn add<V: ArrowPrimitiveType>(&mut self, rows: &Rows<'_>, values: &ArrayRef)
    where
        V::Native: Into<f64>,
    {
        let values = values.as_primitive::<V>().values();
        rows.each(|row, slot, weight| {
            self.counts[slot] += weight;
            self.totals[slot].add(values[row].into(), weight);
        });
    }

    fn value(&self, slot: usize) -> Result<f64> {
        match self.result {
            SumResult::Sum => self.totals[slot].value(),
            SumResult::Avg => self.totals[slot].average(self.counts[slot]),
        }
    }
}

impl Accumulators for FloatSums {
    fn grow(&mut self, slots: usize) {
        self.counts.resize(slots, 0);
        self.totals.resize_with(slots, ExactFloat::default);
    }

    fn compact(&mut self, moves: &Moves) {
        moves.apply(&mut self.counts);
        moves.apply(&mut self.totals);
    }

    fn update(&mut self, rows: &Rows<'_>, values: Option<&ArrayRef>) -> Result<()> {
        let values = argument(values)?;
        match values.data_type() {
            DataType::Float32 => self.add::<Float32Type>(rows, values),
            DataType::Float64 => self.add::<Float64Type>(rows, values),
            other => return Err(Error::internal(format!("sum of a column of {other}"))),
        }
        Ok(())
    }

    fn finish(&self, slots: &[u32], errors: &mut Vec<(usize, Error)>) -> Result<ArrayRef> {
        if self.real {
            let results = finish(&self.counts, slots, errors, |slot| self.totals[slot].value_real());
            return Ok(Arc::new(results.collect::<Float32Array>()));
        }
        let results = finish(&self.counts, slots, errors, |slot| self.value(slot));
        Ok(Arc::new(results.collect::<Float64Array>()))
    }

    fn write(&self, slot: u32, out: &mut Vec<u8>) {
        put_integer(out, self.counts[slot as usize] as i128);
        self.totals[slot as usize].to_bytes(out);
    }

    fn read(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        self.counts[slot as usize] = take_long(bytes)?;
        self.totals[slot as usize] = ExactFloat::from_bytes(bytes)?;
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.counts.len() * size_of::<i64>() + self.totals.len() * (size_of::<ExactFloat>() + DIGITS_BYTES)
    }
}

/// The results of these slots: NULL where nothing was counted or where there is none, which is then in `errors`.
fn finish<V>(
    counts: &[i64],
    slots: &[u32],
    errors: &mut Vec<(usize, Error)>,
    value: impl Fn(usize) -> Result<V>,
) -> impl Iterator<Item = Option<V>> {
    slots.iter().enumerate().map(move |(index, slot)| {
        let slot = *slot as usize;
        if counts[slot] <= 0 {
            return None;
        }
        value(slot).map_err(|error| errors.push((index, error))).ok()
    })
}

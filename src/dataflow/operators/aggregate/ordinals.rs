//! Values of fixed width as integers that order as the values do, so that one loop finds the least of any of them.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::ArrowPrimitiveType;
use arrow::array::AsArray;
use arrow::array::PrimitiveArray;
use arrow::datatypes::DataType;
use arrow::datatypes::Date32Type;
use arrow::datatypes::Decimal128Type;
use arrow::datatypes::Float32Type;
use arrow::datatypes::Float64Type;
use arrow::datatypes::Int16Type;
use arrow::datatypes::Int32Type;
use arrow::datatypes::Int64Type;
use arrow::datatypes::Time64MicrosecondType;
use arrow::datatypes::TimeUnit;
use arrow::datatypes::TimestampMicrosecondType;

/// Calls `$with!(ArrowType)` for the types that have ordinals, else gives `$otherwise`.
macro_rules! dispatch {
    ($data_type:expr, $with:ident, $otherwise:expr) => {
        match $data_type {
            DataType::Int16 => $with!(Int16Type),
            DataType::Int32 => $with!(Int32Type),
            DataType::Int64 => $with!(Int64Type),
            DataType::Float32 => $with!(Float32Type),
            DataType::Float64 => $with!(Float64Type),
            DataType::Decimal128(..) => $with!(Decimal128Type),
            DataType::Date32 => $with!(Date32Type),
            DataType::Time64(TimeUnit::Microsecond) => $with!(Time64MicrosecondType),
            DataType::Timestamp(TimeUnit::Microsecond, _) => $with!(TimestampMicrosecondType),
            _ => $otherwise,
        }
    };
}

/// Whether values of this type have ordinals.
pub(super) fn has_ordinals(data_type: &DataType) -> bool {
    macro_rules! yes {
        ($ty:ty) => {
            true
        };
    }
    dispatch!(data_type, yes, false)
}

/// The ordinals of a column; what stands for NULL has no meaning.
pub(super) fn ordinals(values: &ArrayRef) -> Option<Vec<i128>> {
    macro_rules! read {
        ($ty:ty) => {
            Some(values.as_primitive::<$ty>().values().iter().map(|value| value.ordinal()).collect())
        };
    }
    dispatch!(values.data_type(), read, None)
}

/// The column of these ordinals.
pub(super) fn from_ordinals(ordinals: impl Iterator<Item = Option<i128>>, data_type: &DataType) -> Option<ArrayRef> {
    macro_rules! write {
        ($ty:ty) => {
            Some(column::<$ty>(ordinals, data_type))
        };
    }
    dispatch!(data_type, write, None)
}

fn column<T>(ordinals: impl Iterator<Item = Option<i128>>, data_type: &DataType) -> ArrayRef
where
    T: ArrowPrimitiveType,
    T::Native: Ordinal,
{
    let values = ordinals.map(|ordinal| ordinal.map(T::Native::from_ordinal));
    Arc::new(values.collect::<PrimitiveArray<T>>().with_data_type(data_type.clone()))
}

/// A value with a place among all of its type, in SQL's order.
trait Ordinal: Copy {
    fn ordinal(self) -> i128;
    fn from_ordinal(ordinal: i128) -> Self;
}

macro_rules! integer_ordinal {
    ($($ty:ty)*) => {
        $(impl Ordinal for $ty {
            fn ordinal(self) -> i128 {
                self as i128
            }

            fn from_ordinal(ordinal: i128) -> $ty {
                ordinal as $ty
            }
        })*
    };
}

integer_ordinal!(i16 i32 i64 i128);

/// As in Postgres, −0 equals 0, and NaN equals itself and is above all.
impl Ordinal for f64 {
    fn ordinal(self) -> i128 {
        let value = if self.is_nan() { f64::NAN } else { self + 0.0 };
        let bits = value.to_bits() as i64;
        (bits ^ ((bits >> 63) as u64 >> 1) as i64) as i128
    }

    fn from_ordinal(ordinal: i128) -> f64 {
        let bits = ordinal as i64;
        f64::from_bits((bits ^ ((bits >> 63) as u64 >> 1) as i64) as u64)
    }
}

impl Ordinal for f32 {
    fn ordinal(self) -> i128 {
        (self as f64).ordinal()
    }

    fn from_ordinal(ordinal: i128) -> f32 {
        f64::from_ordinal(ordinal) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_order_as_in_sql() {
        let values = [f64::NEG_INFINITY, -1e300, -1.5, -5e-324, 0.0, 5e-324, 1.0, f64::INFINITY, f64::NAN];
        for pair in values.windows(2) {
            assert!(pair[0].ordinal() < pair[1].ordinal(), "{pair:?}");
        }
        for value in values {
            assert_eq!(f64::from_ordinal(value.ordinal()).to_bits(), value.to_bits());
        }
        assert_eq!((-0.0).ordinal(), 0.0.ordinal());
        assert_eq!((-f64::NAN).ordinal(), f64::NAN.ordinal());
        assert_eq!(f32::from_ordinal(1.25f32.ordinal()), 1.25);
    }
}

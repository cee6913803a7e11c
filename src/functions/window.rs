//! The windows of event time: [`tumble_start`](TumbleStart), which says in which tumbling window a timestamp lies.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::error::Error;
use crate::time::Micros;

/// The name of [`TumbleStart`] in plans.
pub const TUMBLE_START: &str = "tumble_start";

/// Microseconds of a day, of which intervals count days apart.
const DAY: i128 = 86_400_000_000;

/// [`TumbleStart`] as DataFusion wants it.
pub fn tumble_start() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(TumbleStart { signature: Signature::user_defined(Volatility::Immutable) }))
}

/// `tumble_start(ts, size, offset)`: the beginning of the window of `size` in which `ts` lies. Windows are aligned to
/// 1970-01-01 UTC plus `offset`; NULL lies in no window.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct TumbleStart {
    /// Two or three arguments, see [`ScalarUDFImpl::coerce_types`].
    signature: Signature,
}

impl ScalarUDFImpl for TumbleStart {
    fn name(&self) -> &str {
        TUMBLE_START
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [ts @ DataType::Timestamp(TimeUnit::Microsecond, _), size, offset] = types else {
            return plan_err!("{TUMBLE_START} takes a timestamp, an interval and an interval");
        };
        Ok(vec![ts.clone(), size.clone(), offset.clone()])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [ts, size, offset] = args.args.as_slice() else {
            return plan_err!("{TUMBLE_START} takes three arguments");
        };
        let size = constant(size)?;
        let offset = constant(offset)?;
        let ts = ts.to_array(args.number_rows)?;
        let starts: PrimitiveArray<TimestampMicrosecondType> =
            ts.as_primitive::<TimestampMicrosecondType>().try_unary(|ts| window_start(ts, size, offset))?;
        let starts = starts.with_data_type(ts.data_type().clone());
        Ok(ColumnarValue::Array(Arc::new(starts) as ArrayRef))
    }
}

/// The beginning of the window in which a timestamp lies: also for times before 1970 the greatest that is not after it.
fn window_start(ts: Micros, size: i128, offset: i128) -> Result<Micros, DataFusionError> {
    let ts = ts as i128;
    let start = ts - (ts - offset).rem_euclid(size);
    Micros::try_from(start).map_err(|_| external(Error::datetime_overflow("timestamp out of range")))
}

/// The constant argument of size or offset, in microseconds.
fn constant(value: &ColumnarValue) -> Result<i128> {
    let ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(Some(interval))) = value else {
        return plan_err!("the size and the offset of a window are constant intervals");
    };
    micros(interval).map_err(external)
}

/// The length of an interval, in microseconds. Months have none.
pub fn micros(interval: &IntervalMonthDayNano) -> std::result::Result<i128, Error> {
    if interval.months != 0 {
        return Err(Error::unsupported("a window cannot be measured in months or years")
            .hint("Use days, hours, minutes or seconds."));
    }
    Ok(interval.days as i128 * DAY + interval.nanoseconds as i128 / 1000)
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_aligned_to_the_epoch_and_offset() {
        let start = |ts, size, offset| window_start(ts, size, offset).unwrap();
        assert_eq!(start(61, 60, 0), 60);
        assert_eq!(start(60, 60, 0), 60);
        assert_eq!(start(-1, 60, 0), -60);
        assert_eq!(start(61, 60, 15), 15);
        assert_eq!(start(75, 60, 15), 75);
        assert_eq!(start(0, 60, 90), -30);
        assert!(window_start(i64::MIN, 60, 0).is_err());
    }
}

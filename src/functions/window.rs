//! The windows of event time: in which of them a timestamp lies ([`Windows`]), and whether it comes too late for one
//! ([`on_time`]).

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, IntervalMonthDayNano, TimestampMicrosecondType};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::functions::define::function;
use crate::functions::from_datafusion;
use crate::time::Micros;
use crate::types::SqlType;

/// The columns that windows add.
pub const WINDOW_COLUMNS: [&str; 2] = ["window_start", "window_end"];

/// The name of [`on_time`] in plans.
pub const ON_TIME: &str = "on_time";

/// A timestamp lies in so many windows at most.
pub const WINDOWS_MAX: i64 = 10_000;

/// Microseconds of a day, of which intervals count days apart.
const DAY: i128 = 86_400_000_000;

/// Start and end of a window.
pub type Span = (Micros, Micros);

/// Windows that a timestamp alone decides. They are aligned to 1970-01-01 UTC plus an offset; each is `[start, end)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Windows {
    /// One after the other.
    Tumble { size_us: i64, offset_us: i64 },
    /// Of one size, a new one at every slide.
    Hop { slide_us: i64, size_us: i64, offset_us: i64 },
    /// Growing by a step from one start until they have their size.
    Cumulate { step_us: i64, size_us: i64, offset_us: i64 },
}

/// Rows with the windows they lie in, as pairs.
pub struct Pairs {
    /// The row of each pair; `None`: each row in order has one.
    pub rows: Option<UInt32Array>,
    /// The start of each pair's window, of the type of the times; NULL where the time is.
    pub start: ArrayRef,
    /// Its end.
    pub end: ArrayRef,
}

impl Windows {
    /// How long a window is at most, in microseconds.
    pub fn size_us(&self) -> i64 {
        match self {
            Windows::Tumble { size_us, .. } | Windows::Hop { size_us, .. } | Windows::Cumulate { size_us, .. } => {
                *size_us
            }
        }
    }

    /// The windows of these timestamps. NULL lies in none, and is paired with NULLs.
    pub fn pairs(&self, times: &ArrayRef) -> Result<Pairs> {
        let values = times.as_primitive_opt::<TimestampMicrosecondType>();
        let values = values.ok_or_else(|| Error::internal("a window is assigned by what is not a timestamp"))?;
        let (mut rows, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for (row, time) in values.iter().enumerate() {
            let Some(time) = time else {
                rows.push(row as u32);
                starts.push(None);
                ends.push(None);
                continue;
            };
            self.each(time, |start, end| {
                rows.push(row as u32);
                starts.push(Some(start));
                ends.push(Some(end));
            })?;
        }
        let single = matches!(self, Windows::Tumble { .. });
        let column = |values: Vec<Option<Micros>>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(values).with_data_type(times.data_type().clone()))
        };
        Ok(Pairs { rows: (!single).then(|| UInt32Array::from(rows)), start: column(starts), end: column(ends) })
    }

    /// Calls `put` for each window of a timestamp, the earliest first.
    fn each(&self, time: Micros, mut put: impl FnMut(Micros, Micros)) -> Result<()> {
        let time = time as i128;
        let (first, last, step) = match *self {
            Windows::Tumble { size_us, offset_us } => {
                let start = aligned(time, size_us, offset_us);
                put(micros_of(start)?, micros_of(start + size_us as i128)?);
                return Ok(());
            }
            Windows::Hop { slide_us, size_us, offset_us } => {
                let last = aligned(time, slide_us, offset_us);
                let earlier = (size_us as i128 - 1 - (time - last)).div_euclid(slide_us as i128);
                (last - earlier * slide_us as i128, last, slide_us)
            }
            Windows::Cumulate { step_us, size_us, offset_us } => {
                let start = aligned(time, size_us, offset_us);
                let first = start + ((time - start) / step_us as i128 + 1) * step_us as i128;
                (first, start + size_us as i128, step_us)
            }
        };
        let mut at = first;
        while at <= last {
            match *self {
                Windows::Cumulate { size_us, .. } => put(micros_of(last - size_us as i128)?, micros_of(at)?),
                Windows::Hop { size_us, .. } | Windows::Tumble { size_us, .. } => {
                    put(micros_of(at)?, micros_of(at + size_us as i128)?)
                }
            }
            at += step as i128;
        }
        Ok(())
    }
}

/// The greatest start that is not after the time, also before 1970.
fn aligned(time: i128, step_us: i64, offset_us: i64) -> i128 {
    time - (time - offset_us as i128).rem_euclid(step_us as i128)
}

fn micros_of(time: i128) -> Result<Micros> {
    Micros::try_from(time).map_err(|_| Error::datetime_overflow("timestamp out of range"))
}

/// The sessions of timestamps in order: of neighbours at most `gap_us` apart. Ranges of the timestamps, each with start and
/// end, which is the last of them plus the gap.
pub fn sessions(times: &[Micros], gap_us: i64) -> Result<Vec<(Range<usize>, Span)>> {
    let mut from = 0;
    let near = |a: &Micros, b: &Micros| *b as i128 - *a as i128 <= gap_us as i128;
    let session = |session: &[Micros]| {
        let range = from..from + session.len();
        from = range.end;
        let end = micros_of(session[session.len() - 1] as i128 + gap_us as i128)?;
        Ok((range, (session[0], end)))
    };
    times.chunk_by(near).map(session).collect()
}

/// The length of an interval, in microseconds. Months have none.
pub fn micros(interval: &IntervalMonthDayNano) -> Result<i64> {
    if interval.months != 0 {
        return Err(Error::unsupported("a window cannot be measured in months or years")
            .hint("Use days, hours, minutes or seconds."));
    }
    let micros = interval.days as i128 * DAY + interval.nanoseconds as i128 / 1000;
    i64::try_from(micros).map_err(|_| Error::datetime_overflow("interval out of range"))
}

/// `on_time(end, ms_watermark, lateness_us)`: whether a change that carries this watermark comes before the window that ends
/// there is closed: `end + lateness > ms_watermark`. So it is without either; never NULL.
pub fn on_time() -> ScalarUDF {
    function(
        ON_TIME,
        &[],
        |types| {
            let [Some(end), Some(watermark), _] = types else { return None };
            Some((vec![end.clone(), watermark.clone(), SqlType::BigInt], SqlType::Boolean))
        },
        is_on_time,
    )
}

fn is_on_time(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let column = |at: usize| -> Result<Int64Array> {
        let array = args.args[at].to_array(args.number_rows).map_err(from_datafusion)?;
        let array = cast(&array, &DataType::Int64).map_err(|error| Error::internal(error.to_string()))?;
        Ok(array.as_primitive::<arrow::datatypes::Int64Type>().clone())
    };
    let (ends, watermarks, lateness) = (column(0)?, column(1)?, column(2)?);
    let all = ends.null_count() == 0 && watermarks.null_count() == 0;
    let on_time = |row: usize| {
        let known = all || (ends.is_valid(row) && watermarks.is_valid(row));
        !known || ends.value(row).saturating_add(lateness.value(row)) > watermarks.value(row)
    };
    let values = (0..args.number_rows).map(|row| Some(on_time(row))).collect::<BooleanArray>();
    Ok(ColumnarValue::Array(Arc::new(values)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(windows: Windows, time: Micros) -> Vec<(Micros, Micros)> {
        let mut all = Vec::new();
        windows.each(time, |start, end| all.push((start, end))).unwrap();
        all
    }

    #[test]
    fn tumbling_windows_are_aligned_to_the_epoch_and_offset() {
        let of = |time, size_us, offset_us| windows(Windows::Tumble { size_us, offset_us }, time)[0].0;
        assert_eq!(of(61, 60, 0), 60);
        assert_eq!(of(60, 60, 0), 60);
        assert_eq!(of(-1, 60, 0), -60);
        assert_eq!(of(61, 60, 15), 15);
        assert_eq!(of(75, 60, 15), 75);
        assert_eq!(of(0, 60, 90), -30);
        let first = Windows::Tumble { size_us: 60, offset_us: 0 };
        assert!(first.each(i64::MIN, |_, _| ()).is_err());
    }

    #[test]
    fn hopping_windows_overlap_or_leave_gaps() {
        let of = |time, slide_us, size_us| windows(Windows::Hop { slide_us, size_us, offset_us: 0 }, time);
        assert_eq!(of(10, 5, 10), [(5, 15), (10, 20)]);
        assert_eq!(of(9, 5, 10), [(0, 10), (5, 15)]);
        assert_eq!(of(0, 4, 10), [(-8, 2), (-4, 6), (0, 10)]);
        assert_eq!(of(3, 4, 10), [(-4, 6), (0, 10)]);
        assert_eq!(of(1, 4, 2), [(0, 2)]);
        assert_eq!(of(3, 4, 2), []);
    }

    #[test]
    fn cumulating_windows_grow() {
        let of = |time| windows(Windows::Cumulate { step_us: 5, size_us: 15, offset_us: 0 }, time);
        assert_eq!(of(0), [(0, 5), (0, 10), (0, 15)]);
        assert_eq!(of(5), [(0, 10), (0, 15)]);
        assert_eq!(of(14), [(0, 15)]);
        assert_eq!(of(-1), [(-15, 0)]);
    }
}

//! Functions whose result can be much larger than their arguments: what would be too large is refused before it is made.
//!
//! The functions themselves are DataFusion's. From the arguments of a row follows how large its result can be at most. When the
//! rows of a batch may together be too large, each is computed alone, and what they really take is counted.

use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;

use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::AsArray;
use arrow::array::Int64Array;
use arrow::array::StringArray;
use arrow::compute::cast;
use arrow::compute::concat;
use arrow::datatypes::DataType;
use arrow::datatypes::FieldRef;
use arrow::datatypes::Int64Type;
use arrow::datatypes::IntervalMonthDayNanoType;
use arrow::datatypes::TimeUnit;
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::common::Result as DfResult;
use datafusion::functions::regex::regexp_replace;
use datafusion::functions::string::repeat;
use datafusion::functions::string::replace;
use datafusion::functions::unicode::lpad;
use datafusion::functions::unicode::rpad;
use datafusion::functions_nested::range::gen_series_udf;
use datafusion::functions_nested::range::range_udf;
use datafusion::functions_nested::repeat::array_repeat_udf;
use datafusion::functions_nested::resize::array_resize_udf;
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::ReturnFieldArgs;
use datafusion::logical_expr::ScalarFunctionArgs;
use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::ScalarUDFImpl;
use datafusion::logical_expr::Signature;

use crate::error::Error;
use crate::error::Result;
use crate::functions::columns::array;
use crate::functions::raise::raise;

/// Bytes that one value may take.
const VALUE_BYTES_MAX: u64 = 256 << 20;
/// Bytes that the values of a column may take in one batch; Arrow's texts could take twice as many.
const BATCH_BYTES_MAX: u64 = 1 << 30;
/// What an item of a list counts, since rows are made of it.
const ITEM_BYTES: u64 = 16;
/// The most bytes of a character.
const CHARACTER_BYTES: u64 = 4;

/// How many bytes the result of a row takes at most.
type Bound = fn(&Sizes<'_>) -> u64;

/// The functions of this file.
pub fn functions() -> Vec<ScalarUDF> {
    let bounded = |inner: Arc<ScalarUDF>, bound: Bound| ScalarUDF::from(Bounded { inner, bound });
    vec![
        bounded(repeat(), |row| row.length(0).saturating_mul(row.count(1))),
        bounded(lpad(), |row| row.count(1).saturating_mul(CHARACTER_BYTES)),
        bounded(rpad(), |row| row.count(1).saturating_mul(CHARACTER_BYTES)),
        bounded(replace(), |row| {
            let found = row.length(0) / row.length(1).max(1) + 1;
            row.length(0).saturating_add(found.saturating_mul(row.length(2)))
        }),
        // What the pattern finds may stand in the replacement, as often as that names it.
        bounded(regexp_replace(), |row| {
            let places = row.length(0) + 1;
            places.saturating_add(places.saturating_mul(2 * row.length(2)))
        }),
        bounded(gen_series_udf(), |row| row.series().saturating_mul(ITEM_BYTES)),
        bounded(range_udf(), |row| row.series().saturating_mul(ITEM_BYTES)),
        bounded(array_repeat_udf(), |row| row.count(1).saturating_mul(ITEM_BYTES)),
        bounded(array_resize_udf(), |row| row.count(1).saturating_mul(ITEM_BYTES)),
    ]
}

/// Refuses what is too large for a value, or a batch of them.
pub fn check(value: u64, batch: u64) -> Result<()> {
    if value <= VALUE_BYTES_MAX && batch <= BATCH_BYTES_MAX {
        return Ok(());
    }
    Err(Error::limit_exceeded("requested length too large")
        .detail(format!("A value may take {VALUE_BYTES_MAX} bytes; those made at once, {BATCH_BYTES_MAX}."))
        .hint("Ask for less at once: shorter texts, a shorter series, fewer rows."))
}

/// Refuses texts that would be too large one behind the other.
pub fn check_joined<'a>(texts: impl Iterator<Item = &'a StringArray>) -> Result<()> {
    let bytes = |texts: &StringArray| match texts.value_offsets() {
        [first, .., last] => (last - first) as u64,
        _ => 0,
    };
    check(0, texts.map(bytes).sum())
}

/// A function of DataFusion's with the bound of its results.
#[derive(Debug)]
struct Bounded {
    /// DataFusion's.
    inner: Arc<ScalarUDF>,
    /// The bound.
    bound: Bound,
}

/// The arguments, as far as sizes follow from them.
struct Sizes<'a> {
    /// Each argument: of one row when it is a constant.
    arguments: &'a [Argument],
    /// The row.
    row: usize,
}

/// One argument.
struct Argument {
    /// The array; of one row when it is a constant.
    values: ArrayRef,
    /// The same as whole numbers, if it can be read so.
    numbers: Option<Int64Array>,
}

impl Argument {
    fn new(value: &ColumnarValue) -> Result<Argument> {
        let values = array(value)?;
        let is_number = values.data_type().is_integer();
        let numbers = is_number.then(|| cast(&values, &DataType::Int64).ok()).flatten();
        Ok(Argument { numbers: numbers.map(|numbers| numbers.as_primitive::<Int64Type>().clone()), values })
    }

    /// Where the value for a row stands.
    fn place(&self, row: usize) -> Option<usize> {
        let place = if self.values.len() == 1 { 0 } else { row };
        self.values.is_valid(place).then_some(place)
    }
}

impl Sizes<'_> {
    /// The bytes of a text; 0 for NULL.
    fn length(&self, at: usize) -> u64 {
        let Some(argument) = self.arguments.get(at) else { return 0 };
        let Some(place) = argument.place(self.row) else { return 0 };
        let values = &argument.values;
        let length = match values.data_type() {
            DataType::Utf8 => values.as_string::<i32>().value(place).len(),
            DataType::LargeUtf8 => values.as_string::<i64>().value(place).len(),
            DataType::Utf8View => values.as_string_view().value(place).len(),
            _ => 0,
        };
        length as u64
    }

    /// A whole number; `None` for NULL.
    fn number(&self, at: usize) -> Option<i64> {
        let argument = self.arguments.get(at)?;
        argument.place(self.row).and_then(|place| Some(argument.numbers.as_ref()?.value(place)))
    }

    /// A number of times; 0 for NULL and below.
    fn count(&self, at: usize) -> u64 {
        self.number(at).map_or(0, |number| number.max(0) as u64)
    }

    /// How many items a series from the first to the second argument in steps of the third has.
    fn series(&self) -> u64 {
        let (first, last) = match (self.number(0), self.number(1)) {
            (Some(first), Some(last)) => (first, last),
            (Some(last), None) if self.arguments.len() == 1 => (0, last),
            _ => return self.moments(),
        };
        let step = if self.arguments.len() > 2 { self.number(2).unwrap_or(0) } else { 1 };
        let way = if step >= 0 { i128::from(last) - i128::from(first) } else { i128::from(first) - i128::from(last) };
        if step == 0 || way < 0 {
            return 0;
        }
        u64::try_from(way / i128::from(step).abs() + 1).unwrap_or(u64::MAX)
    }

    /// The same for dates and timestamps in steps of an interval.
    fn moments(&self) -> u64 {
        /// The shortest of each, in nanoseconds.
        const DAY: i128 = 86_400 * 1_000_000_000;
        const MONTH: i128 = 28 * DAY;
        let [first, last, step, ..] = self.arguments else { return 0 };
        let nanoseconds = |argument: &Argument| {
            let place = argument.place(self.row)?;
            let micros =
                cast(&argument.values.slice(place, 1), &DataType::Timestamp(TimeUnit::Microsecond, None)).ok()?;
            Some(i128::from(micros.as_primitive::<TimestampMicrosecondType>().value(0)) * 1000)
        };
        let interval = step.place(self.row).and_then(|place| {
            let interval = step.values.as_primitive_opt::<IntervalMonthDayNanoType>()?.value(place);
            let (months, days) = (i128::from(interval.months), i128::from(interval.days));
            Some((months * MONTH + days * DAY + i128::from(interval.nanoseconds)).abs())
        });
        match (nanoseconds(first), nanoseconds(last), interval) {
            (Some(first), Some(last), Some(step)) if step > 0 => {
                u64::try_from((last - first).abs() / step + 1).unwrap_or(u64::MAX)
            }
            _ => 0,
        }
    }
}

impl Bounded {
    fn invoke(&self, args: ScalarFunctionArgs) -> Result<DfResult<ColumnarValue>> {
        let arguments = args.args.iter().map(Argument::new).collect::<Result<Vec<_>>>()?;
        let rows = arguments.iter().map(|argument| argument.values.len()).max().unwrap_or(1);
        let mut total = 0u64;
        for row in 0..rows {
            let bytes = (self.bound)(&Sizes { arguments: &arguments, row });
            check(bytes, 0)?;
            total = total.saturating_add(bytes);
        }
        if total <= BATCH_BYTES_MAX {
            return Ok(self.inner.invoke_with_args(args));
        }
        self.one_by_one(args, rows)
    }

    /// Computes each row alone, and counts.
    fn one_by_one(&self, args: ScalarFunctionArgs, rows: usize) -> Result<DfResult<ColumnarValue>> {
        let (mut results, mut total) = (Vec::with_capacity(rows), 0);
        for row in 0..rows {
            let of_row = args.args.iter().map(|value| match value {
                ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(row, 1)),
                ColumnarValue::Scalar(scalar) => ColumnarValue::Scalar(scalar.clone()),
            });
            let of_row = ScalarFunctionArgs { args: of_row.collect(), number_rows: 1, ..args.clone() };
            let result = match self.inner.invoke_with_args(of_row).and_then(|result| result.into_array(1)) {
                Ok(result) => result,
                Err(error) => return Ok(Err(error)),
            };
            total += result.get_buffer_memory_size() as u64;
            check(0, total)?;
            results.push(result);
        }
        let results = results.iter().map(|result| &**result).collect::<Vec<_>>();
        Ok(concat(&results).map(ColumnarValue::Array).map_err(Into::into))
    }
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Bounded) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        self.invoke(args).map_err(raise)?
    }
}

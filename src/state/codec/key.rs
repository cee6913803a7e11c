//! The key format: byte order is SQL order, so that a range of keys is a range of bytes.
//!
//! Each column begins with one byte, `01` for a value and `02` for NULL, which therefore comes last. Then
//!
//! | type | bytes |
//! |---|---|
//! | boolean | `00` or `01` |
//! | integers, date, time, timestamps, numeric | big-endian, the sign bit turned around |
//! | floats | IEEE bits big-endian; the sign bit turned around, or all bits if negative; −0 is 0, all NaN are one |
//! | text, bytea | the bytes, `00` as `00 FF`; then `00 01` |
//! | interval | its length as Postgres compares it, in nanoseconds, as an integer of 16 bytes; then months and days |
//! | list | `01` before each item, itself a column as above; then `00` |
//!
//! A value is never the beginning of another of its type, so a key of fewer columns is the prefix of a longer one.

use std::sync::Arc;

use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::ListArray;
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use arrow::datatypes::IntervalMonthDayNano;

use crate::error::Result;
use crate::state::codec::ByteRows;
use crate::state::codec::columns::Layout;
use crate::state::codec::columns::RowWriter;
use crate::state::codec::columns::Source;
use crate::state::codec::columns::Values;
use crate::state::codec::columns::expect_ends;
use crate::state::codec::columns::nulls_of;
use crate::state::codec::columns::read_booleans;
use crate::state::codec::columns::read_bytes;
use crate::state::codec::columns::read_lists;
use crate::state::codec::columns::read_natives;
use crate::state::codec::columns::slice;
use crate::state::codec::columns::take;
use crate::state::codec::columns::take_slice;
use crate::state::codec::corrupted;
use crate::time::Micros;

/// Before a value.
const VALUE: u8 = 1;
/// Instead of a value.
const NULL: u8 = 2;
/// After the last byte of text or bytea.
const BYTES_END: [u8; 2] = [0, 1];
/// For a zero byte in text or bytea.
const ESCAPED_ZERO: [u8; 2] = [0, 0xFF];
/// Before each item of a list.
const ITEM: u8 = 1;
/// After the last item of a list.
const LIST_END: u8 = 0;
/// What Postgres takes a day for when it compares intervals.
const DAY_NANOS: i128 = 86_400_000_000_000;

/// Order-preserving bytes of some columns: byte order is SQL order (ascending, NULLs last), equal bytes are equal values.
///
/// The one exception: intervals that Postgres calls equal though they are written differently (`1 month`, `30 days`) are
/// neighbours, not equal, so that they can be decoded.
#[derive(Clone, Debug)]
pub struct KeyCodec {
    types: Vec<DataType>,
}

impl KeyCodec {
    /// The version of the format.
    pub const VERSION: u8 = 1;

    /// A codec for keys of these Arrow types.
    pub fn new(types: Vec<DataType>) -> KeyCodec {
        KeyCodec { types }
    }

    /// The Arrow types of the columns.
    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// One key for each row of the columns.
    pub fn encode(&self, columns: &[ArrayRef], rows: usize) -> Result<ByteRows> {
        debug_assert_eq!(columns.len(), self.types.len());
        let sources = columns
            .iter()
            .zip(&self.types)
            .map(|(column, data_type)| Source::new(column, data_type, rows, encode_lists))
            .collect::<Result<Vec<_>>>()?;
        if let [source] = sources.as_slice()
            && let Some(keys) = encode_fixed(source)
        {
            return Ok(keys);
        }
        let mut lengths = vec![sources.len() as u32; rows];
        for source in &sources {
            add_lengths(source, &mut lengths);
        }
        let mut writer = RowWriter::new(lengths)?;
        for source in &sources {
            write_presence(source.nulls.as_ref(), &mut writer);
            write_values(source, &mut writer);
        }
        Ok(writer.finish())
    }

    /// The columns of these keys.
    pub fn decode<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let mut rows = keys.collect::<Vec<_>>();
        let columns = self.types.iter().map(|t| read_column(t, &mut rows)).collect::<Result<Vec<_>>>()?;
        expect_ends(&rows)?;
        Ok(columns)
    }

    /// How many of these bytes, which begin with a key, are the key.
    pub fn prefix_len(&self, bytes: &[u8]) -> Result<usize> {
        let mut rest = bytes;
        for data_type in &self.types {
            skip_column(data_type, &mut rest)?;
        }
        Ok(bytes.len() - rest.len())
    }
}

/// The timestamp that a key begins with; `None` for NULL.
pub fn leading_micros(key: &[u8]) -> Option<Micros> {
    let (presence, rest) = key.split_first()?;
    let bytes = rest.first_chunk::<8>()?;
    (*presence == VALUE).then(|| i64::from_be_bytes(*bytes) ^ i64::MIN)
}

/// What all keys begin with whose first column is this timestamp.
pub fn micros_prefix(time: Micros) -> [u8; 9] {
    let mut prefix = [VALUE; 9];
    prefix[1..].copy_from_slice(&(time ^ i64::MIN).to_be_bytes());
    prefix
}

/// Integers so that they order as bytes, and back.
macro_rules! ordered {
    ($($to:ident, $from:ident, $int:ty, $n:literal;)*) => {
        $(
            #[inline]
            fn $to(value: $int) -> [u8; $n] {
                (value ^ <$int>::MIN).to_be_bytes()
            }

            #[inline]
            fn $from(bytes: [u8; $n]) -> $int {
                <$int>::from_be_bytes(bytes) ^ <$int>::MIN
            }
        )*
    };
}

ordered! {
    from_i16, to_i16, i16, 2;
    from_i32, to_i32, i32, 4;
    from_i64, to_i64, i64, 8;
    from_i128, to_i128, i128, 16;
}

#[inline]
fn from_f32(value: f32) -> [u8; 4] {
    // Adding 0 turns −0 into 0.
    let bits = if value.is_nan() { f32::NAN.to_bits() & !(1 << 31) } else { (value + 0.0).to_bits() } as i32;
    from_i32(bits ^ (((bits >> 31) as u32) >> 1) as i32)
}

#[inline]
fn to_f32(bytes: [u8; 4]) -> f32 {
    let bits = to_i32(bytes);
    f32::from_bits((bits ^ (((bits >> 31) as u32) >> 1) as i32) as u32)
}

#[inline]
fn from_f64(value: f64) -> [u8; 8] {
    let bits = if value.is_nan() { f64::NAN.to_bits() & !(1 << 63) } else { (value + 0.0).to_bits() } as i64;
    from_i64(bits ^ (((bits >> 63) as u64) >> 1) as i64)
}

#[inline]
fn to_f64(bytes: [u8; 8]) -> f64 {
    let bits = to_i64(bytes);
    f64::from_bits((bits ^ (((bits >> 63) as u64) >> 1) as i64) as u64)
}

/// The float with this key. There is one key of zero, and one of NaN.
#[inline]
fn canonical<T: Copy, const N: usize>(bytes: [u8; N], to: fn([u8; N]) -> T, from: fn(T) -> [u8; N]) -> Result<T> {
    let float = to(bytes);
    if from(float) == bytes { Ok(float) } else { Err(corrupted("a float that no key has")) }
}

/// Months and days in nanoseconds, a month having 30 days.
fn nanos_of_days(months: i32, days: i32) -> i128 {
    (i128::from(months) * 30 + i128::from(days)) * DAY_NANOS
}

fn from_interval(value: IntervalMonthDayNano) -> [u8; 24] {
    let mut bytes = [0; 24];
    let length = nanos_of_days(value.months, value.days) + i128::from(value.nanoseconds);
    bytes[..16].copy_from_slice(&from_i128(length));
    bytes[16..20].copy_from_slice(&from_i32(value.months));
    bytes[20..].copy_from_slice(&from_i32(value.days));
    bytes
}

fn take_interval(row: &mut &[u8]) -> Result<IntervalMonthDayNano> {
    let length = to_i128(take(row)?);
    let (months, days) = (to_i32(take(row)?), to_i32(take(row)?));
    let nanos = length.checked_sub(nanos_of_days(months, days)).and_then(|n| i64::try_from(n).ok());
    Ok(IntervalMonthDayNano::new(months, days, nanos.ok_or_else(|| corrupted("an interval out of range"))?))
}

/// The keys of a single column without NULLs whose values all take the same room; `None` if it is not that.
fn encode_fixed(source: &Source) -> Option<ByteRows> {
    if source.nulls.is_some() {
        return None;
    }
    match &source.values {
        Values::I16(v) => fixed(v, from_i16),
        Values::I32(v) => fixed(v, from_i32),
        Values::I64(v) => fixed(v, from_i64),
        Values::F32(v) => fixed(v, from_f32),
        Values::F64(v) => fixed(v, from_f64),
        Values::I128(v) => fixed(v, from_i128),
        Values::Interval(v) => fixed(v, from_interval),
        Values::Boolean(_) | Values::Bytes(_, _) | Values::Encoded(_) => None,
    }
}

fn fixed<T: Copy, const N: usize>(values: &[T], encode: impl Fn(T) -> [u8; N]) -> Option<ByteRows> {
    let total = u32::try_from(values.len() * (N + 1)).ok()?;
    let mut bytes = vec![VALUE; total as usize];
    for (key, value) in bytes.chunks_exact_mut(N + 1).zip(values) {
        key[1..].copy_from_slice(&encode(*value));
    }
    Some(ByteRows { bytes, ends: (1..=values.len()).map(|i| (i * (N + 1)) as u32).collect() })
}

/// Adds the lengths of the values, without their presence bytes.
fn add_lengths(source: &Source, lengths: &mut [u32]) {
    let fixed = match &source.values {
        Values::Boolean(_) => 1,
        Values::I16(_) => 2,
        Values::I32(_) | Values::F32(_) => 4,
        Values::I64(_) | Values::F64(_) => 8,
        Values::I128(_) => 16,
        Values::Interval(_) => 24,
        Values::Bytes(offsets, bytes) => {
            return source.add_lengths(lengths, |row| {
                let value = slice(offsets, bytes, row);
                value.len() + value.iter().filter(|&&b| b == 0).count() + BYTES_END.len()
            });
        }
        Values::Encoded(lists) => return source.add_lengths(lengths, |row| lists.get(row).len()),
    };
    source.add_lengths(lengths, |_| fixed);
}

fn write_presence(nulls: Option<&NullBuffer>, writer: &mut RowWriter) {
    match nulls {
        None => (0..writer.rows()).for_each(|row| writer.put(row, [VALUE])),
        Some(nulls) => {
            nulls.iter().enumerate().for_each(|(row, valid)| writer.put(row, [if valid { VALUE } else { NULL }]))
        }
    }
}

fn write_values(source: &Source, writer: &mut RowWriter) {
    match &source.values {
        Values::Boolean(v) => source.for_valid(|row| writer.put(row, [v.value(row) as u8])),
        Values::I16(v) => source.for_valid(|row| writer.put(row, from_i16(v[row]))),
        Values::I32(v) => source.for_valid(|row| writer.put(row, from_i32(v[row]))),
        Values::I64(v) => source.for_valid(|row| writer.put(row, from_i64(v[row]))),
        Values::F32(v) => source.for_valid(|row| writer.put(row, from_f32(v[row]))),
        Values::F64(v) => source.for_valid(|row| writer.put(row, from_f64(v[row]))),
        Values::I128(v) => source.for_valid(|row| writer.put(row, from_i128(v[row]))),
        Values::Interval(v) => source.for_valid(|row| writer.put(row, from_interval(v[row]))),
        Values::Bytes(offsets, bytes) => {
            source.for_valid(|row| write_escaped(slice(offsets, bytes, row), row, writer));
        }
        Values::Encoded(lists) => source.for_valid(|row| writer.put_slice(row, lists.get(row))),
    }
}

fn write_escaped(value: &[u8], row: usize, writer: &mut RowWriter) {
    let mut pieces = value.split(|&b| b == 0);
    writer.put_slice(row, pieces.next().unwrap_or_default());
    for piece in pieces {
        writer.put(row, ESCAPED_ZERO);
        writer.put_slice(row, piece);
    }
    writer.put(row, BYTES_END);
}

/// Lists as bytes, without presence bytes; a NULL as nothing.
fn encode_lists(lists: &ListArray, item: &Arc<Field>) -> Result<ByteRows> {
    let offsets = lists.value_offsets();
    let (first, last) = (offsets[0] as usize, offsets[lists.len()] as usize);
    let items = lists.values().slice(first, last - first);
    let items = KeyCodec::new(vec![item.data_type().clone()]).encode(&[items], last - first)?;
    let range = |row: usize| offsets[row] as usize - first..offsets[row + 1] as usize - first;
    let length = |row: usize| match lists.is_valid(row) {
        true => range(row).map(|i| 1 + items.get(i).len()).sum::<usize>() + 1,
        false => 0,
    };
    let lengths = (0..lists.len()).map(|row| u32::try_from(length(row)).unwrap_or(u32::MAX)).collect();
    let mut writer = RowWriter::new(lengths)?;
    for row in (0..lists.len()).filter(|&row| lists.is_valid(row)) {
        for i in range(row) {
            writer.put(row, [ITEM]);
            writer.put_slice(row, items.get(i));
        }
        writer.put(row, [LIST_END]);
    }
    Ok(writer.finish())
}

/// Takes one column off all keys.
fn read_column(data_type: &DataType, rows: &mut [&[u8]]) -> Result<ArrayRef> {
    let valid = rows.iter_mut().map(take_presence).collect::<Result<Vec<bool>>>()?;
    let nulls = nulls_of(valid);
    match Layout::of(data_type)? {
        Layout::Boolean => read_booleans(rows, nulls),
        Layout::I16 => read_natives(data_type, rows, nulls, |row| Ok(to_i16(take(row)?))),
        Layout::I32 => read_natives(data_type, rows, nulls, |row| Ok(to_i32(take(row)?))),
        Layout::I64 => read_natives(data_type, rows, nulls, |row| Ok(to_i64(take(row)?))),
        Layout::F32 => read_natives(data_type, rows, nulls, |row| canonical(take(row)?, to_f32, from_f32)),
        Layout::F64 => read_natives(data_type, rows, nulls, |row| canonical(take(row)?, to_f64, from_f64)),
        Layout::I128 => read_natives(data_type, rows, nulls, |row| Ok(to_i128(take(row)?))),
        Layout::Interval => read_natives(data_type, rows, nulls, take_interval),
        Layout::Text => {
            read_bytes(true, rows, nulls, |row, out| take_escaped(row, |piece| out.extend_from_slice(piece)))
        }
        Layout::Bytes => {
            read_bytes(false, rows, nulls, |row, out| take_escaped(row, |piece| out.extend_from_slice(piece)))
        }
        Layout::List(item) => read_lists(
            &item,
            rows,
            nulls,
            |row, items| take_items(row, item.data_type(), |bytes| items.push(bytes)),
            |mut items| read_column(item.data_type(), &mut items),
        ),
    }
}

/// Takes the presence byte off a key: whether a value follows.
fn take_presence(row: &mut &[u8]) -> Result<bool> {
    match take(row)? {
        [VALUE] => Ok(true),
        [NULL] => Ok(false),
        [_] => Err(corrupted("a key column that is neither a value nor NULL")),
    }
}

/// Takes text or bytea off a key, in pieces.
fn take_escaped(row: &mut &[u8], mut piece: impl FnMut(&[u8])) -> Result<()> {
    loop {
        let zero = row.iter().position(|&b| b == 0).ok_or_else(|| corrupted("text without its end"))?;
        piece(take_slice(row, zero)?);
        match take(row)? {
            BYTES_END => return Ok(()),
            ESCAPED_ZERO => piece(&[0]),
            [_, _] => return Err(corrupted("a zero byte in text that is not escaped")),
        }
    }
}

/// Takes a list off a key: the bytes of each item.
fn take_items<'a>(row: &mut &'a [u8], item: &DataType, mut each: impl FnMut(&'a [u8])) -> Result<()> {
    loop {
        match take(row)? {
            [ITEM] => {
                let mut rest = *row;
                skip_column(item, &mut rest)?;
                each(take_slice(row, row.len() - rest.len())?);
            }
            [LIST_END] => return Ok(()),
            [_] => return Err(corrupted("a list without its end")),
        }
    }
}

/// Takes one column off a key without looking at it.
fn skip_column(data_type: &DataType, row: &mut &[u8]) -> Result<()> {
    if !take_presence(row)? {
        return Ok(());
    }
    let length = match Layout::of(data_type)? {
        Layout::Boolean => 1,
        Layout::I16 => 2,
        Layout::I32 | Layout::F32 => 4,
        Layout::I64 | Layout::F64 => 8,
        Layout::I128 => 16,
        Layout::Interval => 24,
        Layout::Text | Layout::Bytes => return take_escaped(row, |_| ()),
        Layout::List(item) => return take_items(row, item.data_type(), |_| ()),
    };
    take_slice(row, length).map(|_| ())
}

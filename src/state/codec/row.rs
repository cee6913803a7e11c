//! The row format: as few bytes as is cheap, in no order.
//!
//! A row begins with a bitmap of its NULLs (column *n* is bit *n* mod 8 of byte *n* / 8). Then the values that are not
//! NULL, in the order of the columns:
//!
//! | type | bytes |
//! |---|---|
//! | boolean | `00` or `01` |
//! | smallint, floats | little-endian |
//! | integer, bigint, date, time, timestamps | zigzag (0, −1, 1, −2 ...) as a varint: seven bits a byte, low ones first |
//! | numeric | how many bytes follow; the integer little-endian without bytes that only repeat the sign |
//! | interval | months, days, nanoseconds little-endian |
//! | text, bytea | length as a varint, the bytes |
//! | list | count as a varint, a bitmap of NULLs, the items that are not NULL |

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

/// Compact bytes of some columns, not ordered.
#[derive(Clone, Debug)]
pub struct RowCodec {
    types: Vec<DataType>,
}

impl RowCodec {
    /// The version of the format.
    pub const VERSION: u8 = 1;

    /// A codec for rows of these Arrow types.
    pub fn new(types: Vec<DataType>) -> RowCodec {
        RowCodec { types }
    }

    /// The Arrow types of the columns.
    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// One value for each row of the columns.
    pub fn encode(&self, columns: &[ArrayRef], rows: usize) -> Result<ByteRows> {
        debug_assert_eq!(columns.len(), self.types.len());
        let sources = columns
            .iter()
            .zip(&self.types)
            .map(|(column, data_type)| Source::new(column, data_type, rows, encode_lists))
            .collect::<Result<Vec<_>>>()?;
        let bitmap = sources.len().div_ceil(8);
        let mut lengths = vec![bitmap as u32; rows];
        for source in &sources {
            add_lengths(source, &mut lengths);
        }
        let mut writer = RowWriter::new(lengths)?;
        for (column, source) in sources.iter().enumerate() {
            if let Some(nulls) = &source.nulls {
                let null_rows = (0..rows).filter(|&row| nulls.is_null(row));
                null_rows.for_each(|row| writer.set_bits_ahead(row, column / 8, 1 << (column % 8)));
            }
        }
        writer.skip(bitmap);
        for source in &sources {
            write_values(source, &mut writer);
        }
        Ok(writer.finish())
    }

    /// The columns of these rows.
    pub fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let mut rows = rows.collect::<Vec<_>>();
        let length = self.types.len().div_ceil(8);
        let bitmaps = rows.iter_mut().map(|row| take_slice(row, length)).collect::<Result<Vec<_>>>()?;
        let columns = self
            .types
            .iter()
            .enumerate()
            .map(|(column, data_type)| {
                let valid = bitmaps.iter().map(|bitmap| !is_set(bitmap, column)).collect::<Vec<bool>>();
                let nulls = nulls_of(valid);
                read_values(data_type, &mut rows, nulls)
            })
            .collect::<Result<Vec<_>>>()?;
        expect_ends(&rows)?;
        Ok(columns)
    }
}

/// Whether a bit of a bitmap is set.
fn is_set(bitmap: &[u8], bit: usize) -> bool {
    bitmap[bit / 8] & (1 << (bit % 8)) != 0
}

/// Small numbers of either sign as small numbers.
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// How long a varint is.
fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

fn write_varint(mut value: u64, row: usize, writer: &mut RowWriter) {
    let mut bytes = [0; 10];
    let mut length = 0;
    while value >= 0x80 {
        bytes[length] = value as u8 | 0x80;
        value >>= 7;
        length += 1;
    }
    bytes[length] = value as u8;
    writer.put_slice(row, &bytes[..=length]);
}

fn take_varint(row: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = take(row)?;
        let bits = u64::from(byte & 0x7F);
        if shift == 63 && bits > 1 {
            break;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(corrupted("a number that is too long"))
}

fn take_zigzag(row: &mut &[u8]) -> Result<i64> {
    let value = take_varint(row)?;
    Ok((value >> 1) as i64 ^ -((value & 1) as i64))
}

/// A length that the row is long enough for.
fn take_length(row: &mut &[u8]) -> Result<usize> {
    usize::try_from(take_varint(row)?).map_err(|_| corrupted("a length that is too great"))
}

/// How many bytes of a number do not only repeat its sign.
fn numeric_len(value: i128) -> usize {
    let bits = 129 - if value < 0 { value.leading_ones() } else { value.leading_zeros() } as usize;
    if value == 0 { 0 } else { bits.div_ceil(8) }
}

fn take_numeric(row: &mut &[u8]) -> Result<i128> {
    let [length] = take(row)?;
    if length > 16 {
        return Err(corrupted("a number that is too long"));
    }
    let digits = take_slice(row, length as usize)?;
    let negative = digits.last().is_some_and(|&b| b >= 0x80);
    let mut bytes = [if negative { 0xFF } else { 0 }; 16];
    bytes[..digits.len()].copy_from_slice(digits);
    Ok(i128::from_le_bytes(bytes))
}

fn interval_bytes(value: IntervalMonthDayNano) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&value.months.to_le_bytes());
    bytes[4..8].copy_from_slice(&value.days.to_le_bytes());
    bytes[8..].copy_from_slice(&value.nanoseconds.to_le_bytes());
    bytes
}

fn take_interval(row: &mut &[u8]) -> Result<IntervalMonthDayNano> {
    let (months, days) = (i32::from_le_bytes(take(row)?), i32::from_le_bytes(take(row)?));
    Ok(IntervalMonthDayNano::new(months, days, i64::from_le_bytes(take(row)?)))
}

fn add_lengths(source: &Source, lengths: &mut [u32]) {
    match &source.values {
        Values::Boolean(_) => source.add_lengths(lengths, |_| 1),
        Values::I16(_) => source.add_lengths(lengths, |_| 2),
        Values::I32(v) => source.add_lengths(lengths, |row| varint_len(zigzag(v[row].into()))),
        Values::I64(v) => source.add_lengths(lengths, |row| varint_len(zigzag(v[row]))),
        Values::F32(_) => source.add_lengths(lengths, |_| 4),
        Values::F64(_) => source.add_lengths(lengths, |_| 8),
        Values::I128(v) => source.add_lengths(lengths, |row| 1 + numeric_len(v[row])),
        Values::Interval(_) => source.add_lengths(lengths, |_| 16),
        Values::Bytes(offsets, _) => source.add_lengths(lengths, |row| {
            let length = (offsets[row + 1] - offsets[row]) as usize;
            varint_len(length as u64) + length
        }),
        Values::Encoded(lists) => source.add_lengths(lengths, |row| lists.get(row).len()),
    }
}

fn write_values(source: &Source, writer: &mut RowWriter) {
    match &source.values {
        Values::Boolean(v) => source.for_valid(|row| writer.put(row, [v.value(row) as u8])),
        Values::I16(v) => source.for_valid(|row| writer.put(row, v[row].to_le_bytes())),
        Values::I32(v) => source.for_valid(|row| write_varint(zigzag(v[row].into()), row, writer)),
        Values::I64(v) => source.for_valid(|row| write_varint(zigzag(v[row]), row, writer)),
        Values::F32(v) => source.for_valid(|row| writer.put(row, v[row].to_le_bytes())),
        Values::F64(v) => source.for_valid(|row| writer.put(row, v[row].to_le_bytes())),
        Values::I128(v) => source.for_valid(|row| {
            let length = numeric_len(v[row]);
            writer.put(row, [length as u8]);
            writer.put_slice(row, &v[row].to_le_bytes()[..length]);
        }),
        Values::Interval(v) => source.for_valid(|row| writer.put(row, interval_bytes(v[row]))),
        Values::Bytes(offsets, bytes) => source.for_valid(|row| {
            let value = slice(offsets, bytes, row);
            write_varint(value.len() as u64, row, writer);
            writer.put_slice(row, value);
        }),
        Values::Encoded(lists) => source.for_valid(|row| writer.put_slice(row, lists.get(row))),
    }
}

/// Lists as bytes; a NULL as nothing.
fn encode_lists(lists: &ListArray, item: &Arc<Field>) -> Result<ByteRows> {
    let offsets = lists.value_offsets();
    let (first, last) = (offsets[0] as usize, offsets[lists.len()] as usize);
    let items = Source::new(&lists.values().slice(first, last - first), item.data_type(), last - first, encode_lists)?;
    let mut item_lengths = vec![0; last - first];
    add_lengths(&items, &mut item_lengths);
    let range = |row: usize| offsets[row] as usize - first..offsets[row + 1] as usize - first;
    let length = |row: usize| match lists.is_valid(row) {
        true => {
            let count = range(row).len();
            let content = item_lengths[range(row)].iter().map(|&l| l as usize).sum::<usize>();
            varint_len(count as u64) + count.div_ceil(8) + content
        }
        false => 0,
    };
    let lengths = (0..lists.len()).map(|row| u32::try_from(length(row)).unwrap_or(u32::MAX)).collect();
    let mut item_writer = RowWriter::new(item_lengths)?;
    write_values(&items, &mut item_writer);
    let encoded = item_writer.finish();
    let mut writer = RowWriter::new(lengths)?;
    for row in (0..lists.len()).filter(|&row| lists.is_valid(row)) {
        let count = range(row).len();
        write_varint(count as u64, row, &mut writer);
        let mut bitmap = vec![0; count.div_ceil(8)];
        for (n, i) in range(row).enumerate() {
            let null = items.nulls.as_ref().is_some_and(|nulls| nulls.is_null(i));
            bitmap[n / 8] |= u8::from(null) << (n % 8);
        }
        writer.put_slice(row, &bitmap);
        range(row).for_each(|i| writer.put_slice(row, encoded.get(i)));
    }
    Ok(writer.finish())
}

/// Takes one column off all rows.
fn read_values(data_type: &DataType, rows: &mut [&[u8]], nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    match Layout::of(data_type)? {
        Layout::Boolean => read_booleans(rows, nulls),
        Layout::I16 => read_natives(data_type, rows, nulls, |row| Ok(i16::from_le_bytes(take(row)?))),
        Layout::I32 => read_natives(data_type, rows, nulls, |row| {
            i32::try_from(take_zigzag(row)?).map_err(|_| corrupted("a number that is too great"))
        }),
        Layout::I64 => read_natives(data_type, rows, nulls, take_zigzag),
        Layout::F32 => read_natives(data_type, rows, nulls, |row| Ok(f32::from_le_bytes(take(row)?))),
        Layout::F64 => read_natives(data_type, rows, nulls, |row| Ok(f64::from_le_bytes(take(row)?))),
        Layout::I128 => read_natives(data_type, rows, nulls, take_numeric),
        Layout::Interval => read_natives(data_type, rows, nulls, take_interval),
        Layout::Text => read_bytes(true, rows, nulls, append_bytes),
        Layout::Bytes => read_bytes(false, rows, nulls, append_bytes),
        Layout::List(item) => read_lists(
            &item,
            rows,
            nulls,
            |row, items| take_items(row, item.data_type(), |bytes| items.push(bytes)),
            |items| {
                let valid = items.iter().map(Option::is_some).collect::<Vec<_>>();
                let nulls = nulls_of(valid);
                let mut items = items.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>();
                read_values(item.data_type(), &mut items, nulls)
            },
        ),
    }
}

/// Takes text or bytea off a row.
fn append_bytes(row: &mut &[u8], out: &mut Vec<u8>) -> Result<()> {
    let length = take_length(row)?;
    out.extend_from_slice(take_slice(row, length)?);
    Ok(())
}

/// Takes a list off a row: the bytes of each item, `None` for a NULL.
fn take_items<'a>(row: &mut &'a [u8], item: &DataType, mut each: impl FnMut(Option<&'a [u8]>)) -> Result<()> {
    let count = take_length(row)?;
    let bitmap = take_slice(row, count.div_ceil(8))?;
    for i in 0..count {
        if is_set(bitmap, i) {
            each(None);
            continue;
        }
        let mut rest = *row;
        skip_value(item, &mut rest)?;
        each(Some(take_slice(row, row.len() - rest.len())?));
    }
    Ok(())
}

/// Takes one value off a row without looking at it.
fn skip_value(data_type: &DataType, row: &mut &[u8]) -> Result<()> {
    let length = match Layout::of(data_type)? {
        Layout::Boolean => 1,
        Layout::I16 => 2,
        Layout::I32 | Layout::I64 => return take_varint(row).map(|_| ()),
        Layout::F32 => 4,
        Layout::F64 => 8,
        Layout::I128 => usize::from(take::<1>(row)?[0]),
        Layout::Interval => 16,
        Layout::Text | Layout::Bytes => take_length(row)?,
        Layout::List(item) => return take_items(row, item.data_type(), |_| ()),
    };
    take_slice(row, length).map(|_| ())
}

//! What both codecs need from Arrow: columns as slices of native values, rows written side by side, and arrays made of
//! what was read.

use std::sync::Arc;

use arrow::array::Array;
use arrow::array::ArrayData;
use arrow::array::ArrayRef;
use arrow::array::AsArray;
use arrow::array::BinaryArray;
use arrow::array::BooleanArray;
use arrow::array::ListArray;
use arrow::array::StringArray;
use arrow::array::make_array;
use arrow::buffer::BooleanBuffer;
use arrow::buffer::Buffer;
use arrow::buffer::NullBuffer;
use arrow::buffer::OffsetBuffer;
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::ArrowNativeType;
use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use arrow::datatypes::IntervalMonthDayNano;
use arrow::datatypes::IntervalUnit;
use arrow::datatypes::TimeUnit;

use crate::error::Error;
use crate::error::Result;
use crate::state::codec::ByteRows;
use crate::state::codec::corrupted;

/// How the values of an Arrow type lie in memory; all that an encoding depends on.
#[derive(Clone, Debug)]
pub(super) enum Layout {
    Boolean,
    I16,
    I32,
    I64,
    F32,
    F64,
    I128,
    Interval,
    Text,
    Bytes,
    List(Arc<Field>),
}

impl Layout {
    /// The layout of a type that a column of ours can have.
    pub(super) fn of(data_type: &DataType) -> Result<Layout> {
        Ok(match data_type {
            DataType::Boolean => Layout::Boolean,
            DataType::Int16 => Layout::I16,
            DataType::Int32 | DataType::Date32 => Layout::I32,
            DataType::Int64
            | DataType::Time64(TimeUnit::Microsecond)
            | DataType::Timestamp(TimeUnit::Microsecond, _) => Layout::I64,
            DataType::Float32 => Layout::F32,
            DataType::Float64 => Layout::F64,
            DataType::Decimal128(_, _) => Layout::I128,
            DataType::Interval(IntervalUnit::MonthDayNano) => Layout::Interval,
            DataType::Utf8 => Layout::Text,
            DataType::Binary => Layout::Bytes,
            DataType::List(item) => Layout::List(item.clone()),
            other => return Err(Error::internal(format!("no SQL type is stored as {other}"))),
        })
    }
}

/// A column about to be encoded.
pub(super) struct Source {
    /// Its values.
    pub(super) values: Values,
    /// Which rows are NULL; `None` if no row is.
    pub(super) nulls: Option<NullBuffer>,
    /// How many rows it has.
    rows: usize,
}

/// The values of a [`Source`]; those of NULLs are arbitrary.
pub(super) enum Values {
    Boolean(BooleanBuffer),
    I16(ScalarBuffer<i16>),
    I32(ScalarBuffer<i32>),
    I64(ScalarBuffer<i64>),
    F32(ScalarBuffer<f32>),
    F64(ScalarBuffer<f64>),
    I128(ScalarBuffer<i128>),
    Interval(ScalarBuffer<IntervalMonthDayNano>),
    /// Text and bytea.
    Bytes(OffsetBuffer<i32>, Buffer),
    /// Lists, which the codec encoded beforehand.
    Encoded(ByteRows),
}

impl Source {
    /// Looks into an array, which must be of the type that the codec was made for; `list` encodes lists, a NULL as
    /// nothing.
    pub(super) fn new(
        array: &ArrayRef,
        data_type: &DataType,
        rows: usize,
        list: impl Fn(&ListArray, &Arc<Field>) -> Result<ByteRows>,
    ) -> Result<Source> {
        if !array.data_type().equals_datatype(data_type) || array.len() != rows {
            let (given, len) = (array.data_type(), array.len());
            return Err(Error::internal(format!("{rows} rows of {data_type} wanted, {len} of {given} given")));
        }
        let values = match Layout::of(data_type)? {
            Layout::Boolean => Values::Boolean(array.as_boolean().values().clone()),
            Layout::I16 => Values::I16(natives_of(array)),
            Layout::I32 => Values::I32(natives_of(array)),
            Layout::I64 => Values::I64(natives_of(array)),
            Layout::F32 => Values::F32(natives_of(array)),
            Layout::F64 => Values::F64(natives_of(array)),
            Layout::I128 => Values::I128(natives_of(array)),
            Layout::Interval => Values::Interval(natives_of(array)),
            Layout::Text => {
                let array = array.as_string::<i32>();
                Values::Bytes(array.offsets().clone(), array.values().clone())
            }
            Layout::Bytes => {
                let array = array.as_binary::<i32>();
                Values::Bytes(array.offsets().clone(), array.values().clone())
            }
            Layout::List(item) => Values::Encoded(list(array.as_list::<i32>(), &item)?),
        };
        let nulls = array.nulls().filter(|n| n.null_count() > 0).cloned();
        Ok(Source { values, nulls, rows })
    }

    /// Calls `f` for each row that is not NULL.
    pub(super) fn for_valid(&self, f: impl FnMut(usize)) {
        match &self.nulls {
            None => (0..self.rows).for_each(f),
            Some(nulls) => nulls.valid_indices().for_each(f),
        }
    }

    /// Adds `length` to the length of each row that is not NULL.
    pub(super) fn add_lengths(&self, lengths: &mut [u32], length: impl Fn(usize) -> usize) {
        self.for_valid(|row| {
            lengths[row] = lengths[row].saturating_add(u32::try_from(length(row)).unwrap_or(u32::MAX))
        });
    }
}

/// The values of a primitive array.
fn natives_of<N: ArrowNativeType>(array: &ArrayRef) -> ScalarBuffer<N> {
    let data = array.to_data();
    ScalarBuffer::new(data.buffers()[0].clone(), data.offset(), data.len())
}

/// The `index`th of some byte strings.
pub(super) fn slice<'a>(offsets: &OffsetBuffer<i32>, bytes: &'a [u8], index: usize) -> &'a [u8] {
    &bytes[offsets[index] as usize..offsets[index + 1] as usize]
}

/// Rows being written, all side by side.
pub(super) struct RowWriter {
    /// All rows, one after the other.
    bytes: Vec<u8>,
    /// Where the next byte of each row goes; in the end, where the row ends.
    at: Vec<u32>,
}

impl RowWriter {
    /// Room, all zeroes, for rows of these lengths.
    pub(super) fn new(lengths: Vec<u32>) -> Result<RowWriter> {
        let mut total = 0u32;
        let mut at = lengths;
        for length in &mut at {
            let start = total;
            total = total.checked_add(*length).ok_or_else(|| Error::too_complex("one batch of rows exceeds 4 GiB"))?;
            *length = start;
        }
        Ok(RowWriter { bytes: vec![0; total as usize], at })
    }

    /// How many rows.
    pub(super) fn rows(&self) -> usize {
        self.at.len()
    }

    /// Appends to one row.
    #[inline]
    pub(super) fn put<const N: usize>(&mut self, row: usize, bytes: [u8; N]) {
        let at = self.at[row] as usize;
        self.bytes[at..at + N].copy_from_slice(&bytes);
        self.at[row] += N as u32;
    }

    /// Appends to one row.
    #[inline]
    pub(super) fn put_slice(&mut self, row: usize, bytes: &[u8]) {
        let at = self.at[row] as usize;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.at[row] += bytes.len() as u32;
    }

    /// Sets bits in the byte that lies `ahead` of the next of one row.
    pub(super) fn set_bits_ahead(&mut self, row: usize, ahead: usize, bits: u8) {
        self.bytes[self.at[row] as usize + ahead] |= bits;
    }

    /// Goes on by `length` bytes in every row.
    pub(super) fn skip(&mut self, length: usize) {
        self.at.iter_mut().for_each(|at| *at += length as u32);
    }

    /// All rows, written to their ends.
    pub(super) fn finish(self) -> ByteRows {
        debug_assert_eq!(self.at.last().copied().unwrap_or(0) as usize, self.bytes.len());
        ByteRows { bytes: self.bytes, ends: self.at }
    }
}

/// The first `N` bytes of a row, taken off it.
#[inline]
pub(super) fn take<const N: usize>(row: &mut &[u8]) -> Result<[u8; N]> {
    let (head, tail) = row.split_first_chunk().ok_or_else(|| corrupted("a value ends too early"))?;
    *row = tail;
    Ok(*head)
}

/// The first `length` bytes of a row, taken off it.
#[inline]
pub(super) fn take_slice<'a>(row: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (head, tail) = row.split_at_checked(length).ok_or_else(|| corrupted("a value ends too early"))?;
    *row = tail;
    Ok(head)
}

/// All rows must have been read to their ends.
pub(super) fn expect_ends(rows: &[&[u8]]) -> Result<()> {
    match rows.iter().all(|row| row.is_empty()) {
        true => Ok(()),
        false => Err(corrupted("bytes after the last value")),
    }
}

/// Calls `f` for each row that is not NULL, until it fails.
fn try_for_valid(nulls: Option<&NullBuffer>, rows: usize, mut f: impl FnMut(usize) -> Result<()>) -> Result<()> {
    match nulls {
        None => (0..rows).try_for_each(f),
        Some(nulls) => nulls.valid_indices().try_for_each(&mut f),
    }
}

/// Where there are no values; `None`: nowhere.
pub(super) fn nulls_of(valid: Vec<bool>) -> Option<NullBuffer> {
    valid.contains(&false).then(|| NullBuffer::from(valid))
}

/// An array of a primitive type; `read` takes one value off its row.
pub(super) fn read_natives<N: ArrowNativeType + Default>(
    data_type: &DataType,
    rows: &mut [&[u8]],
    nulls: Option<NullBuffer>,
    read: impl Fn(&mut &[u8]) -> Result<N>,
) -> Result<ArrayRef> {
    let mut values = vec![N::default(); rows.len()];
    try_for_valid(nulls.as_ref(), rows.len(), |row| {
        values[row] = read(&mut rows[row])?;
        Ok(())
    })?;
    let data = ArrayData::builder(data_type.clone())
        .len(values.len())
        .add_buffer(Buffer::from_vec(values))
        .nulls(nulls)
        .build()
        .map_err(|e| corrupted(&e.to_string()))?;
    Ok(make_array(data))
}

/// An array of booleans, each one byte of 0 or 1.
pub(super) fn read_booleans(rows: &mut [&[u8]], nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    let mut values = vec![false; rows.len()];
    try_for_valid(nulls.as_ref(), rows.len(), |row| {
        values[row] = match take(&mut rows[row])? {
            [0] => false,
            [1] => true,
            [_] => return Err(corrupted("a boolean that is neither true nor false")),
        };
        Ok(())
    })?;
    Ok(Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)))
}

/// An array of text or bytea; `read` takes one value off its row and appends it.
pub(super) fn read_bytes(
    text: bool,
    rows: &mut [&[u8]],
    nulls: Option<NullBuffer>,
    read: impl Fn(&mut &[u8], &mut Vec<u8>) -> Result<()>,
) -> Result<ArrayRef> {
    let mut bytes = Vec::with_capacity(rows.iter().map(|row| row.len()).sum());
    let mut lengths = vec![0; rows.len()];
    try_for_valid(nulls.as_ref(), rows.len(), |row| {
        let start = bytes.len();
        read(&mut rows[row], &mut bytes)?;
        lengths[row] = bytes.len() - start;
        Ok(())
    })?;
    let offsets = offsets(lengths)?;
    let bytes = Buffer::from_vec(bytes);
    let array: ArrayRef = match text {
        true => Arc::new(StringArray::try_new(offsets, bytes, nulls).map_err(|e| corrupted(&e.to_string()))?),
        false => Arc::new(BinaryArray::try_new(offsets, bytes, nulls).map_err(|e| corrupted(&e.to_string()))?),
    };
    Ok(array)
}

/// An array of lists; `split` takes one list off its row and appends the bytes of its items; `items` decodes them all.
pub(super) fn read_lists<'a, I>(
    item: &Arc<Field>,
    rows: &mut [&'a [u8]],
    nulls: Option<NullBuffer>,
    split: impl Fn(&mut &'a [u8], &mut Vec<I>) -> Result<()>,
    items: impl Fn(Vec<I>) -> Result<ArrayRef>,
) -> Result<ArrayRef> {
    let mut parts = Vec::new();
    let mut lengths = vec![0; rows.len()];
    try_for_valid(nulls.as_ref(), rows.len(), |row| {
        let start = parts.len();
        split(&mut rows[row], &mut parts)?;
        lengths[row] = parts.len() - start;
        Ok(())
    })?;
    let list = ListArray::try_new(item.clone(), offsets(lengths)?, items(parts)?, nulls);
    Ok(Arc::new(list.map_err(|e| corrupted(&e.to_string()))?))
}

/// Arrow's offsets for values of these lengths.
fn offsets(lengths: Vec<usize>) -> Result<OffsetBuffer<i32>> {
    if lengths.iter().sum::<usize>() > i32::MAX as usize {
        return Err(Error::too_complex("one batch of values exceeds 2 GiB"));
    }
    Ok(OffsetBuffer::from_lengths(lengths))
}

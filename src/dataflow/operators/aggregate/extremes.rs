//! `min` and `max` over input that only grows: the extreme value so far is all there is to keep.

use std::cmp::Ordering;

use arrow::array::ArrayRef;
use arrow::array::new_null_array;
use arrow::compute::interleave;
use arrow::datatypes::DataType;

use crate::delta::arrow_error;
use crate::error::Error;
use crate::error::Result;
use crate::state::Moves;
use crate::state::codec::KeyCodec;
use crate::types::SqlType;

use super::accumulators::Accumulators;
use super::accumulators::Rows;
use super::accumulators::argument;
use super::byte_column::ByteColumn;
use super::ordinals::from_ordinals;
use super::ordinals::has_ordinals;
use super::ordinals::ordinals;
use super::record::put_bytes;
use super::record::put_integer;
use super::record::take_bytes;
use super::record::take_integer;

/// Which end of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Least,
    Greatest,
}

impl End {
    /// Whether `a` is nearer to this end than `b`.
    #[inline]
    pub fn prefers<T: Ord + ?Sized>(self, a: &T, b: &T) -> bool {
        match self {
            End::Least => a.cmp(b) == Ordering::Less,
            End::Greatest => a.cmp(b) == Ordering::Greater,
        }
    }
}

/// A column for `min` or `max` over append-only input.
pub(super) fn extremes(end: End, ty: &SqlType) -> Box<dyn Accumulators> {
    let data_type = ty.arrow();
    match has_ordinals(&data_type) {
        true => Box::new(FixedExtremes { end, data_type, values: Vec::new(), known: Vec::new() }),
        false => Box::new(ByteExtremes { end, codec: ValueCodec::new(data_type), values: ByteColumn::default() }),
    }
}

fn retracted() -> Error {
    Error::internal("a row was taken back from input that was proved to be append-only")
}

/// Extremes of values with ordinals.
struct FixedExtremes {
    end: End,
    data_type: DataType,
    /// The extreme's ordinal, by slot.
    values: Vec<i128>,
    /// Whether there was any value, by slot.
    known: Vec<bool>,
}

impl Accumulators for FixedExtremes {
    fn grow(&mut self, slots: usize) {
        self.values.resize(slots, 0);
        self.known.resize(slots, false);
    }

    fn compact(&mut self, moves: &Moves) {
        moves.apply(&mut self.values);
        moves.apply(&mut self.known);
    }

    fn update(&mut self, rows: &Rows<'_>, values: Option<&ArrayRef>) -> Result<()> {
        if !rows.only_inserts() {
            return Err(retracted());
        }
        let ordinals =
            ordinals(argument(values)?).ok_or_else(|| Error::internal("min or max over a column of another type"))?;
        rows.each(|row, slot, _| {
            if !self.known[slot] || self.end.prefers(&ordinals[row], &self.values[slot]) {
                self.known[slot] = true;
                self.values[slot] = ordinals[row];
            }
        });
        Ok(())
    }

    fn finish(&self, slots: &[u32], _errors: &mut Vec<(usize, Error)>) -> Result<ArrayRef> {
        let values = slots.iter().map(|slot| *slot as usize).map(|slot| self.known[slot].then_some(self.values[slot]));
        Ok(from_ordinals(values, &self.data_type).expect("made for types with ordinals"))
    }

    fn write(&self, slot: u32, out: &mut Vec<u8>) {
        put_integer(out, self.known[slot as usize] as i128);
        if self.known[slot as usize] {
            put_integer(out, self.values[slot as usize]);
        }
    }

    fn read(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        self.known[slot as usize] = take_integer(bytes)? != 0;
        if self.known[slot as usize] {
            self.values[slot as usize] = take_integer(bytes)?;
        }
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.values.len() * size_of::<i128>() + self.known.len()
    }
}

/// Extremes of all other values, as key bytes.
struct ByteExtremes {
    end: End,
    codec: ValueCodec,
    /// The extreme's key bytes, by slot.
    values: ByteColumn,
}

impl Accumulators for ByteExtremes {
    fn grow(&mut self, slots: usize) {
        self.values.grow(slots);
    }

    fn compact(&mut self, moves: &Moves) {
        self.values.compact(moves);
    }

    fn update(&mut self, rows: &Rows<'_>, values: Option<&ArrayRef>) -> Result<()> {
        if !rows.only_inserts() {
            return Err(retracted());
        }
        let values = argument(values)?;
        let keys = self.codec.0.encode(std::slice::from_ref(values), values.len())?;
        rows.each(|row, slot, _| {
            let value = keys.get(row);
            if self.values.get(slot).is_none_or(|extreme| self.end.prefers(value, extreme)) {
                self.values.set(slot, Some(value));
            }
        });
        Ok(())
    }

    fn finish(&self, slots: &[u32], _errors: &mut Vec<(usize, Error)>) -> Result<ArrayRef> {
        self.codec.decode(&self.values, slots)
    }

    fn write(&self, slot: u32, out: &mut Vec<u8>) {
        put_bytes(out, self.values.get(slot as usize));
    }

    fn read(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        self.values.set(slot as usize, take_bytes(bytes)?);
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.values.memory_bytes()
    }
}

/// Values of one column as key bytes, which order as the values do.
pub(super) struct ValueCodec(pub KeyCodec, DataType);

impl ValueCodec {
    pub fn new(data_type: DataType) -> ValueCodec {
        ValueCodec(KeyCodec::new(vec![data_type.clone()]), data_type)
    }

    /// The values of these slots as an array; none is NULL.
    pub fn decode(&self, values: &ByteColumn, slots: &[u32]) -> Result<ArrayRef> {
        let present = slots.iter().filter_map(|slot| values.get(*slot as usize));
        let decoded = self.0.decode(present)?.pop().expect("a codec of one column");
        if decoded.len() == slots.len() {
            return Ok(decoded);
        }
        let null = new_null_array(&self.1, 1);
        let mut next = 0;
        let places = slots.iter().map(|slot| match values.get(*slot as usize) {
            None => (0, 0),
            Some(_) => {
                next += 1;
                (1, next - 1)
            }
        });
        interleave(&[&null, &decoded], &places.collect::<Vec<_>>()).map_err(arrow_error)
    }
}

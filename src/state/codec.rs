//! Rows and keys as bytes: two formats of ours, versioned, for disk and for hashing. Keys order as SQL orders.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use crate::error::{Error, Result};

/// Many byte strings one after the other.
#[derive(Clone, Debug, Default)]
pub struct ByteRows {
    /// All bytes.
    pub bytes: Vec<u8>,
    /// Where each ends in `bytes`.
    pub ends: Vec<u32>,
}

impl ByteRows {
    /// The `index`th.
    pub fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.bytes[start..self.ends[index] as usize]
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i))
    }
}

/// Order-preserving bytes of some columns: byte order is SQL order (ascending, NULLs last), equal bytes are equal values.
#[derive(Clone, Debug)]
pub struct KeyCodec {
    types: Vec<DataType>,
}

/// Compact bytes of some columns, not ordered.
#[derive(Clone, Debug)]
pub struct RowCodec {
    types: Vec<DataType>,
}

impl KeyCodec {
    /// A codec for keys of these Arrow types.
    pub fn new(types: Vec<DataType>) -> KeyCodec {
        KeyCodec { types }
    }

    /// One key for each row of the columns.
    pub fn encode(&self, _columns: &[ArrayRef], _rows: usize) -> Result<ByteRows> {
        Err(Error::internal(format!("{:?}", self.types)))
    }

    /// The columns of these keys.
    pub fn decode<'a>(&self, _keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        Err(Error::internal(""))
    }
}

impl RowCodec {
    /// A codec for rows of these Arrow types.
    pub fn new(types: Vec<DataType>) -> RowCodec {
        RowCodec { types }
    }

    /// One value for each row of the columns.
    pub fn encode(&self, _columns: &[ArrayRef], _rows: usize) -> Result<ByteRows> {
        Err(Error::internal(format!("{:?}", self.types)))
    }

    /// The columns of these rows.
    pub fn decode<'a>(&self, _rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        Err(Error::internal(""))
    }
}

/// The hash of a key's bytes: chooses shard and worker, so it never changes.
pub fn hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

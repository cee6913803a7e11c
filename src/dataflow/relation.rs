//! How the rows of a table or view lie in the store, and the way there and back.
//!
//! | storage | key | value |
//! |---|---|---|
//! | [`Storage::Keyed`] | order-preserving bytes of the key columns | the other columns |
//! | [`Storage::Hashed`] | 128-bit hash of the row's bytes | varint count, then all columns |
//! | [`Storage::Log`] | epoch, worker, page | number of rows, their ends, then their bytes |

use arrow::array::ArrayRef;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::catalog::Object;
use crate::catalog::Storage;
use crate::delta::Delta;
use crate::error::Error;
use crate::error::Result;
use crate::ids::Portion;
use crate::state::Scan;
use crate::state::codec::ByteRows;
use crate::state::codec::KeyCodec;
use crate::state::codec::RowCodec;
use crate::types::Column;
use crate::types::schema_of;

/// How many rows a page of a log holds at most.
pub const PAGE_ROWS: usize = 4096;

/// Encodes and decodes the stored rows of one relation.
#[derive(Clone, Debug)]
pub struct RelationCodec {
    /// How the rows are stored.
    pub storage: Storage,
    /// The schema of a row.
    pub schema: SchemaRef,
    /// The key columns; empty unless keyed.
    key: Vec<usize>,
    /// The columns in the value.
    rest: Vec<usize>,
    key_codec: KeyCodec,
    row_codec: RowCodec,
}

impl RelationCodec {
    /// The codec of rows of these columns stored so.
    pub fn new(columns: &[Column], storage: Storage) -> RelationCodec {
        let key = match &storage {
            Storage::Keyed(key) => key.clone(),
            Storage::Hashed | Storage::Log => Vec::new(),
        };
        let rest = (0..columns.len()).filter(|i| !key.contains(i)).collect::<Vec<_>>();
        let types = |indices: &[usize]| indices.iter().map(|&i| columns[i].ty.arrow()).collect::<Vec<_>>();
        RelationCodec {
            schema: schema_of(columns),
            key_codec: KeyCodec::new(types(&key)),
            row_codec: RowCodec::new(types(&rest)),
            key,
            rest,
            storage,
        }
    }

    /// The codec of a stored object's rows; `None` for what is not stored.
    pub fn of(object: &Object) -> Option<RelationCodec> {
        Some(RelationCodec::new(&object.stored_columns(), object.storage()?))
    }

    /// The key columns, of a keyed relation.
    pub fn key_columns(&self) -> &[usize] {
        &self.key
    }

    /// The store keys of rows of a keyed relation.
    pub fn keys(&self, batch: &RecordBatch) -> Result<ByteRows> {
        let columns = self.key.iter().map(|&i| batch.column(i).clone()).collect::<Vec<_>>();
        self.key_codec.encode(&columns, batch.num_rows())
    }

    /// The codec of the key's first columns, for range reads.
    pub fn key_prefix(&self, values: &[ArrayRef]) -> Result<Vec<u8>> {
        let types = values.iter().map(|v| v.data_type().clone()).collect();
        let rows = KeyCodec::new(types).encode(values, 1)?;
        Ok(rows.get(0).to_vec())
    }

    /// The bytes of the columns that are not in the key: for a hashed or logged relation, of all columns.
    pub fn values(&self, batch: &RecordBatch) -> Result<ByteRows> {
        let columns = self.rest.iter().map(|&i| batch.column(i).clone()).collect::<Vec<_>>();
        self.row_codec.encode(&columns, batch.num_rows())
    }

    /// Rows of a keyed relation from their store entries.
    pub fn decode<'a>(&self, entries: &[(&'a [u8], &'a [u8])]) -> Result<RecordBatch> {
        let keys = self.key_codec.decode(entries.iter().map(|(key, _)| *key))?;
        let rest = self.row_codec.decode(entries.iter().map(|(_, value)| *value))?;
        self.assemble(keys, rest, entries.len())
    }

    /// Rows of a hashed or logged relation from their bytes.
    pub fn decode_rows<'a>(&self, rows: impl Iterator<Item = &'a [u8]>, count: usize) -> Result<RecordBatch> {
        let rest = self.row_codec.decode(rows)?;
        self.assemble(Vec::new(), rest, count)
    }

    /// Puts key and other columns back into their places.
    fn assemble(&self, keys: Vec<ArrayRef>, rest: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.schema.fields().len()];
        for (&index, array) in self.key.iter().zip(keys).chain(self.rest.iter().zip(rest)) {
            columns[index] = Some(array);
        }
        let columns = columns.into_iter().map(|c| c.expect("every column is in the key or in the rest")).collect();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|e| Error::corrupted(format!("stored rows do not fit their relation: {e}")))
    }

    /// A page of a log: these rows' bytes as one value.
    pub fn encode_page(&self, rows: &ByteRows, from: usize, to: usize) -> Vec<u8> {
        let start = if from == 0 { 0 } else { rows.ends[from - 1] };
        let mut page = Vec::with_capacity(4 + 4 * (to - from) + (rows.ends[to - 1] - start) as usize);
        page.extend(((to - from) as u32).to_le_bytes());
        for end in &rows.ends[from..to] {
            page.extend((end - start).to_le_bytes());
        }
        page.extend(&rows.bytes[start as usize..rows.ends[to - 1] as usize]);
        page
    }

    /// The key of a page of a log: epoch (8 bytes), worker (2), portion and page (4), all big-endian.
    pub fn page_key(portion: Portion, worker: u16, page: usize) -> [u8; 14] {
        let mut key = [0; 14];
        key[..8].copy_from_slice(&portion.epoch.0.to_be_bytes());
        key[8..10].copy_from_slice(&worker.to_be_bytes());
        key[10..].copy_from_slice(&portion.page(page).to_be_bytes());
        key
    }

    /// How many rows a page has.
    pub fn rows_of_page(page: &[u8]) -> usize {
        page.first_chunk::<4>().map_or(0, |count| u32::from_le_bytes(*count) as usize)
    }

    /// The rows of a page.
    pub fn decode_page(&self, page: &[u8]) -> Result<RecordBatch> {
        let damaged = || Error::corrupted("a page of a relation is damaged");
        let word = |at: usize| -> Result<usize> {
            let bytes = page.get(at..at + 4).ok_or_else(damaged)?;
            Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes")) as usize)
        };
        let count = word(0)?;
        let body = page.get(4 + 4 * count..).ok_or_else(damaged)?;
        let mut rows = Vec::with_capacity(count);
        let mut start = 0;
        for i in 0..count {
            let end = word(4 + 4 * i)?;
            rows.push(body.get(start..end).ok_or_else(damaged)?);
            start = end;
        }
        self.decode_rows(rows.into_iter(), count)
    }

    /// The value of a hashed relation's entry, in place of what is in `value`.
    pub fn encode_counted(&self, count: i64, row: &[u8], value: &mut Vec<u8>) {
        value.clear();
        value.extend(count.to_le_bytes());
        value.extend(row);
    }

    /// Count and row bytes of a hashed relation's entry.
    pub fn decode_counted<'a>(&self, value: &'a [u8]) -> Result<(i64, &'a [u8])> {
        let (count, row) =
            value.split_first_chunk::<8>().ok_or_else(|| Error::corrupted("a row of a relation is damaged"))?;
        Ok((i64::from_le_bytes(*count), row))
    }

    /// The key of a row in a hashed relation.
    pub fn row_hash(row: &[u8]) -> [u8; 16] {
        xxhash_rust::xxh3::xxh3_128(row).to_be_bytes()
    }

    /// The content of any stored relation as deltas of at most about `rows` rows: calls `next` for entry after entry until
    /// there is enough. `None` at the end.
    pub fn read_chunk(&self, scan: &mut Scan, rows: usize) -> Result<Option<Delta>> {
        self.read_chunk_to(scan, rows, &mut Vec::new())
    }

    /// As [`RelationCodec::read_chunk`]; `last` becomes the key of the last entry that was read, if any was.
    pub fn read_chunk_to(&self, scan: &mut Scan, rows: usize, last: &mut Vec<u8>) -> Result<Option<Delta>> {
        match &self.storage {
            Storage::Keyed(_) => self.read_keyed(scan, rows, last),
            Storage::Hashed => self.read_hashed(scan, rows, last),
            Storage::Log => match scan.next_entry()? {
                Some((key, page)) => {
                    *last = key.to_vec();
                    Ok(Some(Delta::inserts(self.decode_page(page)?)))
                }
                None => Ok(None),
            },
        }
    }

    fn read_keyed(&self, scan: &mut Scan, rows: usize, last: &mut Vec<u8>) -> Result<Option<Delta>> {
        let (mut keys, mut values) = (ByteRows::default(), ByteRows::default());
        while keys.len() < rows
            && let Some((key, value)) = scan.next_entry()?
        {
            keys.push(key);
            values.push(value);
        }
        if keys.is_empty() {
            return Ok(None);
        }
        *last = keys.get(keys.len() - 1).to_vec();
        let entries = keys.iter().zip(values.iter()).collect::<Vec<_>>();
        Ok(Some(Delta::inserts(self.decode(&entries)?)))
    }

    fn read_hashed(&self, scan: &mut Scan, rows: usize, last: &mut Vec<u8>) -> Result<Option<Delta>> {
        let (mut bytes, mut weights) = (ByteRows::default(), Vec::new());
        while weights.len() < rows
            && let Some((key, value)) = scan.next_entry()?
        {
            last.clear();
            last.extend_from_slice(key);
            let (count, row) = self.decode_counted(value)?;
            bytes.push(row);
            weights.push(count);
        }
        if weights.is_empty() {
            return Ok(None);
        }
        let batch = self.decode_rows(bytes.iter(), weights.len())?;
        Ok(Some(Delta::new(batch, weights.into())))
    }
}

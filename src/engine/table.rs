//! A table as its writers see it: its shape, the changes not yet committed, and what lies below them.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::array::TimestampMicrosecondArray;
use arrow::datatypes::SchemaRef;

use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::catalog::Table;
use crate::dataflow::relation::RelationCodec;
use crate::error::Error;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::state::Scan;
use crate::state::Snapshot;
use crate::state::Space;
use crate::state::StateReader;
use crate::state::Writes;
use crate::time::Micros;
use crate::types::UTC;
use crate::types::schema_of;

/// What writing to a table needs to know of it.
#[derive(Clone, Debug)]
pub struct TableShape {
    /// The table.
    pub id: ObjectId,
    /// Its name.
    pub name: String,
    /// Its definition.
    pub table: Table,
    /// The schema of the declared columns.
    pub declared: SchemaRef,
    /// How its rows are stored.
    pub codec: RelationCodec,
}

impl TableShape {
    /// The shape of a table; anything else cannot be written.
    pub fn of(object: &Object) -> Result<TableShape> {
        let ObjectKind::Table(table) = &object.kind else {
            let message = format!("cannot change {} \"{}\"", object.noun(), object.name);
            return Err(Error::new(crate::error::Kind::WrongObjectType, message)
                .hint("Only tables take INSERT, UPDATE, DELETE and TRUNCATE."));
        };
        Ok(TableShape {
            id: object.id,
            name: object.name.clone(),
            declared: schema_of(&table.columns),
            codec: RelationCodec::of(object).expect("tables are stored"),
            table: table.clone(),
        })
    }

    /// Whether rows have a hidden id for their key.
    pub fn has_row_ids(&self) -> bool {
        self.table.primary_key.is_empty()
    }

    /// Stored rows that carry this watermark, if the table declares one: every change carries that of the epoch before, also
    /// one that takes back a row which has carried an earlier one until now.
    pub fn stamped(&self, stored: &RecordBatch, watermark: Option<Micros>) -> Result<RecordBatch> {
        if self.table.watermark.is_none() {
            return Ok(stored.clone());
        }
        let mut columns = stored.columns().to_vec();
        let column = TimestampMicrosecondArray::from(vec![watermark; stored.num_rows()]).with_timezone(UTC);
        *columns.last_mut().expect("the hidden column is the last") = Arc::new(column);
        RecordBatch::try_new(self.codec.schema.clone(), columns).map_err(crate::delta::arrow_error)
    }

    /// The stored value of a row that carries this watermark instead of its own.
    pub fn restamped(&self, key: &[u8], value: &[u8], watermark: Option<Micros>) -> Result<Vec<u8>> {
        if self.table.watermark.is_none() {
            return Ok(value.to_vec());
        }
        let row = self.stamped(&self.codec.decode(&[(key, value)])?, watermark)?;
        Ok(self.codec.values(&row)?.get(0).to_vec())
    }

    /// The declared columns of stored rows.
    pub fn declared_of(&self, stored: &RecordBatch) -> Result<RecordBatch> {
        let columns = stored.columns()[..self.declared.fields().len()].to_vec();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(stored.num_rows()));
        RecordBatch::try_new_with_options(self.declared.clone(), columns, &options).map_err(crate::delta::arrow_error)
    }
}

/// Stored rows below some changes: those of a snapshot, or of the epoch before.
pub trait Base {
    /// The values of these keys, in their order.
    fn get_many(&self, object: ObjectId, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>>;

    /// The entries from a key on, in key order.
    fn scan(&self, object: ObjectId, from: &[u8]) -> Scan;
}

impl Base for Snapshot {
    fn get_many(&self, object: ObjectId, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        Snapshot::get_many(self, Space::Relation(object), keys)
    }

    fn scan(&self, object: ObjectId, from: &[u8]) -> Scan {
        Snapshot::scan(self, Space::Relation(object), Some(from), None)
    }
}

impl Base for StateReader {
    fn get_many(&self, object: ObjectId, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        let wanted = keys.iter().map(|key| (Space::Relation(object), *key)).collect::<Vec<_>>();
        let mut values = vec![None; keys.len()];
        StateReader::get_many(self, &wanted, &mut |index, value| {
            values[index] = value.map(<[u8]>::to_vec);
            Ok(())
        })?;
        Ok(values)
    }

    fn scan(&self, object: ObjectId, from: &[u8]) -> Scan {
        StateReader::scan(self, Space::Relation(object), Some(from), None)
    }
}

/// A stored row: key and value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// One key's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The value before the first change.
    pub before: Option<Vec<u8>>,
    /// The value now.
    pub after: Option<Vec<u8>>,
}

/// What a change takes besides its bytes.
const CHANGE_BYTES: usize = 120;

/// Changes of tables by key, over a [`Base`]: those of the running epoch, or of a transaction.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    tables: HashMap<ObjectId, BTreeMap<Vec<u8>, Change>>,
    /// About how much memory they take.
    bytes: usize,
}

impl Changes {
    /// The values of these keys as they stand.
    pub fn get_many(&self, base: &dyn Base, object: ObjectId, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        let Some(changed) = self.tables.get(&object).filter(|changed| !changed.is_empty()) else {
            return base.get_many(object, keys);
        };
        let mut values = keys.iter().map(|key| changed.get(*key).map(|c| c.after.clone())).collect::<Vec<_>>();
        let missing = (0..keys.len()).filter(|&i| values[i].is_none()).collect::<Vec<_>>();
        let below = base.get_many(object, &missing.iter().map(|&i| keys[i]).collect::<Vec<_>>())?;
        for (index, value) in missing.into_iter().zip(below) {
            values[index] = Some(value);
        }
        Ok(values.into_iter().map(Option::flatten).collect())
    }

    /// Entries of a table as they stand, in key order from this key on: those that come of so many in the base. Also returns
    /// the key from which on there are more.
    pub fn entries(
        &self,
        base: &dyn Base,
        object: ObjectId,
        from: &[u8],
        most: usize,
    ) -> Result<(Vec<Entry>, Option<Vec<u8>>)> {
        let (mut all, mut next) = (BTreeMap::new(), None);
        let mut scan = base.scan(object, from);
        while let Some((key, value)) = scan.next_entry()? {
            if all.len() == most {
                next = Some(key.to_vec());
                break;
            }
            all.insert(key.to_vec(), value.to_vec());
        }
        let to = next.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let changed = self.tables.get(&object).map(|changed| changed.range::<[u8], _>((Bound::Included(from), to)));
        for (key, change) in changed.into_iter().flatten() {
            match &change.after {
                Some(value) => all.insert(key.clone(), value.clone()),
                None => all.remove(key),
            };
        }
        Ok((all.into_iter().collect(), next))
    }

    /// Records that a key's value was `before` and is `after` now.
    pub fn set(&mut self, object: ObjectId, key: &[u8], before: Option<Vec<u8>>, after: Option<Vec<u8>>) {
        self.bytes += after.as_ref().map_or(0, Vec::len);
        let table = self.tables.entry(object).or_default();
        match table.get_mut(key) {
            Some(change) => change.after = after,
            None => {
                self.bytes += CHANGE_BYTES + key.len() + before.as_ref().map_or(0, Vec::len);
                table.insert(key.to_vec(), Change { before, after });
            }
        }
    }

    /// The changes of one table, by key.
    pub fn of(&self, object: ObjectId) -> impl Iterator<Item = (&Vec<u8>, &Change)> {
        self.tables.get(&object).into_iter().flatten()
    }

    /// The tables that have changes.
    pub fn tables(&self) -> impl Iterator<Item = ObjectId> {
        self.tables.keys().copied()
    }

    /// About how much memory they take.
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.tables.values().all(BTreeMap::is_empty)
    }

    /// Turns the changes into writes and forgets them.
    pub fn write(&mut self, writes: &mut Writes) {
        self.bytes = 0;
        for (object, changes) in self.tables.drain() {
            for (key, change) in changes {
                match change.after {
                    Some(value) => writes.put(Space::Relation(object), &key, &value),
                    None => writes.delete(Space::Relation(object), &key),
                }
            }
        }
    }
}

//! The relations `<source>$errors` and `<view>$errors`: what could not be decoded, and rows that could not be computed.
//!
//! They are tables that the engine alone writes, and go with what they belong to.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::AsArray;
use arrow::array::BinaryArray;
use arrow::array::Int64Array;
use arrow::array::RecordBatch;
use arrow::array::StringArray;
use arrow::datatypes::Int64Type;

use crate::catalog::Catalog;
use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::catalog::Table;
use crate::connectors::SourceBatch;
use crate::dataflow::operator::RowError;
use crate::delta::arrow_error;
use crate::engine::table::Base;
use crate::engine::table::Changes;
use crate::engine::table::TableShape;
use crate::error::Error;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::types::Column;
use crate::types::SqlType;
use crate::types::schema_of;

/// What the names of these relations end with.
const SUFFIX: &str = "$errors";

/// Whether an object is a relation of errors: the only tables that depend on anything.
pub fn is_errors(object: &Object) -> bool {
    matches!(object.kind, ObjectKind::Table(_)) && !object.depends_on.is_empty()
}

/// The relation of errors of an object.
pub fn find<'a>(catalog: &'a Catalog, owner: &Object) -> Option<&'a Arc<Object>> {
    catalog
        .find(&owner.schema, &format!("{}{SUFFIX}", owner.name))
        .filter(|object| object.depends_on.contains(&owner.id))
}

/// Nobody but the engine writes relations of errors.
pub fn refuse_write(object: &Object) -> Result<()> {
    if !is_errors(object) {
        return Ok(());
    }
    let message = format!("cannot change relation \"{}\"", object.name);
    Err(Error::wrong_object_type(message).hint("It is kept by the system and goes with what it belongs to."))
}

/// A view's relation of errors moves at the end of an epoch, when views can no longer follow.
pub fn refuse_as_input(catalog: &Catalog, reads: &BTreeSet<ObjectId>) -> Result<()> {
    let of_view = |object: &&Arc<Object>| {
        let owner = object.depends_on.iter().filter_map(|id| catalog.get(*id));
        is_errors(object) && owner.into_iter().any(|owner| owner.feed().is_none())
    };
    match reads.iter().filter_map(|id| catalog.get(*id)).find(of_view) {
        Some(object) => {
            let message = format!("a materialized view cannot read \"{}\"", object.name);
            Err(Error::unsupported(message).hint("Query it with SELECT."))
        }
        None => Ok(()),
    }
}

/// The relation of what of a source could not be decoded, by partition, offset and column.
pub fn of_source(source: &Object) -> Object {
    let columns = vec![
        column("topic", SqlType::Text, true),
        column("partition", SqlType::Text, false),
        column("offset", SqlType::BigInt, false),
        column("column", SqlType::Text, false),
        column("payload", SqlType::Bytea, true),
        column("reason", SqlType::Text, true),
    ];
    relation(source, columns, vec![1, 2, 3])
}

/// The relation of what of a view could not be computed: how many rows failed for each reason, as of now.
pub fn of_view(view: &Object) -> Object {
    let columns = vec![
        column("sqlstate", SqlType::Text, false),
        column("reason", SqlType::Text, false),
        column("rows", SqlType::BigInt, false),
    ];
    relation(view, columns, vec![0, 1])
}

fn column(name: &str, ty: SqlType, nullable: bool) -> Column {
    Column { name: name.to_string(), ty, nullable }
}

fn relation(owner: &Object, columns: Vec<Column>, primary_key: Vec<usize>) -> Object {
    let defaults = vec![None; columns.len()];
    Object {
        name: format!("{}{SUFFIX}", owner.name),
        depends_on: BTreeSet::from([owner.id]),
        kind: ObjectKind::Table(Table {
            columns,
            defaults,
            primary_key,
            append_only: true,
            watermark: None,
            feed: None,
        }),
        sql: String::new(),
        ..owner.clone()
    }
}

/// The rows of a source's relation of errors for a batch's messages.
pub fn source_rows(catalog: &Catalog, errors: &Object, batch: &SourceBatch) -> Result<RecordBatch> {
    let feed = catalog.get(batch.source).and_then(|object| object.feed());
    let topic = feed.and_then(|feed| feed.options.get("topic").cloned());
    let all = &batch.errors;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![topic; all.len()])),
        Arc::new(StringArray::from(vec![batch.partition.as_str(); all.len()])),
        Arc::new(Int64Array::from_iter_values(all.iter().map(|e| e.offset))),
        Arc::new(StringArray::from_iter_values(all.iter().map(|e| e.column.clone().unwrap_or_default()))),
        Arc::new(BinaryArray::from_iter(all.iter().map(|e| e.payload.as_deref()))),
        Arc::new(StringArray::from_iter_values(all.iter().map(|e| e.reason.as_str()))),
    ];
    RecordBatch::try_new(schema_of(errors.columns()), columns).map_err(arrow_error)
}

/// Adds an epoch's failed rows to what is known of a view: rows that were taken back no longer count.
pub fn count(shape: &TableShape, changes: &mut Changes, base: &dyn Base, rows: &[&RowError]) -> Result<()> {
    let mut sums: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for row in rows {
        *sums.entry((row.error.kind.sqlstate(), &row.error.message)).or_default() += row.weight;
    }
    for ((sqlstate, reason), weight) in sums.into_iter().filter(|(_, weight)| *weight != 0) {
        let row = |count: i64| {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from(vec![sqlstate])),
                Arc::new(StringArray::from(vec![reason])),
                Arc::new(Int64Array::from(vec![count])),
            ];
            RecordBatch::try_new(shape.codec.schema.clone(), columns).map_err(arrow_error)
        };
        let keys = shape.codec.keys(&row(0)?)?;
        let key = keys.get(0);
        let before = changes.get_many(base, shape.id, &[key])?.pop().flatten();
        let known = match &before {
            Some(value) => shape.codec.decode(&[(key, &value[..])])?.column(2).as_primitive::<Int64Type>().value(0),
            None => 0,
        };
        let after = match known + weight {
            0 => None,
            count => Some(shape.codec.values(&row(count)?)?.get(0).to_vec()),
        };
        changes.set(shape.id, key, before, after);
    }
    Ok(())
}

//! The relations `<source>$errors` and `<view>$errors`: what could not be decoded, and rows that could not be computed.
//!
//! That of a source is a table that the engine alone writes, that of a view is a view of its own. They go with what they belong to.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::BinaryArray;
use arrow::array::Int64Array;
use arrow::array::RecordBatch;
use arrow::array::StringArray;

use crate::catalog::Catalog;
use crate::catalog::MaterializedView;
use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::catalog::Storage;
use crate::catalog::Table;
use crate::connectors::SourceBatch;
use crate::delta::arrow_error;
use crate::engine::Published;
use crate::error::Error;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::plan;
use crate::plan::ir::Plan;
use crate::state::Space;
use crate::types::Column;
use crate::types::SqlType;
use crate::types::schema_of;

/// What the names of these relations end with.
const SUFFIX: &str = "$errors";

/// Whether an object is a relation of errors: the only objects that no statement created.
pub fn is_errors(object: &Object) -> bool {
    object.is_part()
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
    let (defaults, primary_key) = (vec![None; columns.len()], vec![1, 2, 3]);
    relation(
        source,
        ObjectKind::Table(Table { columns, defaults, primary_key, append_only: true, watermark: None, feed: None }),
    )
}

/// The relation of what of a view could not be computed, under this id: a view of its own.
pub fn of_view(view: &Object, id: ObjectId) -> (Object, Plan) {
    let plan = plan::errors::plan(view.id, id);
    let kind = ObjectKind::MaterializedView(MaterializedView {
        columns: plan::errors::columns(),
        query: String::new(),
        storage: Storage::Hashed,
        plan: plan::stored::write(&plan),
    });
    (Object { id, ..relation(view, kind) }, plan)
}

/// Whether this object, and which of those that it is made of, have errors.
pub fn found(published: &Published, object: ObjectId) -> Result<Vec<String>> {
    let catalog = &published.catalog;
    let mut open = vec![object];
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    while let Some(object) = open.pop().and_then(|id| catalog.get(id)) {
        if is_errors(object) || !seen.insert(object.id) {
            continue;
        }
        open.extend(&object.depends_on);
        if let Some(errors) = find(catalog, object)
            && published.snapshot.scan(Space::Relation(errors.id), None, None).next_entry()?.is_some()
        {
            found.push(object.name.clone());
        }
    }
    Ok(found)
}

fn column(name: &str, ty: SqlType, nullable: bool) -> Column {
    Column { name: name.to_string(), ty, nullable }
}

fn relation(owner: &Object, kind: ObjectKind) -> Object {
    Object {
        name: format!("{}{SUFFIX}", owner.name),
        depends_on: BTreeSet::from([owner.id]),
        kind,
        sql: String::new(),
        retain_history_ms: None,
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

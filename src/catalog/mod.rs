//! What exists, as plain data: tables, sources, views, sinks, subscriptions. Immutable snapshots, one writer (the engine).
//!
//! A snapshot is what one statement sees from beginning to end; it belongs to an epoch, as the rows do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::formats::Format;
use crate::ids::{ObjectId, TableId};
use crate::time::Micros;
use crate::types::{Column, ROW_ID_COLUMN, SqlType, WATERMARK_COLUMN};

pub mod system;

/// The schema that unqualified names of new objects go to.
pub const PUBLIC: &str = "public";

/// Everything that exists at one moment.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Every object by its id.
    objects: BTreeMap<ObjectId, Arc<Object>>,
    /// Ids by schema and name. Tables, sources and views share one namespace, as in Postgres.
    names: BTreeMap<(String, String), ObjectId>,
    /// The schemas that users created, with their OIDs.
    pub schemas: BTreeMap<String, ObjectId>,
    /// The next object id to be given out; ids are never used again.
    pub next_object: ObjectId,
    /// The next state table id to be given out; ids are never used again.
    pub next_table: TableId,
}

/// Anything with a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// Its id and OID.
    pub id: ObjectId,
    /// The schema it lives in.
    pub schema: String,
    /// Its name, folded.
    pub name: String,
    /// The statement that created it, as written.
    pub sql: String,
    /// What it reads: it cannot outlive these.
    pub depends_on: BTreeSet<ObjectId>,
    /// When it was created.
    pub created: Micros,
    /// How long its changes are kept, in milliseconds, whoever reads them; `None`: only while somebody does.
    pub retain_history_ms: Option<u64>,
    /// What it is.
    pub kind: ObjectKind,
}

/// The kinds of object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    Table(Table),
    Source(Source),
    View(View),
    MaterializedView(MaterializedView),
    Sink(Sink),
    Subscription(Subscription),
}

/// A stored relation that takes DML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// The columns as declared.
    pub columns: Vec<Column>,
    /// The expression of each column's DEFAULT, as SQL.
    pub defaults: Vec<Option<String>>,
    /// The columns of the PRIMARY KEY; empty: rows have a hidden id.
    pub primary_key: Vec<usize>,
    /// Whether only INSERT is taken.
    pub append_only: bool,
    /// `WATERMARK FOR`.
    pub watermark: Option<Watermark>,
    /// The connector that fills it, of a stored source.
    pub feed: Option<Feed>,
}

/// An input that is not stored: a definition and one shared reader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The columns as declared, those of INCLUDE last.
    pub columns: Vec<Column>,
    /// `WATERMARK FOR`.
    pub watermark: Option<Watermark>,
    /// Where its rows come from.
    pub feed: Feed,
}

/// What brings the rows of a source or of a stored source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feed {
    /// For each column what fills it.
    pub fills: Vec<Fill>,
    /// Which connector carries its messages.
    pub connector: String,
    /// The connector's options as given, checked.
    pub options: BTreeMap<String, String>,
    /// FORMAT and ENCODE; `None` for a connector that makes rows itself.
    pub format: Option<Format>,
    /// Where each partition began when the source was created, as the connector resolved it.
    pub start: BTreeMap<String, i64>,
    /// What tells its input from a later one of the same name, as the connector told it then.
    #[serde(default)]
    pub identity: Option<String>,
}

/// What fills a source's column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// The field of this name in the payload.
    Payload(String),
    /// The message's key (`bytea`, or `text`).
    Key,
    /// The partition (`integer`).
    Partition,
    /// The offset (`bigint`).
    Offset,
    /// The message's timestamp (`timestamptz`).
    Timestamp,
    /// The headers, as the text of a JSON object.
    Headers,
    /// The name of the file (`text`).
    File,
    /// A computed column: this expression, as SQL, over the others.
    Computed(String),
}

/// `WATERMARK FOR column AS expression`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watermark {
    /// The event time column.
    pub column: usize,
    /// The expression, as SQL, over the columns.
    pub expression: String,
    /// A partition silent for so long no longer holds the watermark back.
    pub idle_timeout_ms: u64,
}

/// A named query, put in where it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// The columns of its query.
    pub columns: Vec<Column>,
    /// The query's text.
    pub query: String,
    /// The schemas that its names were looked for in.
    pub search_path: Vec<String>,
}

/// A query whose answer is kept up to date.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaterializedView {
    /// The columns of its query.
    pub columns: Vec<Column>,
    /// The query's text.
    pub query: String,
    /// How its rows are stored.
    pub storage: Storage,
    /// The incremental plan in its stored form (see `plan::stored`).
    pub plan: String,
}

/// A query whose changes go out to somewhere else. Nothing of its answer is kept here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sink {
    /// The columns of its query.
    pub columns: Vec<Column>,
    /// Which connector takes the changes.
    pub connector: String,
    /// The connector's options as given, checked.
    pub options: BTreeMap<String, String>,
    /// The incremental plan in its stored form (see `plan::stored`).
    pub plan: String,
}

/// A reader of a table's or view's changes that is known by name, whether it is connected or not. How far it has come is no part
/// of it: that moves with each acknowledgement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    /// Whose changes.
    pub of: ObjectId,
    /// Changes are kept for it so long at most, in milliseconds; `None`: until it has acknowledged them.
    pub retention_ms: Option<u64>,
}

/// How a relation's rows lie in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// One row for each value of these columns (of the stored columns).
    Keyed(Vec<usize>),
    /// Any multiset of rows: a map from a 128-bit hash of the row to the row and its count.
    Hashed,
    /// Rows that are only ever added, in pages in order of arrival.
    Log,
}

impl Object {
    /// The columns that a query sees.
    pub fn columns(&self) -> &[Column] {
        match &self.kind {
            ObjectKind::Table(t) => &t.columns,
            ObjectKind::Source(s) => &s.columns,
            ObjectKind::View(v) => &v.columns,
            ObjectKind::MaterializedView(v) => &v.columns,
            ObjectKind::Sink(s) => &s.columns,
            ObjectKind::Subscription(_) => &[],
        }
    }

    /// The columns of its changes and of its rows in the store: those that a query sees, then the hidden ones (the row id
    /// of a table without PRIMARY KEY, then the watermark of a table or source that declares one).
    pub fn stored_columns(&self) -> Vec<Column> {
        let mut columns = self.columns().to_vec();
        if let ObjectKind::Table(table) = &self.kind
            && table.primary_key.is_empty()
        {
            columns.push(Column { name: ROW_ID_COLUMN.into(), ty: SqlType::BigInt, nullable: false });
        }
        if self.watermark().is_some() {
            columns.push(Column { name: WATERMARK_COLUMN.into(), ty: SqlType::Timestamptz, nullable: true });
        }
        columns
    }

    /// How its rows are stored; `None` for what is not stored.
    pub fn storage(&self) -> Option<Storage> {
        match &self.kind {
            ObjectKind::Table(t) if t.primary_key.is_empty() => Some(Storage::Keyed(vec![t.columns.len()])),
            ObjectKind::Table(t) => Some(Storage::Keyed(t.primary_key.clone())),
            ObjectKind::MaterializedView(v) => Some(v.storage.clone()),
            ObjectKind::Source(_) | ObjectKind::View(_) | ObjectKind::Sink(_) | ObjectKind::Subscription(_) => None,
        }
    }

    /// The stored plan of what is maintained: a materialized view or a sink.
    pub fn plan(&self) -> Option<&str> {
        match &self.kind {
            ObjectKind::MaterializedView(v) => Some(&v.plan),
            ObjectKind::Sink(s) => Some(&s.plan),
            ObjectKind::Table(_) | ObjectKind::Source(_) | ObjectKind::View(_) | ObjectKind::Subscription(_) => None,
        }
    }

    /// The same materialized view or sink with another stored plan.
    pub fn with_plan(&self, plan: String) -> Object {
        let mut object = self.clone();
        match &mut object.kind {
            ObjectKind::MaterializedView(view) => view.plan = plan,
            ObjectKind::Sink(sink) => sink.plan = plan,
            ObjectKind::Table(_) | ObjectKind::Source(_) | ObjectKind::View(_) | ObjectKind::Subscription(_) => {}
        }
        object
    }

    /// The connector that fills it.
    pub fn feed(&self) -> Option<&Feed> {
        match &self.kind {
            ObjectKind::Table(t) => t.feed.as_ref(),
            ObjectKind::Source(s) => Some(&s.feed),
            ObjectKind::View(_) | ObjectKind::MaterializedView(_) => None,
            ObjectKind::Sink(_) | ObjectKind::Subscription(_) => None,
        }
    }

    /// The named subscription that it is.
    pub fn subscription(&self) -> Option<&Subscription> {
        match &self.kind {
            ObjectKind::Subscription(s) => Some(s),
            ObjectKind::Table(_) | ObjectKind::Source(_) | ObjectKind::View(_) => None,
            ObjectKind::MaterializedView(_) | ObjectKind::Sink(_) => None,
        }
    }

    /// The watermark it declares.
    pub fn watermark(&self) -> Option<&Watermark> {
        match &self.kind {
            ObjectKind::Table(t) => t.watermark.as_ref(),
            ObjectKind::Source(s) => s.watermark.as_ref(),
            ObjectKind::View(_) | ObjectKind::MaterializedView(_) => None,
            ObjectKind::Sink(_) | ObjectKind::Subscription(_) => None,
        }
    }

    /// Whether nobody declared it: it is kept by the system, for the object that it is named after.
    pub fn is_part(&self) -> bool {
        self.sql.is_empty()
    }

    /// The word for its kind in messages.
    pub fn noun(&self) -> &'static str {
        match &self.kind {
            ObjectKind::Table(_) => "table",
            ObjectKind::Source(_) => "source",
            ObjectKind::View(_) => "view",
            ObjectKind::MaterializedView(_) => "materialized view",
            ObjectKind::Sink(_) => "sink",
            ObjectKind::Subscription(_) => "subscription",
        }
    }
}

impl Catalog {
    /// The catalog of a new database.
    pub fn new() -> Catalog {
        Catalog { next_object: ObjectId::FIRST, next_table: TableId(1), ..Catalog::default() }
    }

    /// The object with this id.
    pub fn get(&self, id: ObjectId) -> Option<&Arc<Object>> {
        self.objects.get(&id)
    }

    /// The object with this name.
    pub fn find(&self, schema: &str, name: &str) -> Option<&Arc<Object>> {
        self.objects.get(self.names.get(&(schema.to_string(), name.to_string()))?)
    }

    /// Whether there is a schema of this name that objects can be created in.
    pub fn has_schema(&self, name: &str) -> bool {
        name == PUBLIC || self.schemas.contains_key(name)
    }

    /// Every object, oldest first: what an object reads comes before it.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    /// Those that have rows to be read, oldest first: all but sinks and subscriptions.
    pub fn relations(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects().filter(|object| !matches!(object.kind, ObjectKind::Sink(_) | ObjectKind::Subscription(_)))
    }

    /// Those that read `id` directly.
    pub fn dependents(&self, id: ObjectId) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values().filter(move |o| o.depends_on.contains(&id))
    }

    /// Puts an object in.
    pub fn insert(&mut self, object: Object) {
        self.next_object = self.next_object.max(ObjectId(object.id.0 + 1));
        self.names.insert((object.schema.clone(), object.name.clone()), object.id);
        self.objects.insert(object.id, Arc::new(object));
    }

    /// Takes an object out.
    pub fn remove(&mut self, id: ObjectId) -> Option<Arc<Object>> {
        let object = self.objects.remove(&id)?;
        self.names.remove(&(object.schema.clone(), object.name.clone()));
        Some(object)
    }
}

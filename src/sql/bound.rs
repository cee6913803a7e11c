//! Bound statements: what `bind` makes of a parsed statement and a catalog snapshot. Names are resolved to ids, types
//! are checked, queries are DataFusion's logical plans (not yet optimized) whose table scans are [`RelationSource`]s.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{ColumnarValue, Expr, LogicalPlan, TableProviderFilterPushDown, TableSource};
use datafusion::physical_expr::create_physical_expr;

use crate::catalog::system;
use crate::catalog::{Feed, Subscription, Watermark};
use crate::error::{Error, Result};
use crate::formats::copy;
use crate::functions::define::known;
use crate::functions::from_datafusion;
use crate::ids::{Epoch, ObjectId};
use crate::types::cast::{Mode, can_cast, cast};
use crate::types::zone::Zone;
use crate::types::{Column, SqlType};

/// A statement ready to be executed.
#[derive(Clone, Debug)]
pub enum Bound {
    /// Nothing but blanks and comments.
    Empty,
    Query(Query),
    Subscribe(Subscribe),
    Dml(Dml),
    Ddl(Ddl),
    Transaction(TransactionStatement),
    Setting(SettingStatement),
    /// `FLUSH`: wait until all input that had arrived is visible.
    Flush,
    /// `ALTER SUBSCRIPTION ... ADVANCE TO`.
    Advance(Advance),
    /// `EXPLAIN` of a read.
    Explain {
        query: Box<Query>,
        analyze: bool,
    },
    /// `EXPLAIN [ANALYZE] MATERIALIZED VIEW v`.
    ExplainView {
        view: ObjectId,
        analyze: bool,
    },
    /// `PREPARE name AS ...`: the statement is bound when it is executed.
    Prepare {
        name: String,
        types: Vec<Option<SqlType>>,
        statement: String,
    },
    /// `EXECUTE name (...)`: the arguments are constant expressions.
    Execute {
        name: String,
        arguments: Vec<Expr>,
    },
    /// `DEALLOCATE name`, or of all.
    Deallocate(Option<String>),
    /// `DISCARD ALL`.
    DiscardAll,
    /// `DECLARE c CURSOR FOR query`: `query` is any statement that gives rows.
    Declare {
        name: String,
        binary: bool,
        hold: bool,
        /// Whether it can go back.
        scroll: bool,
        query: Box<Bound>,
        /// The whole statement's text.
        sql: String,
    },
    /// `FETCH` and `MOVE`.
    Fetch(Fetch),
    /// `CLOSE c`, or of all.
    Close(Option<String>),
    /// `COPY ... TO STDOUT`: `source` is any statement that gives rows.
    CopyTo {
        source: Box<Bound>,
        options: copy::Options,
    },
    /// `COPY t FROM STDIN`.
    CopyFrom(CopyFrom),
    /// A statement that is accepted and does nothing (`LISTEN`, say); its command tag.
    Nothing {
        tag: &'static str,
        notice: Option<String>,
    },
}

impl Bound {
    /// The columns of the rows that the statement gives by itself; `None`: it gives none.
    pub fn columns(&self) -> Option<&[Column]> {
        match self {
            Bound::Query(query) => Some(&query.columns),
            Bound::Subscribe(subscribe) => Some(&subscribe.columns),
            Bound::Dml(dml) => match dml {
                Dml::Insert { returning, .. } | Dml::Update { returning, .. } | Dml::Delete { returning, .. } => {
                    returning.as_ref().map(|returning| returning.columns.as_slice())
                }
                Dml::Truncate { .. } => None,
            },
            Bound::Empty
            | Bound::Ddl(_)
            | Bound::Transaction(_)
            | Bound::Setting(_)
            | Bound::Flush
            | Bound::Advance(_)
            | Bound::Explain { .. }
            | Bound::ExplainView { .. }
            | Bound::Prepare { .. }
            | Bound::Execute { .. }
            | Bound::Deallocate(_)
            | Bound::DiscardAll
            | Bound::Declare { .. }
            | Bound::Fetch(_)
            | Bound::Close(_)
            | Bound::CopyTo { .. }
            | Bound::CopyFrom(_)
            | Bound::Nothing { .. } => None,
        }
    }
}

/// `FETCH` or `MOVE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub cursor: String,
    pub direction: Direction,
    /// `MOVE`: the rows are counted only.
    pub moves: bool,
    /// What has not come by then does not come any more.
    pub timeout_ms: Option<u64>,
}

/// Where a cursor goes from the row that it stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// So many rows on, or back if negative, each of which counts; with 0 the row that it stands on.
    Rows(i64),
    /// All rows to the end.
    All,
    /// All rows back to the first.
    AllBack,
    /// To the row of this number, counted from the end if negative; that alone counts.
    Absolute(i64),
    /// To the row so many from here; that alone counts.
    Relative(i64),
}

/// `COPY t FROM STDIN`.
#[derive(Clone, Debug)]
pub struct CopyFrom {
    /// The table's name, for messages.
    pub table: String,
    /// The columns that the data have.
    pub columns: Vec<Column>,
    /// The write of each batch: its source reads [`RelationRef::Given`], rows of these columns.
    pub insert: Dml,
    pub options: copy::Options,
}

/// A read.
#[derive(Clone, Debug)]
pub struct Query {
    /// The plan. Its output names are made unique where need be; `columns` has those to show.
    pub plan: LogicalPlan,
    /// The result's columns, as the client is told.
    pub columns: Arc<[Column]>,
    /// The objects that are read, plain views among them.
    pub reads: BTreeSet<ObjectId>,
    /// The types of `$1`, `$2`, ... as inferred or given.
    pub parameters: Vec<SqlType>,
    /// Whether it reads what differs from session to session.
    pub reads_session: bool,
}

impl Query {
    /// The read of a plan, whose columns are shown so.
    pub fn new(plan: LogicalPlan, columns: Vec<Column>, reads: BTreeSet<ObjectId>, parameters: Vec<SqlType>) -> Query {
        let reads_session = reads_session(&plan);
        Query { plan, columns: columns.into(), reads, parameters, reads_session }
    }
}

fn reads_session(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let of_session = |plan: &LogicalPlan| {
        if let LogicalPlan::TableScan(scan) = plan
            && let Some(source) = RelationSource::of(&scan.source)
            && let RelationRef::System(schema, name) = source.relation
            && system::session::is_of_session(schema, name)
        {
            found = true;
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    };
    plan.apply_with_subqueries(of_session).is_ok() && found
}

/// A read that goes on: rows as they are, then every change as it is committed.
#[derive(Clone, Debug)]
pub struct Subscribe {
    /// Whose changes.
    pub target: SubscribeTarget,
    /// The columns of a change, those of the system first.
    pub columns: Vec<Column>,
    /// Whether the rows as they are come first; `None`: unless it goes on from somewhere.
    pub snapshot: Option<bool>,
    /// Whether the end of epochs is told.
    pub progress: bool,
    /// The epoch after which to go on.
    pub as_of: Option<Epoch>,
}

/// What is subscribed to.
#[derive(Clone, Debug)]
pub enum SubscribeTarget {
    /// A table or materialized view.
    Object(ObjectId),
    /// What a named subscription follows, from where that stands.
    Named(ObjectId),
    /// A query, or what is not stored.
    Query(Box<Query>),
}

/// `ALTER SUBSCRIPTION ... ADVANCE TO`: what it was told up to an epoch is no longer needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    pub subscription: ObjectId,
    /// `None`: up to the last committed one, read or not.
    pub to: Option<Epoch>,
}

/// A change to a table.
#[derive(Clone, Debug)]
pub enum Dml {
    /// `source` yields the table's declared columns in order, cast by assignment, defaults filled in.
    Insert { table: ObjectId, source: Query, conflict: OnConflict, returning: Option<Returning> },
    /// `scan` yields the stored columns (see `Object::stored_columns`) of the rows to look at. `predicate` and
    /// `assignments` are over the table's declared columns and hold no subquery: they are evaluated again on each row as
    /// it stands when the write is resolved. With a subquery in the statement, `predicate` and `assignments` are
    /// `None`/empty and `scan` yields, after the stored columns, the new values of all declared columns (`computed`).
    Update {
        table: ObjectId,
        scan: Query,
        predicate: Option<Expr>,
        assignments: Vec<(usize, Expr)>,
        computed: bool,
        returning: Option<Returning>,
    },
    /// As [`Dml::Update`].
    Delete { table: ObjectId, scan: Query, predicate: Option<Expr>, returning: Option<Returning> },
    /// All rows of these tables.
    Truncate { tables: Vec<ObjectId> },
}

/// The qualifier of the old row's columns in [`OnConflict::Update`].
pub const OLD: &str = "old";

/// The qualifier of the new row's columns in [`OnConflict::Update`].
pub const EXCLUDED: &str = "excluded";

/// What an INSERT does when a row with its key exists.
#[derive(Clone, Debug)]
pub enum OnConflict {
    /// 23505.
    Error,
    /// Leaves the old row.
    Nothing,
    /// `DO UPDATE SET`: expressions over the declared columns of the old row (qualified by [`OLD`]) followed by those of
    /// the new one (by [`EXCLUDED`]); with `filter` only where it is true.
    Update { assignments: Vec<(usize, Expr)>, filter: Option<Expr> },
}

/// `RETURNING`: expressions over the declared columns of the table.
#[derive(Clone, Debug)]
pub struct Returning {
    pub expressions: Vec<Expr>,
    pub columns: Vec<Column>,
}

/// A change to the catalog.
#[derive(Clone, Debug)]
pub enum Ddl {
    CreateTable {
        name: Name,
        if_not_exists: bool,
        columns: Vec<Column>,
        defaults: Vec<Option<String>>,
        primary_key: Vec<usize>,
        append_only: bool,
        watermark: Option<Watermark>,
        /// How long its changes are kept, in milliseconds.
        retain_history_ms: Option<u64>,
        /// The connector of a stored source; where it starts is not known yet.
        feed: Option<Feed>,
        sql: String,
    },
    CreateSource {
        name: Name,
        if_not_exists: bool,
        columns: Vec<Column>,
        /// Where it starts is not known yet.
        feed: Feed,
        watermark: Option<Watermark>,
        sql: String,
    },
    /// `query` is the text of the query alone.
    CreateView {
        name: Name,
        or_replace: bool,
        if_not_exists: bool,
        query: String,
        /// The schemas that its names were looked for in.
        search_path: Vec<String>,
        bound: Query,
        sql: String,
    },
    CreateMaterializedView {
        name: Name,
        if_not_exists: bool,
        query: String,
        bound: Query,
        options: ViewOptions,
        /// How long its changes are kept, in milliseconds.
        retain_history_ms: Option<u64>,
        sql: String,
    },
    CreateSink {
        name: Name,
        if_not_exists: bool,
        bound: Query,
        view_options: ViewOptions,
        connector: String,
        /// Those of the connector.
        options: BTreeMap<String, String>,
        sql: String,
    },
    CreateSubscription {
        name: Name,
        if_not_exists: bool,
        subscription: Subscription,
        sql: String,
    },
    /// Resolved ids, in the order named; what did not exist under IF EXISTS is in `missing` for the NOTICE.
    Drop {
        objects: Vec<ObjectId>,
        cascade: bool,
        missing: Vec<String>,
        tag: &'static str,
    },
    CreateSchema {
        name: String,
        if_not_exists: bool,
    },
    /// As [`Ddl::Drop`].
    DropSchema {
        names: Vec<String>,
        cascade: bool,
        missing: Vec<String>,
    },
}

/// What the definition of a materialized view or sink says besides its query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewOptions {
    /// A window is closed when the watermark has passed its end by so much, in microseconds.
    pub allowed_lateness_us: i64,
    /// Whether a window appears only when it is closed (`EMIT ON WINDOW CLOSE`).
    pub emit_final: bool,
    /// Rows go when they have been final for so long, in microseconds (`retention`).
    pub retention_us: Option<i64>,
}

/// Schema and name of an object to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub schema: String,
    pub name: String,
}

/// Transaction control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionStatement {
    Begin { read_only: bool, tag: &'static str },
    Commit,
    Rollback,
    Savepoint(String),
    Release(String),
    RollbackTo(String),
}

/// Settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingStatement {
    /// `None`: to its default.
    Set {
        name: String,
        value: Option<String>,
        local: bool,
    },
    Show(String),
    ShowAll,
    /// `None`: all.
    Reset(Option<String>),
}

/// What a table scan of a bound query reads. The engine puts a provider of rows in its place before it runs the query; the
/// planner of views turns it into an input node.
#[derive(Clone, Debug)]
pub struct RelationSource {
    /// Which relation.
    pub relation: RelationRef,
    /// Its columns as Arrow. For a table or source the hidden columns are not among them.
    pub schema: SchemaRef,
    /// Rows that stand in the statement itself, for [`RelationRef::Given`].
    pub rows: Option<RecordBatch>,
}

/// A relation that a query can name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RelationRef {
    /// A table, source or materialized view.
    Object(ObjectId),
    /// A relation of `pg_catalog`, `information_schema` or `ms_catalog`: schema and name.
    System(&'static str, &'static str),
    /// The rows that come with the statement (see [`CopyFrom`]).
    Given,
}

impl TableSource for RelationSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::common::Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}

impl RelationSource {
    /// The source behind a scan, if it is one of ours.
    pub fn of(source: &Arc<dyn TableSource>) -> Option<&RelationSource> {
        let any: &dyn Any = source.as_ref();
        any.downcast_ref()
    }
}

/// An argument of EXECUTE: an expression over no columns.
pub type Constant = Expr;

/// The value of a constant expression, as the type wanted: a text in the time zone of the session.
pub fn constant(expression: &Constant, ty: &SqlType, zone: Zone) -> Result<ScalarValue> {
    let schema = DFSchema::empty();
    let physical =
        create_physical_expr(expression, &schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
            .map_err(from_datafusion)?;
    let row = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        Vec::new(),
        &RecordBatchOptions::new().with_row_count(Some(1)),
    )
    .map_err(|e| Error::internal(e.to_string()))?;
    let value = physical.evaluate(&row).map_err(from_datafusion)?;
    let value = match value {
        ColumnarValue::Scalar(value) => value,
        ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0).map_err(from_datafusion)?,
    };
    match known(&value.data_type()) {
        Some(from) if from != *ty && can_cast(&from, ty) => {
            let array = value.to_array().map_err(from_datafusion)?;
            let array = cast(&array, &from, ty, zone, Mode::Assignment)?;
            ScalarValue::try_from_array(&array, 0).map_err(from_datafusion)
        }
        Some(_) | None => value.cast_to(&ty.arrow()).map_err(from_datafusion),
    }
}

//! Reads: DataFusion runs a bound query over a snapshot, with a transaction's own writes over it.

use std::fmt;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::catalog::TableProvider;
use datafusion::common::DFSchema;
use datafusion::common::ParamValues;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::Transformed;
use datafusion::common::tree_node::TreeNode;
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::EmptyRelation;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::logical_expr::Operator;
use datafusion::logical_expr::TableProviderFilterPushDown;
use datafusion::logical_expr::TableType;
use datafusion::optimizer::OptimizerRule;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::displayable;
use datafusion::physical_plan::execute_stream;
use futures::TryStreamExt;
use tokio::runtime::Handle;

use crate::catalog::Object;
use crate::catalog::system;
use crate::catalog::system::SessionFacts;
use crate::catalog::system::SystemContext;
use crate::delta::Delta;
use crate::engine::Published;
use crate::engine::Rows;
use crate::engine::join_sides;
use crate::engine::joining::still_behind;
use crate::engine::lookup;
use crate::engine::reach::Reach;
use crate::engine::reach::quoted;
use crate::engine::scan::RelationExec;
use crate::engine::scan::Stored;
use crate::engine::table::Changes;
use crate::error::Error;
use crate::error::Result;
use crate::functions::from_datafusion;
use crate::functions::now::set_now;
use crate::plan::not_in;
use crate::sql::bound::Query;
use crate::sql::bound::RelationRef;
use crate::sql::bound::RelationSource;
use crate::sql::semantics::simplify::Simplify;
use crate::sql::stack::GIVEN_UP;
use crate::state::codec::ByteRows;
use crate::time::Micros;
use crate::types::Column;
use crate::types::schema_of;

/// What a read sees: one epoch, and what its own transaction changed.
#[derive(Clone)]
pub struct View {
    /// The committed epoch.
    pub published: Arc<Published>,
    /// The transaction's writes.
    pub changes: Option<Arc<Changes>>,
    /// The rows that came with the statement.
    pub given: Option<RecordBatch>,
    /// The session that asks, where that matters (see [`Query`]).
    pub session: Option<Arc<SessionFacts>>,
    /// What `now()` answers.
    pub now: Micros,
}

impl View {
    /// Runs a query.
    pub async fn read(&self, state: &SessionState, query: &Query, parameters: &[ScalarValue]) -> Result<Rows> {
        if let Some(rows) = lookup::read(self, query, parameters)? {
            return Ok(rows);
        }
        let plan = Box::pin(self.physical(state, query, parameters)).await?;
        let schema = plan.schema();
        let stream = execute_stream(plan, state.task_ctx()).map_err(from_datafusion)?;
        let lacking = self.published.lacking(&query.reads)?;
        Ok(Rows { schema, stream, ready: false, lacking })
    }

    /// A query's physical plan as text; with `analyze` it is run first, and each line says what its operator took.
    pub async fn explain(
        &self,
        state: &SessionState,
        query: &Query,
        parameters: &[ScalarValue],
        analyze: bool,
    ) -> Result<Vec<String>> {
        if let Some(mut lines) = lookup::explain(self, query, parameters)? {
            if analyze {
                let mut found = self.read(state, query, parameters).await?;
                let row = found.stream.try_next().await.map_err(from_datafusion)?;
                lines.push(format!("rows: {}", row.map_or(0, |row| row.num_rows())));
            }
            return Ok(lines);
        }
        let plan = self.physical(state, query, parameters).await?;
        let mut rows = 0;
        if analyze {
            let mut stream = execute_stream(plan.clone(), state.task_ctx()).map_err(from_datafusion)?;
            while let Some(batch) = stream.try_next().await.map_err(from_datafusion)? {
                rows += batch.num_rows();
            }
        }
        let shown = match analyze {
            false => displayable(plan.as_ref()).indent(false).to_string(),
            true => format!("{}rows: {rows}", DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(false)),
        };
        Ok(shown.lines().map(str::to_string).collect())
    }

    /// A query's physical plan, made on a thread that may take its time: the wait for it can be given up.
    pub async fn physical(
        &self,
        state: &SessionState,
        query: &Query,
        parameters: &[ScalarValue],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (view, state, plan, values) = (self.clone(), state.clone(), query.plan.clone(), parameters.to_vec());
        let runtime = Handle::current();
        let (_waiting, working) = GIVEN_UP.watch();
        let work = move || {
            let planned = runtime.block_on(view.plan(state, plan, values));
            drop(working);
            planned
        };
        let planned = tokio::task::spawn_blocking(work).await;
        planned.map_err(|_| Error::internal("planning a query met a defect; see the log"))?
    }

    async fn plan(
        &self,
        mut state: SessionState,
        plan: LogicalPlan,
        parameters: Vec<ScalarValue>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = self.with_providers(plan)?;
        let plan = if parameters.is_empty() {
            plan
        } else {
            plan.replace_params_with_values(&ParamValues::from(parameters)).map_err(from_datafusion)?
        };
        set_now(state.config_mut().options_mut(), self.now);
        // The binder has run the analyzer. A second run would take a parameter's value for a literal, and type it anew.
        let plan = not_in::rewrite(plan)?;
        let plan = state.optimizer().optimize(plan, &state, |_, _| {}).map_err(from_datafusion)?;
        let plan = join_sides::smaller_left(not_in::plain_joins(plan)?)?;
        let plan = state.query_planner().create_physical_plan(&plan, &state).await;
        plan.and_then(yielding).map_err(from_datafusion)
    }

    /// Puts a provider of rows in the place of each relation that the plan names.
    fn with_providers(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let replaced = plan.transform_up_with_subqueries(|node| {
            let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
            let Some(source) = RelationSource::of(&scan.source) else {
                return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
            };
            let provider = self.provider(source).map_err(|e| DataFusionError::External(Box::new(e)))?;
            scan.source = provider_as_source(provider);
            Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
        });
        Ok(replaced.map_err(from_datafusion)?.data)
    }

    fn provider(&self, source: &RelationSource) -> Result<Arc<dyn TableProvider>> {
        match &source.relation {
            RelationRef::Object(id) => {
                let gone = || Error::undefined_table("a relation of the query was dropped");
                let object = self.published.catalog.get(*id).ok_or_else(gone)?;
                Ok(Arc::new(Relation::new(object, source.schema.clone(), self.clone())?))
            }
            RelationRef::Given => {
                let batch = source
                    .rows
                    .clone()
                    .or_else(|| self.given.clone())
                    .ok_or_else(|| Error::internal("no rows came with the statement"))?;
                Ok(Arc::new(Fixed { batch }))
            }
            RelationRef::System(schema, name) => {
                let gone = || Error::undefined_table(format!("relation \"{schema}.{name}\" does not exist"));
                let relation = system::find(schema, name).ok_or_else(gone)?;
                let published = &self.published;
                let batch = match &self.session {
                    None => system::rows(&relation, &published.catalog, &published.system)?,
                    Some(session) => {
                        let context = SystemContext { session: session.clone(), ..published.system.clone() };
                        system::rows(&relation, &published.catalog, &context)?
                    }
                };
                Ok(Arc::new(Fixed { batch }))
            }
        }
    }
}

/// Rows that are there: those of a system relation as they are at the read's epoch, or those of the statement.
#[derive(Debug)]
struct Fixed {
    batch: RecordBatch,
}

#[async_trait]
impl TableProvider for Fixed {
    fn schema(&self) -> SchemaRef {
        self.batch.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let batches = vec![self.batch.clone()];
        let table = datafusion::datasource::MemTable::try_new(self.batch.schema(), vec![batches])?;
        table.scan(_state, projection, &[], limit).await
    }
}

/// A stored relation as a query sees it.
pub(super) struct Relation {
    stored: Stored,
    /// The columns that the query sees: the first of the stored ones.
    schema: SchemaRef,
}

impl fmt::Debug for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relation({})", self.stored.object)
    }
}

impl Relation {
    pub(super) fn new(object: &Object, schema: SchemaRef, view: View) -> Result<Relation> {
        let refused = || {
            Error::unsupported(format!("cannot read {} \"{}\" directly", object.noun(), object.name))
                .hint("Create a materialized view over it and read that.")
        };
        if let Some(job) = view.published.system.jobs.iter().find(|job| job.objects.contains(&object.id)) {
            return Err(still_behind(&object.name, Some(job)));
        }
        let codec = view.published.codec(object).ok_or_else(refused)?;
        Ok(Relation { stored: Stored { codec, object: object.id, view }, schema })
    }

    /// The columns of its key; none if it has no key.
    pub(super) fn key_columns(&self) -> &[usize] {
        self.stored.codec.key_columns()
    }

    /// Whether these filters say which row is wanted.
    pub(super) fn looks_up(&self, filters: &[Expr]) -> bool {
        let is_fixed = |column: &usize| {
            let name = self.schema.fields().get(*column).map(|field| field.name());
            name.is_some_and(|name| filters.iter().any(|filter| fixes(filter, name)))
        };
        !self.key_columns().is_empty() && self.key_columns().iter().all(is_fixed)
    }

    /// About how many bytes of disk its rows take. What is only in memtables does not count.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.stored.view.published.snapshot.relation_bytes(self.stored.object)
    }

    /// The row with these values of the key columns, if there is one: all its stored columns.
    pub(super) fn row(&self, key: &[ArrayRef]) -> Result<Option<RecordBatch>> {
        let mut keys = ByteRows::default();
        keys.push(&self.stored.codec.key_prefix(key)?);
        let found = self.stored.batches(Reach::Keys(keys), false).next().transpose()?;
        Ok(found.filter(|batch| batch.num_rows() > 0))
    }

    /// How a lookup of the row with these values of the key columns is shown.
    pub(super) fn lookup_shown(&self, key: &[&ScalarValue]) -> String {
        let condition = |(column, value): (&usize, &&ScalarValue)| {
            format!("{} = {}", self.schema.field(*column).name(), quoted(value))
        };
        let conditions = self.key_columns().iter().zip(key).map(condition).collect::<Vec<_>>().join(" AND ");
        format!("Key Lookup on {} ({conditions})", self.name())
    }

    fn name(&self) -> String {
        let object = self.stored.view.published.catalog.get(self.stored.object);
        object.map_or(String::new(), |object| format!("{}.{}", object.schema, object.name))
    }
}

/// Whether a filter is `column = constant`.
fn fixes(filter: &Expr, name: &str) -> bool {
    let Expr::BinaryExpr(binary) = filter else { return false };
    match (binary.left.as_ref(), binary.right.as_ref()) {
        (Expr::Column(column), Expr::Literal(..)) | (Expr::Literal(..), Expr::Column(column)) => {
            binary.op == Operator::Eq && column.name == name
        }
        _ => false,
    }
}

#[async_trait]
impl TableProvider for Relation {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::common::Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        // A limit is only ours to apply when no filter stands above the scan, which brings its filters when the plan is there.
        let limit = if filters.is_empty() { limit } else { None };
        let schema = Arc::new(self.schema.project(&columns)?);
        Ok(Arc::new(RelationExec::new(self.stored.clone(), self.name(), columns, schema, limit)))
    }
}

/// Compiles bound expressions over these columns (named as given, unqualified). The binder has run the analyzer.
pub fn compile(state: &SessionState, expressions: Vec<Expr>, columns: &[Column]) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
    if expressions.is_empty() {
        return Ok(Vec::new());
    }
    let schema = DFSchema::try_from(schema_of(columns)).map_err(from_datafusion)?;
    let input = LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema: Arc::new(schema.clone()) });
    let named = expressions.into_iter().enumerate().map(|(i, e)| e.alias(format!("c{i}")));
    let plan = LogicalPlanBuilder::from(input).project(named).and_then(LogicalPlanBuilder::build);
    // Some functions, as coalesce, are only there to be simplified.
    let simplified = plan.and_then(|plan| Simplify::default().rewrite(plan, state)).map_err(from_datafusion)?;
    let LogicalPlan::Projection(projection) = simplified.data else {
        return Err(Error::internal("an expression was not planned as a projection"));
    };
    let physical = |e: &Expr| state.create_physical_expr(e.clone().unalias(), &schema).map_err(from_datafusion);
    projection.expr.iter().map(physical).collect()
}

/// The plan with joins that yield. DataFusion makes leaves yield to other tasks now and then, but a join of few rows to
/// very many reads its leaves once: it, and what counts its rows, would hold a thread for hours, deaf to a cancel request.
fn yielding(plan: Arc<dyn ExecutionPlan>) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
    let wrapped = plan.transform_up(|node| match node.children().len() {
        0 | 1 => Ok(Transformed::no(node)),
        _ => Ok(Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>)),
    });
    Ok(wrapped?.data)
}

/// The expression with its columns unqualified, those of `excluded` named `excluded.x`, and its parameters filled in.
pub fn unqualified(expression: &Expr, parameters: &[ScalarValue]) -> Result<Expr> {
    let replace = |expr: Expr| match expr {
        Expr::Column(column) => {
            let excluded = column.relation.as_ref().is_some_and(|r| r.table() == "excluded");
            let name = if excluded { format!("excluded.{}", column.name) } else { column.name };
            Ok(Transformed::yes(Expr::Column(datafusion::common::Column::from_name(name))))
        }
        Expr::Placeholder(placeholder) => {
            let number = placeholder.id.trim_start_matches('$').parse::<usize>().unwrap_or(0);
            let missing = || Error::undefined_parameter(format!("there is no parameter {}", placeholder.id));
            let value = number.checked_sub(1).and_then(|i| parameters.get(i)).ok_or_else(missing);
            let value = value.map_err(|e| DataFusionError::External(Box::new(e)))?;
            Ok(Transformed::yes(Expr::Literal(value.clone(), None)))
        }
        other => Ok(Transformed::no(other)),
    };
    Ok(expression.clone().transform(replace).map_err(from_datafusion)?.data)
}

/// All rows of a read as one batch, which may take so many bytes.
pub async fn collect(mut rows: Rows, bytes_max: usize) -> Result<RecordBatch> {
    let schema = rows.schema.clone();
    let (mut batches, mut bytes) = (Vec::new(), 0);
    while let Some(batch) = rows.stream.try_next().await.map_err(from_datafusion)? {
        bytes += Delta::inserts(batch.clone()).memory_bytes();
        if bytes > bytes_max {
            return Err(too_large(bytes_max));
        }
        batches.push(batch);
    }
    arrow::compute::concat_batches(&schema, &batches).map_err(crate::delta::arrow_error)
}

/// What a statement is told whose changes would take more than so many bytes.
pub fn too_large(bytes_max: usize) -> Error {
    let message = format!("the statement changes more than {} MB of rows and views at once", bytes_max >> 20);
    Error::out_of_memory(message)
        .hint("Split it into smaller statements, or start the server with a larger --memory-limit.")
}

/// Rows with the column types of `columns`, by position; a different type is a defect of the binder.
pub fn with_columns(batch: &RecordBatch, columns: &[Column]) -> Result<RecordBatch> {
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema_of(columns), batch.columns()[..columns.len()].to_vec(), &options)
        .map_err(|e| Error::internal(format!("rows to be written do not fit the table: {e}")))
}

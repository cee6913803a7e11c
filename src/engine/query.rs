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
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::SessionState;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::EmptyRelation;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::logical_expr::Operator;
use datafusion::logical_expr::TableProviderFilterPushDown;
use datafusion::logical_expr::TableType;
use datafusion::optimizer::OptimizerRule;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::displayable;
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::streaming::StreamingTableExec;
use futures::TryStreamExt;
use tokio::runtime::Handle;

use crate::catalog::Object;
use crate::catalog::system;
use crate::catalog::system::SessionFacts;
use crate::catalog::system::SystemContext;
use crate::dataflow::relation::RelationCodec;
use crate::delta::Delta;
use crate::engine::Published;
use crate::engine::Rows;
use crate::engine::errors;
use crate::engine::join_sides;
use crate::engine::joining::still_behind;
use crate::engine::lookup;
use crate::engine::table::Base;
use crate::engine::table::Changes;
use crate::error::Error;
use crate::error::Result;
use crate::functions::from_datafusion;
use crate::functions::now::set_now;
use crate::plan::not_in;
use crate::sql::bound::Query;
use crate::sql::bound::RelationRef;
use crate::sql::bound::RelationSource;
use crate::sql::stack::GIVEN_UP;
use crate::state::Space;
use crate::time::Micros;
use crate::types::Column;
use crate::types::schema_of;

/// Rows of a batch that a scan yields.
const SCAN_ROWS: usize = 8192;

/// What a read sees: one epoch, and what its own transaction changed.
#[derive(Clone)]
pub struct View {
    /// The committed epoch.
    pub published: Arc<Published>,
    /// The transaction's writes.
    pub changes: Option<Arc<Changes>>,
    /// The rows that came with the statement.
    pub given: Option<RecordBatch>,
    /// The session that asks, where that matters (see [`Query::reads_session`]).
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
        let plan = self.physical(state, query, parameters).await?;
        let schema = plan.schema();
        let stream = execute_stream(plan, state.task_ctx()).map_err(from_datafusion)?;
        Ok(Rows { schema, stream, lacking: errors::found(&self.published, &query.reads)? })
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
        Ok(named(&plan, &shown))
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

/// A plan's lines, one for each operator, in which a read of a relation says of which, and by which part of its key.
fn named(plan: &Arc<dyn ExecutionPlan>, shown: &str) -> Vec<String> {
    let (mut operators, mut next) = (Vec::new(), vec![plan]);
    while let Some(operator) = next.pop() {
        operators.push(operator);
        next.extend(operator.children().into_iter().rev());
    }
    let scan = |operator: &&Arc<dyn ExecutionPlan>| {
        let table = operator.downcast_ref::<StreamingTableExec>()?;
        table.partitions().first().map(|partition| format!("{partition:?}"))
    };
    let lines = shown.lines().enumerate().map(|(at, line)| match operators.get(at).and_then(scan) {
        Some(name) => line.replacen("StreamingTableExec: partition_sizes=1", &name, 1),
        None => line.to_string(),
    });
    lines.collect()
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
    codec: RelationCodec,
    object: crate::ids::ObjectId,
    /// The columns that the query sees: the first of the stored ones.
    schema: SchemaRef,
    view: View,
}

impl fmt::Debug for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relation({})", self.object)
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
        let codec = RelationCodec::of(object).ok_or_else(refused)?;
        Ok(Relation { codec, object: object.id, schema, view })
    }

    /// The columns of its key; none if it has no key.
    pub(super) fn key_columns(&self) -> &[usize] {
        self.codec.key_columns()
    }

    /// Whether these filters say which row is wanted.
    pub(super) fn looks_up(&self, filters: &[Expr]) -> bool {
        let fixed = self.fixed(filters).len();
        fixed > 0 && fixed == self.codec.key_columns().len()
    }

    /// About how many bytes of disk its rows take. What is only in memtables does not count.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.view.published.snapshot.relation_bytes(self.object)
    }

    /// The row with these values of the key columns, if there is one: all its stored columns.
    pub(super) fn row(&self, key: &[ArrayRef]) -> Result<Option<RecordBatch>> {
        let scan = self.range(self.codec.key_prefix(key)?, true);
        Ok(scan.batches()?.next().transpose()?.filter(|batch| batch.num_rows() > 0))
    }

    /// How a read is shown for which these columns are fixed.
    pub(super) fn described(&self, fixed: &[(usize, &ScalarValue)]) -> String {
        let catalog = &self.view.published.catalog;
        let name =
            catalog.get(self.object).map_or(String::new(), |object| format!("{}.{}", object.schema, object.name));
        let condition = |(column, value): &(usize, &ScalarValue)| {
            let quote = if matches!(value, ScalarValue::Utf8(_)) { "'" } else { "" };
            format!("{} = {quote}{value}{quote}", self.schema.field(*column).name())
        };
        let conditions = fixed.iter().map(condition).collect::<Vec<_>>().join(" AND ");
        match fixed.len() {
            0 => format!("Scan on {name}"),
            some if some == self.codec.key_columns().len() => format!("Key Lookup on {name} ({conditions})"),
            _ => format!("Key Range on {name} ({conditions})"),
        }
    }

    /// The rows whose keys begin so.
    fn range(&self, prefix: Vec<u8>, whole: bool) -> RelationScan {
        RelationScan {
            codec: self.codec.clone(),
            object: self.object,
            schema: self.schema.clone(),
            view: self.view.clone(),
            prefix,
            whole,
            described: String::new(),
        }
    }

    /// The first columns of the key that the filters fix, with their values.
    fn fixed(&self, filters: &[Expr]) -> Vec<(usize, ScalarValue)> {
        let mut values = Vec::new();
        for &column in self.codec.key_columns() {
            let Some(field) = self.schema.fields().get(column) else { break };
            let fixed = filters.iter().find_map(|filter| equals(filter, field.name()));
            match fixed {
                Some(value) if value.data_type() == *field.data_type() && !value.is_null() => {
                    values.push((column, value));
                }
                _ => break,
            }
        }
        values
    }

    /// The rows for which these first columns of the key have these values.
    fn part(&self, fixed: &[(usize, ScalarValue)]) -> Result<RelationScan> {
        let values = fixed.iter().map(|(_, value)| value.to_array()).collect::<datafusion::common::Result<Vec<_>>>();
        let values = values.map_err(from_datafusion)?;
        let whole = !values.is_empty() && values.len() == self.codec.key_columns().len();
        let prefix = if values.is_empty() { Vec::new() } else { self.codec.key_prefix(&values)? };
        let described = self.described(&fixed.iter().map(|(column, value)| (*column, value)).collect::<Vec<_>>());
        Ok(RelationScan { described, ..self.range(prefix, whole) })
    }
}

/// The constant that a filter `column = constant` fixes the column to.
fn equals(filter: &Expr, name: &str) -> Option<ScalarValue> {
    let Expr::BinaryExpr(binary) = filter else { return None };
    if binary.op != Operator::Eq {
        return None;
    }
    match (binary.left.as_ref(), binary.right.as_ref()) {
        (Expr::Column(column), Expr::Literal(value, _)) | (Expr::Literal(value, _), Expr::Column(column))
            if column.name == name =>
        {
            Some(value.clone())
        }
        _ => None,
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
        let partition = self.part(&self.fixed(filters)).map_err(|e| DataFusionError::External(Box::new(e)))?;
        // A limit is only ours to apply when no filter stands above the scan.
        let limit = if filters.is_empty() { limit } else { None };
        let plan =
            StreamingTableExec::try_new(self.schema.clone(), vec![Arc::new(partition)], projection, [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

/// A range of a relation's rows.
struct RelationScan {
    codec: RelationCodec,
    object: crate::ids::ObjectId,
    schema: SchemaRef,
    view: View,
    /// Keys begin with these bytes.
    prefix: Vec<u8>,
    /// Whether `prefix` is a whole key: the read is a lookup.
    whole: bool,
    /// How EXPLAIN shows it.
    described: String,
}

impl fmt::Debug for RelationScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.described)
    }
}

/// The least key greater than all keys with this prefix.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut successor = prefix[..=last].to_vec();
    successor[last] += 1;
    Some(successor)
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

impl RelationScan {
    /// The batches of stored columns, read as they are asked for.
    fn batches(&self) -> Result<Batches> {
        let snapshot = &self.view.published.snapshot;
        let changed = self.view.changes.as_ref().filter(|changes| changes.of(self.object).next().is_some());
        let space = Space::Relation(self.object);
        if let Some(changes) = changed.filter(|_| !self.whole) {
            return Ok(self.changed_batches(changes));
        }
        if self.whole {
            let found = match changed {
                Some(changes) => changes.get_many(snapshot as &dyn Base, self.object, &[&self.prefix])?.pop().flatten(),
                None => snapshot.get(space, &self.prefix)?,
            };
            let batch = found.map(|value| self.codec.decode(&[(&self.prefix[..], &value[..])]));
            return Ok(Box::new(batch.into_iter()));
        }
        let from = (!self.prefix.is_empty()).then_some(&self.prefix[..]);
        let mut scan = snapshot.scan(space, from, successor(&self.prefix).as_deref());
        let codec = self.codec.clone();
        Ok(Box::new(std::iter::from_fn(move || {
            let delta = codec.read_chunk(&mut scan, SCAN_ROWS).transpose()?;
            Some(delta.and_then(|delta| delta.expanded()))
        })))
    }

    /// The same of a table that the transaction has changed.
    fn changed_batches(&self, changes: &Arc<Changes>) -> Batches {
        let (changes, snapshot, codec) = (changes.clone(), self.view.published.snapshot.clone(), self.codec.clone());
        let (object, prefix) = (self.object, self.prefix.clone());
        let mut next = Some(prefix.clone());
        Box::new(std::iter::from_fn(move || {
            let from = next.take().filter(|from| from.starts_with(&prefix))?;
            let batch =
                changes.entries(&snapshot as &dyn Base, object, &from, SCAN_ROWS).and_then(|(entries, more)| {
                    next = more;
                    let inside = entries.iter().filter(|(key, _)| key.starts_with(&prefix));
                    codec.decode(&inside.map(|(key, value)| (&key[..], &value[..])).collect::<Vec<_>>())
                });
            Some(batch)
        }))
    }
}

impl PartitionStream for RelationScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = self.schema.clone();
        let width = schema.fields().len();
        let visible = move |batch: Result<RecordBatch>| {
            let batch = batch.map_err(|e| DataFusionError::External(Box::new(e)))?;
            let columns = batch.columns()[..width].to_vec();
            let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
        };
        let batches = self.batches().unwrap_or_else(|error| Box::new(std::iter::once(Err(error))));
        let stream = futures::stream::iter(batches.map(visible));
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), stream))
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
    let simplified = plan.and_then(|plan| SimplifyExpressions::new().rewrite(plan, state)).map_err(from_datafusion)?;
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

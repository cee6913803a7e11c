//! Reads of windowed relations: how DataFusion runs `TUMBLE` and its kin in FROM.

use std::fmt;
use std::sync::Arc;

use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::AsArray;
use arrow::array::RecordBatch;
use arrow::array::RecordBatchOptions;
use arrow::array::TimestampMicrosecondArray;
use arrow::compute::concat_batches;
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::datatypes::TimestampMicrosecondType;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::TaskContext;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::UserDefinedLogicalNode;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::DisplayAs;
use datafusion::physical_plan::DisplayFormatType;
use datafusion::physical_plan::Distribution;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::ExecutionPlanProperties;
use datafusion::physical_plan::PlanProperties;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_planner::DefaultPhysicalPlanner;
use datafusion::physical_planner::ExtensionPlanner;
use datafusion::physical_planner::PhysicalPlanner;
use futures::StreamExt;
use futures::TryStreamExt;

use crate::error::Error;
use crate::error::Result;
use crate::functions::window::Windows;
use crate::functions::window::sessions;
use crate::sql::window::WindowTable;
use crate::sql::window::Windowing;
use crate::state::codec::KeyCodec;

/// DataFusion's planner, which learns what a windowed relation is.
#[derive(Debug)]
pub struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, state: &dyn Session) -> DfResult<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(WindowPlanner)]);
        planner.create_physical_plan(plan, state).await
    }
}

struct WindowPlanner;

#[async_trait]
impl ExtensionPlanner for WindowPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical: &[&LogicalPlan],
        physical: &[Arc<dyn ExecutionPlan>],
        _state: &dyn Session,
        _planning: &PhysicalPlanningContext,
    ) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        let (Some(table), [input]) = (node.as_any().downcast_ref::<WindowTable>(), physical) else { return Ok(None) };
        let place = |expr: &Expr| match expr {
            Expr::Column(column) => table.input.schema().index_of_column(column),
            other => Err(external(Error::internal(format!("a window is assigned by {other}, which is not a column")))),
        };
        let rule = match &table.windowing {
            Windowing::Fixed(windows) => Rule::Fixed(windows.clone()),
            Windowing::Session { partition, gap_us } => {
                Rule::Session { partition: partition.iter().map(place).collect::<DfResult<_>>()?, gap_us: *gap_us }
            }
        };
        let schema = Arc::new(table.schema().as_arrow().clone());
        Ok(Some(Arc::new(WindowExec::new(input.clone(), place(&table.time)?, rule, schema))))
    }
}

/// Which windows; columns by their number in the input.
#[derive(Clone, Debug)]
enum Rule {
    Fixed(Windows),
    Session { partition: Vec<usize>, gap_us: i64 },
}

/// Rows with their windows.
#[derive(Debug)]
struct WindowExec {
    input: Arc<dyn ExecutionPlan>,
    /// The time column.
    time: usize,
    rule: Rule,
    /// The columns of the input, then start and end.
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl WindowExec {
    fn new(input: Arc<dyn ExecutionPlan>, time: usize, rule: Rule, schema: SchemaRef) -> WindowExec {
        let below = input.properties();
        let partitioning = ExecutionPlanProperties::output_partitioning(&input).partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            datafusion::physical_plan::Partitioning::UnknownPartitioning(partitioning),
            below.emission_type,
            below.boundedness,
        );
        WindowExec { input, time, rule, schema, properties: Arc::new(properties) }
    }
}

/// The rows of a batch with their windows.
fn windowed(batch: &RecordBatch, time: usize, rule: &Rule, schema: &SchemaRef) -> Result<RecordBatch> {
    let (batch, start, end) = match rule {
        Rule::Fixed(windows) => {
            let pairs = windows.pairs(batch.column(time))?;
            let batch = match &pairs.rows {
                Some(rows) => take_record_batch(batch, rows).map_err(crate::delta::arrow_error)?,
                None => batch.clone(),
            };
            (batch, pairs.start, pairs.end)
        }
        Rule::Session { partition, gap_us } => {
            let (start, end) = session_columns(batch, time, partition, *gap_us)?;
            (batch.clone(), start, end)
        }
    };
    let columns = batch.columns().iter().cloned().chain([start, end]).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(crate::delta::arrow_error)
}

/// Start and end of the session of each row, when these are all rows there are.
fn session_columns(batch: &RecordBatch, time: usize, partition: &[usize], gap_us: i64) -> Result<(ArrayRef, ArrayRef)> {
    let columns = partition.iter().map(|&c| batch.column(c).clone()).collect::<Vec<_>>();
    let codec = KeyCodec::new(columns.iter().map(|c| c.data_type().clone()).collect());
    let keys = codec.encode(&columns, batch.num_rows())?;
    let times = batch.column(time).as_primitive::<TimestampMicrosecondType>();
    let mut rows = (0..batch.num_rows()).filter(|&row| times.is_valid(row)).collect::<Vec<_>>();
    rows.sort_by(|&a, &b| keys.get(a).cmp(keys.get(b)).then(times.value(a).cmp(&times.value(b))));
    let (mut starts, mut ends) = (vec![None; batch.num_rows()], vec![None; batch.num_rows()]);
    for of_one in rows.chunk_by(|&a, &b| keys.get(a) == keys.get(b)) {
        let sorted = of_one.iter().map(|&row| times.value(row)).collect::<Vec<_>>();
        for (range, (start, end)) in sessions(&sorted, gap_us)? {
            for &row in &of_one[range] {
                (starts[row], ends[row]) = (Some(start), Some(end));
            }
        }
    }
    let array = |values: Vec<Option<i64>>| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(values).with_data_type(times.data_type().clone()))
    };
    Ok((array(starts), array(ends)))
}

impl DisplayAs for WindowExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "WindowExec: {:?}", self.rule)
    }
}

impl ExecutionPlan for WindowExec {
    fn name(&self) -> &str {
        "WindowExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![match self.rule {
            Rule::Fixed(_) => Distribution::UnspecifiedDistribution,
            Rule::Session { .. } => Distribution::SinglePartition,
        }]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(WindowExec::new(children.remove(0), self.time, self.rule.clone(), self.schema.clone())))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let (time, rule, schema) = (self.time, self.rule.clone(), self.schema.clone());
        let output = schema.clone();
        let stream = match self.rule {
            Rule::Fixed(_) => input.map(move |batch| windowed(&batch?, time, &rule, &schema).map_err(external)).boxed(),
            Rule::Session { .. } => {
                let below = self.input.schema();
                let all = async move {
                    let batches = input.try_collect::<Vec<_>>().await?;
                    windowed(&concat_batches(&below, &batches)?, time, &rule, &schema).map_err(external)
                };
                futures::stream::once(all).boxed()
            }
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(output, stream)))
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

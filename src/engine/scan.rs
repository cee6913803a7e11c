//! The rows of a table or view as DataFusion reads them: in the order of their keys, and no others than its filters leave.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::array::RecordBatchOptions;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result as FusionResult;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::config::ConfigOptions;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_expr::Partitioning;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::DisplayAs;
use datafusion::physical_plan::DisplayFormatType;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::PlanProperties;
use datafusion::physical_plan::SortOrderPushdownResult;
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::Boundedness;
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::execution_plan::SchedulingType;
use datafusion::physical_plan::filter_pushdown::ChildPushdownResult;
use datafusion::physical_plan::filter_pushdown::FilterPushdownPhase;
use datafusion::physical_plan::filter_pushdown::FilterPushdownPropagation;
use datafusion::physical_plan::limit::LimitStream;
use datafusion::physical_plan::metrics::BaselineMetrics;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

use crate::dataflow::relation::RelationCodec;
use crate::engine::query::View;
use crate::engine::reach::Reach;
use crate::engine::reach::is_ordered;
use crate::engine::table::Base;
use crate::engine::table::Changes;
use crate::error::Error;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::state::Space;
use crate::state::codec::ByteRows;

/// Rows of a batch that a scan yields.
const SCAN_ROWS: usize = 8192;
/// Rows of its first batch, which may be all that is wanted.
const SCAN_ROWS_FIRST: usize = 256;

/// The batches of a read, each read when it is asked for.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// The stored rows of a relation, as of a view.
#[derive(Clone)]
pub struct Stored {
    pub codec: Arc<RelationCodec>,
    pub object: ObjectId,
    pub view: View,
}

impl Stored {
    /// The transaction's changes of it, if there are any.
    fn changes(&self) -> Option<&Arc<Changes>> {
        self.view.changes.as_ref().filter(|changes| changes.of(self.object).next().is_some())
    }

    /// Those with these keys, in batches of all stored columns; the last first, if that is asked for.
    pub fn batches(&self, reach: Reach, last_first: bool) -> Batches {
        match reach {
            Reach::Keys(keys) => self.looked_up(keys, last_first),
            Reach::Ranges(mut ranges) => {
                if last_first {
                    ranges.reverse();
                }
                let stored = self.clone();
                let mut rows = SCAN_ROWS_FIRST;
                Box::new(ranges.into_iter().flat_map(move |(from, to)| match stored.changes() {
                    Some(changes) => stored.changed(changes.clone(), from, to),
                    None => stored.committed(&from, to.as_deref(), last_first, &mut rows),
                }))
            }
        }
    }

    fn looked_up(&self, keys: ByteRows, last_first: bool) -> Batches {
        let stored = self.clone();
        let chunks = keys.len().div_ceil(SCAN_ROWS);
        Box::new((0..chunks).map(move |chunk| {
            let chunk = if last_first { chunks - 1 - chunk } else { chunk };
            let mut some =
                (chunk * SCAN_ROWS..keys.len().min((chunk + 1) * SCAN_ROWS)).map(|at| keys.get(at)).collect::<Vec<_>>();
            if last_first {
                some.reverse();
            }
            let snapshot = &stored.view.published.snapshot;
            let values = match stored.changes() {
                Some(changes) => changes.get_many(snapshot as &dyn Base, stored.object, &some)?,
                None => snapshot.get_many(Space::Relation(stored.object), &some)?,
            };
            let found = some.into_iter().zip(&values).filter_map(|(key, value)| Some((key, value.as_deref()?)));
            stored.codec.decode(&found.collect::<Vec<_>>())
        }))
    }

    /// The first batches of a read are small: those after `rows` rows are twice as large.
    fn committed(&self, from: &[u8], to: Option<&[u8]>, last_first: bool, rows: &mut usize) -> Batches {
        let (snapshot, space) = (&self.view.published.snapshot, Space::Relation(self.object));
        let from = (!from.is_empty()).then_some(from);
        let mut scan = match last_first {
            true => snapshot.scan_reverse(space, from, to),
            false => snapshot.scan(space, from, to),
        };
        let (codec, mut next) = (self.codec.clone(), *rows);
        *rows = SCAN_ROWS.min(2 * *rows);
        Box::new(std::iter::from_fn(move || {
            let delta = codec.read_chunk(&mut scan, next).transpose()?;
            next = SCAN_ROWS.min(2 * next);
            Some(delta.and_then(|delta| delta.expanded()))
        }))
    }

    /// The same of a table that the transaction has changed.
    fn changed(&self, changes: Arc<Changes>, from: Vec<u8>, to: Option<Vec<u8>>) -> Batches {
        let stored = self.clone();
        let mut next = Some(from);
        Box::new(std::iter::from_fn(move || {
            let is_inside = |key: &[u8]| to.as_deref().is_none_or(|to| key < to);
            let from = next.take().filter(|from| is_inside(from))?;
            let snapshot = &stored.view.published.snapshot as &dyn Base;
            let batch = changes.entries(snapshot, stored.object, &from, SCAN_ROWS).and_then(|(entries, more)| {
                next = more;
                let inside = entries.iter().filter(|(key, _)| is_inside(key));
                stored.codec.decode(&inside.map(|(key, value)| (&key[..], &value[..])).collect::<Vec<_>>())
            });
            Some(batch)
        }))
    }
}

/// A read of a relation as part of a plan.
#[derive(Clone)]
pub struct RelationExec {
    stored: Stored,
    /// What it is called.
    name: String,
    /// The columns that are read.
    columns: Vec<usize>,
    /// What is known of the rows that matter. Others may come as well.
    filters: Vec<Arc<dyn PhysicalExpr>>,
    /// What is known of them once operators above run.
    known_later: Vec<Arc<dyn PhysicalExpr>>,
    last_first: bool,
    fetch: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl RelationExec {
    /// A read of these columns of a relation, which make up the schema; of so many rows at most.
    pub fn new(
        stored: Stored,
        name: String,
        columns: Vec<usize>,
        schema: SchemaRef,
        fetch: Option<usize>,
    ) -> RelationExec {
        let properties = Arc::new(properties(&stored.codec, schema, &columns, false));
        let metrics = ExecutionPlanMetricsSet::new();
        let (filters, known_later) = (Vec::new(), Vec::new());
        RelationExec { stored, name, columns, filters, known_later, last_first: false, fetch, properties, metrics }
    }

    /// The same read, the last rows first.
    fn reversed(&self) -> RelationExec {
        let (schema, last_first) = (self.properties.eq_properties.schema().clone(), !self.last_first);
        let properties = Arc::new(properties(&self.stored.codec, schema, &self.columns, last_first));
        RelationExec { properties, last_first, ..self.clone() }
    }

    /// What is known now of the rows that matter.
    fn reach(&self) -> Result<(Reach, String)> {
        Reach::of(&self.stored.codec, &self.columns, self.filters.iter().chain(&self.known_later))
    }

    /// Whether a filter says something of the key.
    fn is_of_key(&self, filter: &Arc<dyn PhysicalExpr>) -> bool {
        let key = self.stored.codec.key_columns();
        collect_columns(filter).iter().any(|column| key.contains(&self.columns[column.index()]))
    }
}

/// A relation with a key is read in its order.
fn properties(codec: &RelationCodec, schema: SchemaRef, columns: &[usize], last_first: bool) -> PlanProperties {
    let ordered = codec.key_columns().iter().map_while(|key| {
        let at = columns.iter().position(|column| column == key)?;
        let options = SortOptions { descending: last_first, nulls_first: last_first };
        let field = schema.field(at);
        let column = Arc::new(Column::new(field.name(), at));
        is_ordered(field.data_type()).then(|| PhysicalSortExpr::new(column, options))
    });
    let ordering = LexOrdering::new(ordered.collect::<Vec<_>>());
    let equivalences = EquivalenceProperties::new_with_orderings(schema, ordering);
    let partitioning = Partitioning::UnknownPartitioning(1);
    PlanProperties::new(equivalences, partitioning, EmissionType::Incremental, Boundedness::Bounded)
        .with_scheduling_type(SchedulingType::Cooperative)
}

impl fmt::Debug for RelationExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelationExec({})", self.name)
    }
}

impl DisplayAs for RelationExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reach, shown) = self.reach().unwrap_or((Reach::all(), String::new()));
        let kind = match reach {
            Reach::Keys(_) => "Key Lookup",
            Reach::Ranges(ranges) if ranges == [(Vec::new(), None)] => "Scan",
            Reach::Ranges(_) => "Key Range",
        };
        let backward = if self.last_first { " Backward" } else { "" };
        write!(f, "{kind}{backward} on {}", self.name)?;
        if !shown.is_empty() {
            write!(f, " ({shown})")?;
        }
        let schema = self.properties.eq_properties.schema();
        let names = schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
        if !names.is_empty() {
            write!(f, ", projection=[{names}]")?;
        }
        match self.fetch {
            Some(fetch) => write!(f, ", fetch={fetch}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for RelationExec {
    fn name(&self) -> &'static str {
        "RelationExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> FusionResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> FusionResult<TreeNodeRecursion>,
    ) -> FusionResult<TreeNodeRecursion> {
        for filter in self.filters.iter().chain(&self.known_later) {
            if f(filter)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }

    fn with_fetch(&self, fetch: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(RelationExec { fetch, ..self.clone() }))
    }

    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        pushed: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> FusionResult<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let filters = pushed.parent_filters.iter().map(|pushed| &pushed.filter);
        let filters = filters.filter(|filter| self.is_of_key(filter)).cloned().collect::<Vec<_>>();
        // Whoever asks keeps the filter: rows may come for which it does not hold.
        let answer = FilterPushdownPropagation::all_unsupported(pushed);
        // Of the first rows those are wanted for which it holds, not the first of those.
        if filters.is_empty() || self.fetch.is_some() {
            return Ok(answer);
        }
        let mut exec = self.clone();
        match phase {
            FilterPushdownPhase::Pre => exec.filters.extend(filters),
            FilterPushdownPhase::Post => exec.known_later.extend(filters),
        }
        Ok(answer.with_updated_node(Arc::new(exec)))
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> FusionResult<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        let reversed = self.reversed();
        // What a transaction has changed is read forward.
        match self.stored.changes().is_none() && reversed.properties.eq_properties.ordering_satisfy(order.to_vec())? {
            true => Ok(SortOrderPushdownResult::Exact { inner: Arc::new(reversed) }),
            false => Ok(SortOrderPushdownResult::Unsupported),
        }
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> FusionResult<SendableRecordBatchStream> {
        let schema = self.properties.eq_properties.schema().clone();
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let (exec, of) = (self.clone(), schema.clone());
        let project = move |batch: Result<RecordBatch>| {
            let batch = batch.map_err(external)?;
            let columns = exec.columns.iter().map(|column| batch.column(*column).clone()).collect();
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(of.clone(), columns, &options)?)
        };
        let exec = self.clone();
        // The filters are looked at when the first batch is asked for, not before.
        let batches = std::iter::once_with(move || match exec.reach() {
            Ok((reach, _)) => exec.stored.batches(reach, exec.last_first),
            Err(error) => Box::new(std::iter::once(Err::<RecordBatch, Error>(error))) as Batches,
        });
        let stream = futures::stream::iter(batches.flatten().map(project));
        let stream = make_cooperative(Box::pin(RecordBatchStreamAdapter::new(schema, stream)));
        Ok(Box::pin(LimitStream::new(stream, 0, self.fetch, metrics)))
    }

    /// What an operator knew in one round of a recursion is not so in the next.
    fn reset_state(self: Arc<Self>) -> FusionResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(RelationExec { known_later: Vec::new(), ..self.as_ref().clone() }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

//! Inputs that are read: starts their readers, turns what they bring into stored rows, keeps how far each has come.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::RecordBatch;
use arrow::array::TimestampMicrosecondArray;
use arrow::array::new_null_array;
use arrow::compute::concat_batches;
use arrow::compute::max;
use crossbeam_channel::Sender;
use datafusion::execution::SessionState;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;

use crate::catalog::Fill;
use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::catalog::Source;
use crate::catalog::Watermark;
use crate::catalog::system::DATABASE;
use crate::connectors;
use crate::connectors::EndQuestion;
use crate::connectors::Environment;
use crate::connectors::MessageError;
use crate::connectors::Part;
use crate::connectors::Positions;
use crate::connectors::Reader;
use crate::connectors::SourceBatch;
use crate::connectors::SourceEvent;
use crate::connectors::SourceSpec;
use crate::delta::arrow_error;
use crate::engine::query::compile;
use crate::engine::records::Progress;
use crate::engine::watermark::InputClock;
pub use crate::engine::watermark::Moved;
use crate::engine::write::evaluate;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::ids::Epoch;
use crate::ids::ObjectId;
use crate::sql::BindContext;
use crate::sql::bind::expression::expression;
use crate::sql::bind::expression::expression_for;
use crate::time::Clock;
use crate::time::Micros;
use crate::types::Column;
use crate::types::UTC;
use crate::types::schema_of;

/// Unread columns of a batch no longer than this share their NULLs.
const SHARED_NULLS: usize = 4096;

/// What turns a connector's rows into those of the source.
pub struct RowMaker {
    /// For each declared column, where it comes from.
    columns: Vec<Origin>,
    /// What the connector is asked for: no more than the wanted columns need.
    carried: Vec<(Column, Part)>,
    /// The declared columns.
    declared: Vec<Column>,
    /// The watermark expression over the declared columns.
    watermark: Option<Arc<dyn PhysicalExpr>>,
}

/// What a batch of a connector came to.
pub struct Made {
    /// The declared columns.
    pub rows: RecordBatch,
    /// Which rows of the batch these are, by number; `None`: all.
    pub made_of: Option<Vec<usize>>,
    /// The highest value of the watermark expression among them.
    pub highest: Option<Micros>,
    /// The messages whose computed columns or watermark could not be computed.
    pub errors: Vec<MessageError>,
}

/// Why a row could not be made, and of which computed column.
struct Fault {
    error: Box<Error>,
    column: Option<String>,
}

impl Fault {
    fn new(error: Error, column: Option<String>) -> Fault {
        Fault { error: Box::new(error), column }
    }
}

enum Origin {
    /// The connector's column of this number.
    Carried(usize),
    /// An expression over the carried columns.
    Computed(Arc<dyn PhysicalExpr>),
    /// Nobody reads it: these NULLs.
    Unread(ArrayRef),
}

impl Made {
    /// The offsets of the rows in the batch that they were made of.
    pub fn offsets(&self, batch: &SourceBatch) -> Vec<i64> {
        match &self.made_of {
            None => batch.offsets.clone(),
            Some(made_of) => made_of.iter().map(|&row| batch.offsets[row]).collect(),
        }
    }
}

impl RowMaker {
    /// The row maker of a source of which these columns are wanted, besides what its watermark needs.
    pub fn new(object: &Object, source: &Source, wanted: &BTreeSet<usize>, state: &SessionState) -> Result<RowMaker> {
        let watermark = watermark_expression(object, state)?;
        let mut wanted = wanted.clone();
        wanted.extend(watermark.iter().flat_map(columns_of));
        let carried = carried_columns(source, &wanted, state)?;
        let names = carried.iter().map(|(column, _)| column.clone()).collect::<Vec<_>>();
        let mut columns = Vec::new();
        for (index, (column, fill)) in source.columns.iter().zip(&source.fills).enumerate() {
            columns.push(match fill {
                _ if !wanted.contains(&index) => Origin::Unread(new_null_array(&column.ty.arrow(), SHARED_NULLS)),
                Fill::Computed(sql) => Origin::Computed(compiled(sql, &names, Some(column), state)?),
                Fill::Payload(_)
                | Fill::Key
                | Fill::Partition
                | Fill::Offset
                | Fill::Timestamp
                | Fill::Headers
                | Fill::File => {
                    let place = names.iter().position(|c| c.name == column.name);
                    Origin::Carried(place.expect("every column that is not computed is carried"))
                }
            });
        }
        Ok(RowMaker { columns, carried, declared: source.columns.clone(), watermark })
    }

    /// The columns that its batches must have.
    pub fn carried(&self) -> Vec<(Column, Part)> {
        self.carried.clone()
    }

    /// The source's rows of a batch. Where a value cannot be computed, its row becomes an error and the others stay.
    pub fn make(&self, batch: &SourceBatch) -> Result<Made> {
        match self.make_all(&batch.batch) {
            Ok(made) => Ok(made),
            Err(Fault { error, .. }) if error.kind == Kind::Internal => Err(*error),
            Err(_) => self.make_each(batch),
        }
    }

    /// All rows at once, or none.
    fn make_all(&self, carried: &RecordBatch) -> Result<Made, Fault> {
        let make = |(origin, column): (&Origin, &Column)| match origin {
            Origin::Carried(index) => Ok(carried.column(*index).clone()),
            Origin::Unread(nulls) if carried.num_rows() <= SHARED_NULLS => Ok(nulls.slice(0, carried.num_rows())),
            Origin::Unread(nulls) => Ok(new_null_array(nulls.data_type(), carried.num_rows())),
            Origin::Computed(expression) => {
                evaluate(expression, carried).map_err(|error| Fault::new(error, Some(column.name.clone())))
            }
        };
        let columns = self.columns.iter().zip(&self.declared).map(make).collect::<Result<Vec<_>, Fault>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(carried.num_rows()));
        let rows = RecordBatch::try_new_with_options(schema_of(&self.declared), columns, &options);
        let rows = rows.map_err(|error| Fault::new(arrow_error(error), None))?;
        let highest = match &self.watermark {
            Some(expression) => highest(expression, &rows).map_err(|error| Fault::new(error, None))?,
            None => None,
        };
        Ok(Made { rows, made_of: None, highest, errors: Vec::new() })
    }

    /// Row by row.
    fn make_each(&self, batch: &SourceBatch) -> Result<Made> {
        let (mut rows, mut made_of) = (Vec::new(), Vec::new());
        let (mut highest, mut errors) = (None, Vec::new());
        for (row, &offset) in batch.offsets.iter().enumerate() {
            match self.make_all(&batch.batch.slice(row, 1)) {
                Ok(made) => {
                    highest = highest.max(made.highest);
                    rows.push(made.rows);
                    made_of.push(row);
                }
                Err(Fault { error, .. }) if error.kind == Kind::Internal => return Err(*error),
                Err(Fault { error, column }) => {
                    errors.push(MessageError { offset, payload: None, reason: error.message, column });
                }
            }
        }
        let rows = concat_batches(&schema_of(&self.declared), &rows).map_err(arrow_error)?;
        Ok(Made { rows, made_of: Some(made_of), highest, errors })
    }
}

/// The highest value of a watermark expression over these rows.
pub fn highest(expression: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<Option<Micros>> {
    let values = evaluate(expression, rows)?;
    let values = values.as_any().downcast_ref::<TimestampMicrosecondArray>();
    Ok(max(values.ok_or_else(|| Error::internal("a watermark is not a timestamp"))?))
}

/// The compiled watermark expression of a table or source over its declared columns.
pub fn watermark_expression(object: &Object, state: &SessionState) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let compile = |w: &Watermark| compiled(&w.expression, object.columns(), None, state);
    object.watermark().map(compile).transpose()
}

/// A stored scalar expression over these columns, cast to the type of `target`.
fn compiled(
    sql: &str,
    columns: &[Column],
    target: Option<&Column>,
    state: &SessionState,
) -> Result<Arc<dyn PhysicalExpr>> {
    let context = BindContext { time_zone: UTC.to_string(), user: DATABASE.to_string(), ..BindContext::default() };
    let expr = match target {
        Some(column) => expression_for(sql, columns, column, &context)?,
        None => expression(sql, columns, &context)?,
    };
    let expr = crate::engine::query::unqualified(&expr, &[])?;
    compile(state, vec![expr], columns)?.pop().ok_or_else(|| Error::internal("no expression was compiled"))
}

/// The columns that an expression reads.
fn columns_of(expression: &Arc<dyn PhysicalExpr>) -> Vec<usize> {
    collect_columns(expression).iter().map(|column| column.index()).collect()
}

/// The columns that a connector must fill for these to be had.
fn carried_columns(source: &Source, wanted: &BTreeSet<usize>, state: &SessionState) -> Result<Vec<(Column, Part)>> {
    let all = all_carried(source);
    let names = all.iter().map(|(column, _)| column.clone()).collect::<Vec<_>>();
    let mut needed = BTreeSet::new();
    for index in wanted {
        let column = &source.columns[*index];
        match &source.fills[*index] {
            Fill::Computed(sql) => needed.extend(columns_of(&compiled(sql, &names, Some(column), state)?)),
            Fill::Payload(_) | Fill::Key | Fill::Partition => needed.extend(names.iter().position(|c| c == column)),
            Fill::Offset | Fill::Timestamp | Fill::Headers | Fill::File => {
                needed.extend(names.iter().position(|c| c == column))
            }
        }
    }
    Ok(needed.into_iter().map(|index| all[index].clone()).collect())
}

/// The columns that a connector can fill.
fn all_carried(source: &Source) -> Vec<(Column, Part)> {
    let part = |fill: &Fill| match fill {
        Fill::Payload(field) => Some(Part::Field(field.clone())),
        Fill::Key => Some(Part::Key),
        Fill::Partition => Some(Part::Partition),
        Fill::Offset => Some(Part::Offset),
        Fill::Timestamp => Some(Part::Timestamp),
        Fill::Headers => Some(Part::Headers),
        Fill::File => Some(Part::File),
        Fill::Computed(_) => None,
    };
    let columns = source.columns.iter().zip(&source.fills);
    columns.filter_map(|(column, fill)| Some((column.clone(), part(fill)?))).collect()
}

/// A source as its connector sees it, with all of its columns wanted.
pub fn spec(object: ObjectId, name: &str, source: &Source, environment: &Arc<Environment>) -> SourceSpec {
    let columns = all_carried(source);
    let field = |(_, part): &(Column, Part)| match part {
        Part::Field(field) => Some(field.clone()),
        Part::Key | Part::Partition | Part::Offset | Part::Timestamp | Part::Headers | Part::File => None,
    };
    SourceSpec {
        source: object,
        name: name.to_string(),
        fields: columns.iter().filter_map(field).collect(),
        columns,
        encode: source.format.as_ref().map(|format| format.encode.clone()),
        options: source.options.clone(),
        until: None,
        environment: environment.clone(),
    }
}

/// Stored rows: the declared columns, and for each row the watermark at the end of the epoch before it came.
pub fn with_watermarks(object: &Object, rows: RecordBatch, watermarks: Vec<Option<Micros>>) -> Result<RecordBatch> {
    if object.watermark().is_none() {
        return Ok(rows);
    }
    let column = TimestampMicrosecondArray::from(watermarks).with_timezone(UTC);
    let columns = rows.columns().iter().cloned().chain([Arc::new(column) as ArrayRef]).collect();
    RecordBatch::try_new(schema_of(&object.stored_columns()), columns).map_err(arrow_error)
}

/// A source that is being read.
struct Running {
    object: Arc<Object>,
    maker: RowMaker,
    /// The columns that are decoded.
    wanted: BTreeSet<usize>,
    reader: Box<dyn Reader>,
    /// What users are told of it, while it cannot be read.
    trouble: Option<Error>,
    /// Whether its reader has stopped: the trouble does not pass.
    failed: bool,
}

/// All inputs: sources that are read, and tables that declare a watermark.
pub struct Inputs {
    running: BTreeMap<ObjectId, Running>,
    clocks: BTreeMap<ObjectId, InputClock>,
    /// Where readers put what they bring.
    events: Sender<SourceEvent>,
    clock: Arc<dyn Clock>,
    environment: Arc<Environment>,
}

impl Inputs {
    /// No inputs yet.
    pub fn new(events: Sender<SourceEvent>, clock: Arc<dyn Clock>, environment: Arc<Environment>) -> Inputs {
        Inputs { running: BTreeMap::new(), clocks: BTreeMap::new(), events, clock, environment }
    }

    /// Keeps time for a table or source from where it had come.
    pub fn track(&mut self, object: &Object, progress: Option<Progress>) {
        let progress = progress.unwrap_or_default();
        let idle_ms = object.watermark().map_or(u64::MAX, |w| w.idle_timeout_ms);
        self.clocks.insert(object.id, InputClock::new(&progress, Duration::from_millis(idle_ms.min(1 << 40))));
    }

    /// Forgets all inputs; their readers stop.
    pub fn clear(&mut self) {
        self.running.clear();
        self.clocks.clear();
    }

    /// Forgets an input.
    pub fn forget(&mut self, id: ObjectId) {
        self.running.remove(&id);
        self.clocks.remove(&id);
    }

    /// Starts the one reader of a source, from where it had come or from its start, for these of its columns.
    pub fn start(&mut self, object: &Arc<Object>, wanted: BTreeSet<usize>, state: &SessionState) -> Result<()> {
        let ObjectKind::Source(source) = &object.kind else { return Ok(()) };
        let connector = connectors::find(&source.connector)?;
        let mut from = source.start.clone();
        if !self.clocks.contains_key(&object.id) {
            self.track(object, None);
        }
        if let Some(clock) = self.clocks.get_mut(&object.id) {
            from.extend(clock.positions());
            clock.expect(&from);
        }
        let maker = RowMaker::new(object, source, &wanted, state)?;
        let spec = SourceSpec { columns: maker.carried(), ..self.spec(object, source) };
        let reader = connector.read(spec, from, self.clock.clone(), self.events.clone())?;
        let running = Running { object: object.clone(), maker, wanted, reader, trouble: None, failed: false };
        self.running.insert(object.id, running);
        Ok(())
    }

    /// A source as its connector sees it.
    pub fn spec(&self, object: &Object, source: &Source) -> SourceSpec {
        spec(object.id, &object.name, source, &self.environment)
    }

    /// Ends a source's reader if it does not decode all of these columns; it is to be started again with those returned. What
    /// it brought last may still wait to be taken.
    pub fn stop_narrower(&mut self, id: ObjectId, wanted: &BTreeSet<usize>) -> Option<BTreeSet<usize>> {
        let decoded = &self.running.get(&id).filter(|running| !wanted.is_subset(&running.wanted))?.wanted;
        let all = decoded | wanted;
        self.running.remove(&id);
        Some(all)
    }

    /// Stops reading a source and forgets how far it had come: the next view over it begins at its start.
    pub fn stop(&mut self, id: ObjectId) -> bool {
        self.clocks.remove(&id);
        self.running.remove(&id).is_some()
    }

    /// Whether a source is being read.
    pub fn is_running(&self, id: ObjectId) -> bool {
        self.running.contains_key(&id)
    }

    /// Rows that a reader brought, as stored rows; the errors among them are added to the batch's. `None` when the source
    /// is not read any more.
    pub fn take(&mut self, batch: &mut SourceBatch) -> Result<Option<(Arc<Object>, RecordBatch)>> {
        let Some(running) = self.running.get_mut(&batch.source) else { return Ok(None) };
        running.trouble = None;
        let clock = self.clocks.get_mut(&batch.source).expect("a running source has a clock");
        let Made { rows, highest, errors, .. } = running.maker.make(batch)?;
        batch.errors.extend(errors);
        let spoke = batch.batch.num_rows() > 0 || !batch.errors.is_empty();
        let now = self.clock.instant();
        clock.advance(&batch.partition, batch.next_offset, highest, batch.at_end, spoke, now);
        let watermarks = vec![clock.watermark(); rows.num_rows()];
        let rows = with_watermarks(&running.object, rows, watermarks)?;
        Ok(Some((running.object.clone(), rows)))
    }

    /// Notes that a source cannot be read: at the moment, or (`failed`) ever again.
    pub fn trouble(&mut self, id: ObjectId, error: Error, failed: bool) {
        if let Some(running) = self.running.get_mut(&id) {
            let name = &running.object.name;
            tracing::warn!(source = %name, %error, "a source cannot be read");
            running.trouble = Some(error);
            running.failed |= failed;
        }
    }

    /// Rows were written to a table with a watermark.
    pub fn wrote(&mut self, id: ObjectId, highest: Option<Micros>) {
        let now = self.clock.instant();
        if let Some(clock) = self.clocks.get_mut(&id) {
            clock.advance("", 0, highest, true, true, now);
        }
    }

    /// The watermark that rows of an input carry in this epoch.
    pub fn watermark(&self, id: ObjectId) -> Option<Micros> {
        self.clocks.get(&id).and_then(InputClock::watermark)
    }

    /// Ends an epoch for all inputs. Those whose record changed, with it.
    pub fn end_epoch(&mut self, epoch: Epoch) -> Vec<(ObjectId, Moved)> {
        let now = self.clock.instant();
        let running = &self.running;
        let moved = self.clocks.iter_mut().filter_map(|(id, clock)| {
            let mut moved = clock.end_epoch(epoch, now)?;
            // Only what is not stored is read again.
            moved.moment = moved.moment.filter(|_| running.contains_key(id));
            Some((*id, moved))
        });
        moved.collect()
    }

    /// The watermark of each input.
    pub fn own_watermarks(&self) -> Vec<(ObjectId, Option<Micros>)> {
        self.clocks.iter().map(|(id, clock)| (*id, clock.watermark())).collect()
    }

    /// How long until an idle partition will let a watermark move, if any will.
    pub fn next_idle(&self) -> Option<Duration> {
        let now = self.clock.instant();
        self.clocks.values().filter_map(|clock| clock.next_idle(now)).min().map(|due| due - now)
    }

    /// Tells the other side of each source what is committed.
    pub fn committed(&self, positions: &[(ObjectId, Positions)]) {
        for (id, positions) in positions {
            if let Some(running) = self.running.get(id) {
                running.reader.committed(positions);
            }
        }
    }

    /// The questions where the running sources end, for FLUSH.
    pub fn ends(&self) -> Vec<(ObjectId, EndQuestion)> {
        self.running.iter().map(|(id, running)| (*id, running.reader.end())).collect()
    }

    /// Why one of these sources can never be read on, if one cannot.
    pub fn failure(&self, mut ids: impl Iterator<Item = ObjectId>) -> Option<Error> {
        ids.find_map(|id| self.running.get(&id).filter(|running| running.failed)?.trouble.clone())
    }

    /// Where each partition of an input is to be read on.
    pub fn positions(&self, id: ObjectId) -> Positions {
        self.clocks.get(&id).map(InputClock::positions).unwrap_or_default()
    }

    /// The next offset of each partition of each source that is read.
    pub fn offsets(&self) -> Vec<(ObjectId, String, i64)> {
        let of = |id: ObjectId| self.positions(id).into_iter().map(move |(partition, offset)| (id, partition, offset));
        self.running.keys().copied().flat_map(of).collect()
    }

    /// All watermarks: of each input as a whole (no partition) and of its partitions.
    pub fn watermarks(&self) -> Vec<(ObjectId, Option<String>, Option<Micros>)> {
        let mut all = Vec::new();
        for (id, clock) in &self.clocks {
            all.push((*id, None, clock.watermark()));
            all.extend(clock.partitions().map(|(name, highest)| (*id, Some(name.to_string()), highest)));
        }
        all
    }

    /// What keeps each source from being read.
    pub fn troubles(&self) -> impl Iterator<Item = (ObjectId, &Error)> {
        self.running.iter().filter_map(|(id, running)| Some((*id, running.trouble.as_ref()?)))
    }
}

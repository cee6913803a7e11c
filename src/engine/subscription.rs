//! A subscription: the rows as of one epoch, then every change as it is committed, read from the store at the reader's own
//! pace. A slow reader holds back nobody: what it has not read yet waits in the changelog, not in memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::Int64Array;
use arrow::array::RecordBatch;
use arrow::array::TimestampMicrosecondArray;
use arrow::array::new_null_array;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::try_unfold;
use tokio::sync::watch;

use crate::catalog::Object;
use crate::dataflow::changelog;
use crate::dataflow::changelog::ChangelogCodec;
use crate::delta::Delta;
use crate::delta::arrow_error;
use crate::delta::consolidate;
use crate::engine::Engine;
use crate::engine::Left;
use crate::engine::Published;
use crate::engine::Rows;
use crate::engine::changes::Followed;
use crate::engine::changes::Target;
use crate::engine::coordinator::Request;
use crate::engine::past::PastRows;
use crate::error::Error;
use crate::error::Result;
use crate::ids::Epoch;
use crate::sql::bound::Subscribe;
use crate::sql::bound::SubscribeTarget;
use crate::state::Space;
use crate::time::Micros;
use crate::types::UTC;
use crate::types::schema_of;

/// Changes are gathered into batches of about so many rows.
const BATCH_ROWS: usize = 4096;

impl Engine {
    /// Follows a table, a view or a query.
    pub async fn subscribe(&self, subscribe: &Subscribe) -> Result<Rows> {
        let target = match &subscribe.target {
            SubscribeTarget::Object(id) => Target::Object(*id),
            SubscribeTarget::Named(id) => Target::Named(*id, subscribe.snapshot),
            SubscribeTarget::Query(query) => Target::Query(query.clone()),
        };
        // Dropped last, whatever becomes of this: by then the cursor is gone.
        let left = match &target {
            Target::Object(_) | Target::Named(..) => None,
            Target::Query(_) => Some(Left::new(&self.shared)),
        };
        let as_of = subscribe.as_of;
        let followed = self.ask(|reply| Request::Subscribe { target, as_of, reply }).await?;
        let mut published = self.shared.published.subscribe();
        let start = published.wait_for(|published| published.epoch >= followed.from).await.map_err(|_| gone())?.clone();
        let reads = BTreeSet::from([followed.object.id]).union(&followed.object.depends_on).copied().collect();
        let lacking = start.lacking(&reads)?;
        let reader = Reader::new(subscribe, followed, published, &start, self.shared.epoch_bytes, left)?;
        let schema = reader.schema.clone();
        let stream = try_unfold(reader, |mut reader| async move {
            let batch = reader.next().await.map_err(|error| DataFusionError::External(Box::new(error)))?;
            Ok(Some((batch, reader)))
        });
        let stream = Box::pin(RecordBatchStreamAdapter::new(schema.clone(), stream));
        Ok(Rows { schema, stream, ready: false, lacking })
    }
}

/// One subscription on its way.
struct Reader {
    followed: Followed,
    /// The columns of a change as the client sees them.
    schema: SchemaRef,
    /// The columns that a query sees of the object: the first of the stored ones.
    visible: SchemaRef,
    /// How the object's changes are stored.
    codec: ChangelogCodec,
    /// Whether the end of epochs is told.
    progress: bool,
    /// The rows as of the first epoch, until they are through, with that epoch and its time, if that is known.
    beginning: Option<(PastRows, Epoch, Option<Micros>)>,
    /// The last key of the changelog that was read.
    after: Vec<u8>,
    /// Everything up to this epoch is through.
    through: Epoch,
    /// The last epoch whose end was told.
    told: Option<Epoch>,
    published: watch::Receiver<Arc<Published>>,
    _left: Option<Left>,
}

impl Reader {
    fn new(
        subscribe: &Subscribe,
        followed: Followed,
        published: watch::Receiver<Arc<Published>>,
        start: &Published,
        bytes_max: usize,
        left: Option<Left>,
    ) -> Result<Reader> {
        let object: &Object = &followed.object;
        let as_of = followed.as_of;
        let through = as_of.unwrap_or(start.epoch);
        let beginning = subscribe.snapshot.unwrap_or(as_of.is_none()).then(|| {
            let rows = PastRows::new(object, &start.snapshot, as_of, bytes_max);
            let rows = rows.expect("what is not stored is followed through a view");
            (rows, through, as_of.is_none().then(|| time_of(start)))
        });
        followed.cursor.advance(through);
        Ok(Reader {
            schema: schema_of(&subscribe.columns),
            visible: schema_of(object.columns()),
            codec: ChangelogCodec::new(&object.stored_columns()),
            progress: subscribe.progress,
            beginning,
            after: changelog::key_of(through.next()).to_vec(),
            through,
            told: None,
            published,
            followed,
            _left: left,
        })
    }

    /// Waits for the next rows.
    async fn next(&mut self) -> Result<RecordBatch> {
        if let Some((rows, epoch, time)) = &mut self.beginning {
            let (epoch, time) = (*epoch, *time);
            match rows.next().await? {
                Some(delta) => return self.batch(epoch, time, &delta),
                None => self.beginning = None,
            }
        }
        loop {
            let published = self.published.borrow_and_update().clone();
            self.must_be_there(&published)?;
            if let Some(batch) = self.next_changes(&published)? {
                return Ok(batch);
            }
            self.through = self.through.max(published.epoch);
            self.followed.cursor.advance(self.through);
            if self.progress && self.told.is_none_or(|told| told < self.through) {
                self.told = Some(self.through);
                return self.end_of(self.through, time_of(&published));
            }
            // A snapshot holds back compaction, and is not kept while there is nothing to read.
            drop(published);
            self.published.changed().await.map_err(|_| gone())?;
        }
    }

    /// The changes that come next, up to the published epoch.
    fn next_changes(&mut self, published: &Published) -> Result<Option<RecordBatch>> {
        let space = Space::Changelog(self.followed.object.id);
        let end = changelog::key_of(published.epoch.next());
        if self.after[..] >= end[..] {
            return Ok(None);
        }
        let mut scan = published.snapshot.scan(space, Some(&self.after), Some(&end));
        let (mut batches, mut rows) = (Vec::new(), 0);
        while rows < BATCH_ROWS
            && let Some((key, value)) = scan.next_entry()?
        {
            self.after = [key, &[0]].concat();
            let chunk = self.codec.decode(key, value)?;
            let batch = self.batch(chunk.epoch, Some(chunk.time), &chunk.delta)?;
            rows += batch.num_rows();
            // What was gathered ends inside this epoch: the reader is through with those before.
            self.through = Epoch(chunk.epoch.0 - 1);
            batches.push(batch);
        }
        self.followed.cursor.advance(self.through);
        match rows {
            0 => Ok(None),
            _ => concat_batches(&self.schema, &batches).map(Some).map_err(arrow_error),
        }
    }

    /// Changes as the client sees them.
    fn batch(&self, epoch: Epoch, time: Option<Micros>, delta: &Delta) -> Result<RecordBatch> {
        let hides = self.visible.fields().len() < delta.batch().num_columns();
        let delta = delta.first_columns(&self.visible)?;
        // Rows that differ in hidden columns only may cancel out.
        let delta = if hides { consolidate(&delta)? } else { delta };
        let mut columns = system_columns(epoch, time, delta.len());
        columns.push(Arc::new(delta.weights_array().clone()));
        columns.extend(delta.batch().columns().iter().cloned());
        RecordBatch::try_new(self.schema.clone(), columns).map_err(arrow_error)
    }

    /// The row that tells that an epoch, and all before it, are through.
    fn end_of(&self, epoch: Epoch, time: Micros) -> Result<RecordBatch> {
        let mut columns = system_columns(epoch, Some(time), 1);
        let rest = self.schema.fields().iter().skip(columns.len());
        columns.extend(rest.map(|field| new_null_array(field.data_type(), 1)));
        RecordBatch::try_new(self.schema.clone(), columns).map_err(arrow_error)
    }

    /// Ends the subscription of what was dropped.
    fn must_be_there(&self, published: &Published) -> Result<()> {
        if self.followed.cursor.is_lost() {
            return Err(Error::out_of_memory(
                "the view of the query that is subscribed to was lost with an epoch too large for memory",
            )
            .hint("Subscribe again, or create a materialized view and subscribe to that."));
        }
        match self.followed.lives_by.iter().all(|id| published.catalog.get(*id).is_some()) {
            true => Ok(()),
            false => Err(Error::undefined_table("a relation that is subscribed to was dropped")),
        }
    }
}

fn system_columns(epoch: Epoch, time: Option<Micros>, rows: usize) -> Vec<ArrayRef> {
    let time = TimestampMicrosecondArray::from(vec![time; rows]).with_timezone(UTC);
    vec![Arc::new(Int64Array::from_value(epoch.0 as i64, rows)), Arc::new(time)]
}

fn time_of(published: &Published) -> Micros {
    published.system.epoch_time.unwrap_or_default()
}

fn gone() -> Error {
    Error::shutdown("the server is shutting down")
}

//! The engine: owner of catalog, store and runtime. Sessions call it; it knows no client.
//!
//! [`coordinator`] is the thread that makes epochs, [`commit`] the one that writes them. [`mod@write`] resolves DML before the
//! dataflow, [`table`] is what it works on; [`query`] answers reads; [`transaction`] holds what a client has not committed.
//! [`metrics`] is what is counted. [`subscription`] follows the changes of a table or view, which are kept for those whom [`needs`]
//! knows. New views stand [`behind`] until they are filled.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use crossbeam_channel::Sender;
use datafusion::execution::SessionState;
use datafusion::physical_plan::SendableRecordBatchStream;
use parking_lot::Mutex;
use parking_lot::RwLock;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::catalog::Catalog;
use crate::catalog::Feed;
use crate::catalog::Object;
use crate::catalog::system::SessionFacts;
use crate::catalog::system::SystemContext;
use crate::connectors;
use crate::connectors::Beginning;
use crate::connectors::Environment;
use crate::connectors::Positions;
use crate::connectors::SourceEvent;
use crate::dataflow::relation::RelationCodec;
use crate::engine::coordinator::Request;
use crate::engine::ddl::Prepared;
use crate::engine::metrics::Metrics;
use crate::engine::query::View;
use crate::engine::spill::Piece;
use crate::engine::spill::Pieces;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::ids::Epoch;
use crate::ids::ObjectId;
use crate::plan;
use crate::sql::bound::Ddl;
use crate::sql::bound::Dml;
use crate::sql::bound::Name;
use crate::sql::bound::Query;
use crate::state::Snapshot;
use crate::time::Clock;
use crate::time::Micros;
use crate::types::Column;

pub mod behind;
pub mod changes;
pub mod commit;
pub mod coordinator;
pub mod ddl;
pub mod dml;
pub mod epoch;
pub mod errors;
pub mod filling;
pub mod history;
pub mod ingest;
mod join_sides;
pub mod joining;
pub mod late;
mod lookup;
pub mod named;
pub mod metrics;
pub mod needs;
mod past;
pub mod query;
mod reach;
pub mod records;
pub mod recover;
mod replay;
pub mod rows;
mod scan;
mod schemas;
pub mod spill;
mod standstill;
pub mod statement;
pub mod subscription;
pub mod table;
pub mod transaction;
pub mod transient;
pub mod watermark;
pub mod windowed;
pub mod write;

pub use datafusion::common::ScalarValue as Parameter;
pub use transaction::Savepoint;
pub use transaction::Transaction;

/// How often a statement is tried again whose rows were changed while it ran.
const ATTEMPTS: usize = 100;

/// How to open an engine.
#[derive(Clone)]
pub struct EngineOptions {
    /// Where everything is stored.
    pub data_dir: PathBuf,
    /// Worker threads.
    pub workers: usize,
    /// The memory that the server may take, in bytes.
    pub memory_limit_bytes: usize,
    /// Rows that a view which is being filled takes in at once.
    pub fill_rows: usize,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// What connectors may touch.
    pub environment: Environment,
}

/// A running database. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// What all handles of an engine share.
struct Shared {
    /// To the coordinator.
    requests: Sender<Request>,
    /// To the coordinator too, from readers; here to see how many wait.
    events: Sender<SourceEvent>,
    /// What is counted.
    metrics: Arc<Metrics>,
    /// What readers see.
    published: Arc<watch::Sender<Arc<Published>>>,
    /// DataFusion with our settings, functions and rules.
    state: Arc<SessionState>,
    /// Memory for what one epoch changes, in bytes.
    epoch_bytes: usize,
    /// The last hidden row id given out.
    row_ids: Arc<AtomicI64>,
    /// Where the time comes from.
    clock: Arc<dyn Clock>,
    /// What connectors may touch.
    environment: Arc<Environment>,
    /// Whether the server goes down: what clients were waiting for goes on at the next start.
    ending: Arc<AtomicBool>,
    /// The threads of the coordinator and the committer, until they were waited for.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What readers see: the last committed epoch.
pub struct Published {
    /// Its number.
    pub epoch: Epoch,
    /// Its catalog.
    pub catalog: Arc<Catalog>,
    /// Its rows.
    pub snapshot: Snapshot,
    /// What system relations show of it.
    pub system: SystemContext,
    /// What was found out of it for a reader, and will be asked again.
    known: RwLock<Known>,
}

/// What was found out of an epoch.
#[derive(Default)]
struct Known {
    /// For objects those that they are made of, or they themselves, that have errors: rows that are not in them.
    lacking: BTreeMap<ObjectId, Arc<[String]>>,
    /// How the rows of relations lie in the store.
    codecs: BTreeMap<ObjectId, Arc<RelationCodec>>,
}

impl Published {
    /// What readers see of an epoch.
    pub fn new(epoch: Epoch, catalog: Arc<Catalog>, snapshot: Snapshot, system: SystemContext) -> Published {
        Published { epoch, catalog, snapshot, system, known: RwLock::default() }
    }

    /// Which of these objects, and of those that they are made of, have errors: rows that are not in them.
    pub fn lacking(&self, reads: &BTreeSet<ObjectId>) -> Result<Vec<String>> {
        let mut all = BTreeSet::new();
        for object in reads {
            let known = self.known.read().lacking.get(object).cloned();
            let found = match known {
                Some(found) => found,
                None => {
                    let found = Arc::<[String]>::from(errors::found(self, *object)?);
                    self.known.write().lacking.insert(*object, found.clone());
                    found
                }
            };
            all.extend(found.iter().cloned());
        }
        Ok(all.into_iter().collect())
    }

    /// How the rows of a relation lie in the store; `None` for what is not stored.
    pub fn codec(&self, object: &Object) -> Option<Arc<RelationCodec>> {
        if let Some(codec) = self.known.read().codecs.get(&object.id) {
            return Some(codec.clone());
        }
        let codec = Arc::new(RelationCodec::of(object)?);
        self.known.write().codecs.insert(object.id, codec.clone());
        Some(codec)
    }

    /// The watermark of an input.
    pub fn watermark(&self, id: ObjectId) -> Option<Micros> {
        let mut all = self.system.watermarks.iter();
        all.find(|facts| facts.object == id && facts.partition.is_none())?.watermark
    }
}

/// What a DDL statement did.
#[derive(Clone, Debug, Default)]
pub struct DdlOutcome {
    /// The command tag (`CREATE TABLE`).
    pub tag: String,
    /// NOTICEs for the client.
    pub notices: Vec<String>,
}

/// What a DML statement did.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// Rows inserted, updated or deleted.
    pub rows: u64,
    /// The rows of RETURNING.
    pub returning: Option<RecordBatch>,
}

/// The rows of a read, streamed. Dropping it cancels the read.
pub struct Rows {
    /// The Arrow schema of the batches.
    pub schema: SchemaRef,
    /// The batches.
    pub stream: SendableRecordBatchStream,
    /// Whether they are there: nothing is waited for or computed while they are taken.
    pub ready: bool,
    /// Views that it reads, or that those are made of, with rows that could not be computed.
    pub lacking: Vec<String>,
}

/// Tells the coordinator that a client has left, or wants no more what it asked for, when it is dropped before the client got
/// that.
struct Left {
    requests: Option<Sender<Request>>,
    ending: Arc<AtomicBool>,
    /// Set when it is dropped so.
    unwanted: Arc<AtomicBool>,
}

impl Left {
    fn new(shared: &Shared) -> Left {
        let requests = Some(shared.requests.clone());
        Left { requests, ending: shared.ending.clone(), unwanted: Arc::default() }
    }

    /// The client has got its answer.
    fn stayed(&mut self) {
        self.requests = None;
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        let requests = self.requests.as_ref().filter(|_| !self.ending.load(Ordering::Relaxed));
        if let Some(requests) = requests {
            self.unwanted.store(true, Ordering::Relaxed);
            // Without a coordinator nobody is left to drop a view.
            let _ = requests.send(Request::Left);
        }
    }
}

impl Engine {
    /// Opens the database in its directory, creating or recovering it.
    pub fn open(options: EngineOptions) -> Result<Engine> {
        recover::open(options)
    }

    /// What readers see now.
    pub fn published(&self) -> Arc<Published> {
        self.shared.published.borrow().clone()
    }

    /// Sends a request to the coordinator and waits for its answer.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::shutdown("the server is shutting down");
        self.shared.requests.send(request(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Changes the catalog. Returns when the change is committed and, for a view, filled. When `ended` says why the statement
    /// is to end, the answer is still what became of it: that error only if nothing has changed.
    pub async fn ddl(&self, ddl: Ddl, ended: impl Future<Output = Error>) -> Result<DdlOutcome> {
        tokio::pin!(ended);
        let start = tokio::select! {
            biased;
            error = &mut ended => return Err(error),
            start = self.start(&ddl) => start?,
        };
        let ddl = Box::new(Prepared { ddl, start });
        let mut left = Left::new(&self.shared);
        let unwanted = left.unwanted.clone();
        let answer = self.ask(|reply| Request::Ddl { ddl, unwanted, reply });
        tokio::pin!(answer);
        let error = tokio::select! {
            biased;
            outcome = &mut answer => {
                left.stayed();
                return outcome;
            }
            error = &mut ended => error,
        };
        if self.shared.ending.load(Ordering::Relaxed) {
            return Err(error);
        }
        // What has not been decided yet is undone.
        drop(left);
        match answer.await {
            Err(undone) if undone.kind == Kind::Cancelled => Err(error),
            decided => decided,
        }
    }

    /// Where the input begins that a statement creates.
    async fn start(&self, ddl: &Ddl) -> Result<Beginning> {
        match ddl {
            Ddl::CreateSource { name, if_not_exists, columns, feed, .. } => {
                self.start_of(name, *if_not_exists, columns, feed).await
            }
            Ddl::CreateTable { name, if_not_exists, columns, feed: Some(feed), .. } => {
                self.start_of(name, *if_not_exists, columns, feed).await
            }
            Ddl::CreateTable { feed: None, .. }
            | Ddl::CreateView { .. }
            | Ddl::CreateMaterializedView { .. }
            | Ddl::CreateSink { .. }
            | Ddl::CreateSubscription { .. }
            | Ddl::Drop { .. }
            | Ddl::CreateSchema { .. }
            | Ddl::DropSchema { .. } => Ok(Beginning::default()),
        }
    }

    /// Asks a new source's other side where it starts.
    async fn start_of(&self, name: &Name, if_not_exists: bool, columns: &[Column], feed: &Feed) -> Result<Beginning> {
        if if_not_exists && self.published().catalog.find(&name.schema, &name.name).is_some() {
            return Ok(Beginning::default());
        }
        let spec = ingest::spec(&name.name, columns, feed, &self.shared.environment);
        let connector = connectors::find(&feed.connector)?;
        connector.validate(&spec)?;
        let asked = tokio::task::spawn_blocking(move || {
            let identity = connector.identity(&spec)?;
            Ok(Beginning { positions: connector.start(&spec)?, identity })
        })
        .await;
        asked.map_err(|_| Error::internal("a connector panicked; see the log"))?
    }

    /// Reads at the last committed epoch. `session` is who asks, where that matters.
    pub async fn read(
        &self,
        query: &Query,
        parameters: &[Parameter],
        session: Option<Arc<SessionFacts>>,
    ) -> Result<Rows> {
        View { session, ..self.view() }.read(&self.shared.state, query, parameters).await
    }

    fn view(&self) -> View {
        View { published: self.published(), changes: None, given: None, session: None, now: self.shared.clock.now() }
    }

    /// Writes and waits until the write is committed and visible.
    pub async fn write(&self, dml: &Dml, parameters: &[Parameter]) -> Result<Written> {
        for _ in 0..ATTEMPTS {
            let write = match statement::evaluate(&self.view(), &self.shared, dml, parameters).await {
                Err(error) if error.kind == Kind::OutOfMemory && statement::comes_in_pieces(dml) => {
                    return self.write_in_pieces(dml, parameters).await;
                }
                evaluated => evaluated?,
            };
            let (written, stale) = self.ask(|reply| Request::Write { write, reply }).await?;
            if !stale {
                return Ok(written);
            }
        }
        Err(Error::serialization("the rows of the statement were changed again and again while it ran")
            .hint("Try again."))
    }

    /// Writes rows that do not fit into memory at once.
    async fn write_in_pieces(&self, dml: &Dml, parameters: &[Parameter]) -> Result<Written> {
        let ((granted, grant), (sender, pieces)) = (oneshot::channel(), mpsc::channel(1));
        let work = async {
            // Without the grant the coordinator has answered why.
            if grant.await.is_ok() {
                let all = statement::send_pieces(&self.view(), &self.shared, dml, parameters, &sender).await;
                // A coordinator that takes no more has answered why.
                let _ = sender.send(all.map_or_else(Piece::Failed, |()| Piece::End)).await;
            }
        };
        let pieces = Pieces { granted, pieces };
        let ((), answer) = tokio::join!(work, self.ask(|reply| Request::Pieces { pieces, reply }));
        answer
    }

    /// Begins a transaction at the last committed epoch.
    pub fn begin(&self) -> Transaction {
        Transaction::new(self.clone())
    }

    /// Waits until all input that had arrived is visible.
    pub async fn flush(&self) -> Result<()> {
        let questions = self.ask(|reply| Request::Ends { reply }).await?;
        let ask = move || -> Result<BTreeMap<ObjectId, Positions>> {
            let answers = questions.into_iter().map(|(id, question)| Ok((id, question()?)));
            let answers = answers.collect::<Result<Vec<_>>>()?;
            Ok(answers.into_iter().filter_map(|(id, end)| Some((id, end?))).collect())
        };
        let asked = tokio::task::spawn_blocking(ask).await;
        let ends = asked.map_err(|_| Error::internal("a connector panicked; see the log"))??;
        self.ask(|reply| Request::Flush { ends, reply }).await
    }

    /// The text rows of EXPLAIN; with `analyze` the query is run, and each line says what it took.
    pub async fn explain(
        &self,
        query: &Query,
        parameters: &[Parameter],
        session: Option<Arc<SessionFacts>>,
        analyze: bool,
    ) -> Result<Vec<String>> {
        View { session, ..self.view() }.explain(&self.shared.state, query, parameters, analyze).await
    }

    /// The text rows of EXPLAIN MATERIALIZED VIEW; with `analyze` each line says what the operator has done.
    pub fn explain_view(&self, view: ObjectId, analyze: bool) -> Result<Vec<String>> {
        let published = self.published();
        let object = published.catalog.get(view);
        let gone = || Error::undefined_table("the materialized view or sink does not exist any more");
        let plan = plan::stored::read(object.and_then(|object| object.plan()).ok_or_else(gone)?)?;
        match analyze {
            false => Ok(plan::explain::explain(&plan, &published.catalog)),
            true => self.shared.metrics.analyze(view, &plan, &published.catalog),
        }
    }

    /// The server will go down: clients that leave from now on do so because of that.
    pub fn prepare_shutdown(&self) {
        self.shared.ending.store(true, Ordering::Relaxed);
    }

    /// Stops cleanly: the running epoch is committed, waiting writes are answered.
    pub async fn shutdown(&self) -> Result<()> {
        let outcome = self.ask(|reply| Request::Shutdown { reply }).await;
        let threads = std::mem::take(&mut *self.shared.threads.lock());
        for thread in threads {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        outcome
    }
}

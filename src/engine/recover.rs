//! Opening a database: what is stored becomes a running engine. Plans are loaded, never made again.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use crossbeam_channel::bounded;
use crossbeam_channel::unbounded;
use datafusion::execution::SessionState;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use parking_lot::RwLock;

use crate::catalog::ObjectKind;
use crate::dataflow::runtime::Runtime;
use crate::engine::Engine;
use crate::engine::EngineOptions;
use crate::engine::Published;
use crate::engine::Shared;
use crate::engine::commit;
use crate::engine::coordinator::Channels;
use crate::engine::coordinator::Coordinator;
use crate::engine::ddl::all_progress;
use crate::engine::ddl::inputs_of;
use crate::engine::ingest::Inputs;
use crate::engine::records;
use crate::error::Result;
use crate::functions::from_datafusion;
use crate::ids::Epoch;
use crate::plan;
use crate::sql::semantics;
use crate::state::Store;
use crate::state::StoreOptions;

/// Batches of sources that may wait for the coordinator.
const EVENTS_MAX: usize = 16;

/// Reads get at least so much memory.
const READ_BYTES_MIN: usize = 16 << 20;

/// Opens the database in its directory and starts its threads.
pub fn open(options: EngineOptions) -> Result<Engine> {
    let memory = options.memory_limit_bytes;
    let store_options = StoreOptions { cache_bytes: memory / 4, write_buffer_bytes: memory / 8 };
    let store = Store::open(&options.data_dir, store_options)?;
    crate::fault::point("recovery.after_open");
    let snapshot = store.snapshot();
    let (catalog, counters) = records::load(&snapshot)?;
    let progress = all_progress(&catalog, &snapshot)?;
    let row_ids = Arc::new(AtomicI64::new(records::row_id(&snapshot)?));
    let state = Arc::new(session_state(memory / 4)?);
    let (request, requests) = unbounded();
    let (event, events) = bounded(EVENTS_MAX);
    let (commit, commits) = bounded(1);
    let (told, done) = bounded(1);
    let runtime = Runtime::start(options.workers, memory / 4)?;
    let epoch = store.committed_epoch()?.unwrap_or(Epoch(0));
    let environment = Arc::new(options.environment);
    let inputs = Inputs::new(event, options.clock.clone(), environment.clone());
    let channels = Channels { requests, events, commits: commit, done };
    let mut coordinator = Coordinator::new(
        store.clone(),
        runtime,
        catalog,
        state.clone(),
        inputs,
        options.clock.clone(),
        counters,
        row_ids.clone(),
        channels,
    );
    load(&mut coordinator, progress)?;
    let system = coordinator.system_context(epoch);
    let recovered = Published { epoch, catalog: coordinator.catalog.clone(), snapshot, system };
    let published = Arc::new(RwLock::new(Arc::new(recovered)));
    crate::fault::point("recovery.after_load");
    let committer = published.clone();
    spawn("committer", move || commit::run(store, committer, commits, told))?;
    let thread = spawn("coordinator", move || coordinator.run())?;
    let shared = Shared {
        requests: request,
        published,
        state,
        row_ids,
        clock: options.clock,
        environment,
        thread: parking_lot::Mutex::new(Some(thread)),
    };
    Ok(Engine { shared: Arc::new(shared) })
}

/// How reads are run: one after the other inside a query, since many queries run beside each other and the workers need the
/// cores too; together they may take so many bytes, and spill what goes beyond.
fn session_state(memory_bytes: usize) -> Result<SessionState> {
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(memory_bytes.max(READ_BYTES_MIN), 1.0).build_arc();
    let state = semantics::session_state("UTC").with_runtime_env(runtime.map_err(from_datafusion)?);
    let mut state = state.build();
    state.config_mut().options_mut().execution.target_partitions = 1;
    Ok(state)
}

/// Brings every stored object to life, oldest first.
fn load(
    coordinator: &mut Coordinator,
    mut progress: std::collections::BTreeMap<crate::ids::ObjectId, records::Progress>,
) -> Result<()> {
    let catalog = coordinator.catalog.clone();
    let mut read = std::collections::BTreeSet::new();
    for object in catalog.objects() {
        coordinator.adopt(object.id, progress.remove(&object.id))?;
        if let ObjectKind::MaterializedView(view) = &object.kind {
            let plan = Arc::new(plan::stored::read(&view.plan)?);
            read.extend(inputs_of(&plan));
            coordinator.runtime.install(object.id, plan, view.storage.clone(), false);
        }
    }
    for id in read {
        if let Err(error) = coordinator.start_if_source(id) {
            coordinator.inputs.trouble(id, error, false);
        }
    }
    Ok(())
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>> {
    Ok(std::thread::Builder::new().name(name.to_string()).stack_size(16 << 20).spawn(work)?)
}

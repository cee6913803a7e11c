//! `millstream serve`: opens the database, serves clients, and closes it when told to.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tracing_subscriber::EnvFilter;

use crate::catalog::system::DATABASE;
use crate::cli::LogFormat;
use crate::cli::ServeOptions;
use crate::connectors::Environment;
use crate::engine::Engine;
use crate::engine::EngineOptions;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::server::http;
use crate::server::http::Subjects;
use crate::server::pgwire;
use crate::session::Identity;
use crate::session::Metrics;
use crate::session::Outcome;
use crate::session::Session;
use crate::time::SystemClock;

/// How long the end of the server waits for reads that are still running.
const SHUTDOWN_MAX: Duration = Duration::from_secs(2);

/// Runs the server until a signal ends it.
pub fn serve(options: ServeOptions) -> Result<()> {
    start_log(&options.log, options.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("millstream-session")
        .build()
        .map_err(|error| Error::from(error).detail("The threads for sessions cannot be started."))?;
    let done = runtime.block_on(run(options));
    // What a disconnected client had still running is not waited for long. RocksDB is best closed by then: its threads do
    // not like to outlive what the end of a process takes apart.
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    done
}

async fn run(options: ServeOptions) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = listen("--listen", &options.listen).await?;
    let http = listen_http(&options).await?;
    let engine = open(&options).await?;
    if let Some(file) = &options.init_sql {
        initialize(&engine, file).await?;
    }
    let sessions = Arc::new(Metrics::default());
    let http = match http {
        Some(http) => {
            println!("metrics on http://{}/metrics", http.local_addr()?);
            Some(tokio::spawn(http::serve(http, Subjects { engine: engine.clone(), sessions: sessions.clone() })))
        }
        None => None,
    };
    // Tests and people wait for this line; port 0 has become a real one.
    println!("listening on {}", listener.local_addr()?);
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("Ctrl-C: stopping"),
        }
        engine.prepare_shutdown();
    };
    pgwire::serve(listener, engine.clone(), sessions, stop).await;
    if let Some(http) = http {
        http.abort();
    }
    engine.shutdown().await?;
    tracing::info!("stopped");
    Ok(())
}

/// Logs to stderr, so that stdout has only what is meant for programs.
fn start_log(filter: &str, format: LogFormat) -> Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Error::invalid_parameter(format!("invalid value \"{filter}\" for --log: {error}"))
            .hint("Use error, warn, info, debug or trace, or levels by module: info,millstream::engine=debug.")
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A log that is already there (in tests) stays.
    let _ = match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// Takes the port for HTTP, if there is to be one.
async fn listen_http(options: &ServeOptions) -> Result<Option<TcpListener>> {
    let address = match options.http.as_deref() {
        Some("none") => return Ok(None),
        Some(address) => address.to_string(),
        None => {
            let port = options.listen.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).unwrap_or(0);
            // A free port for the one, a free port for the other.
            let port = if port == 0 { 0 } else { port.checked_add(1).unwrap_or(0) };
            format!("127.0.0.1:{port}")
        }
    };
    listen("--http", &address).await.map(Some)
}

/// Takes the port of a flag before the database is opened: a busy one is found at once.
async fn listen(flag: &str, address: &str) -> Result<TcpListener> {
    let resolved: Vec<SocketAddr> = match tokio::net::lookup_host(address).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            return Err(Error::invalid_parameter(format!("cannot listen on \"{address}\": {error}"))
                .hint(format!("Write it as ADDRESS:PORT, for example {flag} 127.0.0.1:4576.")));
        }
    };
    TcpListener::bind(resolved.as_slice()).await.map_err(|error| {
        let message = format!("cannot listen on {address}: {error}");
        match error.kind() {
            std::io::ErrorKind::AddrInUse => Error::new(Kind::Io, message)
                .hint(format!("Another program uses this port. Choose another one: {flag} 127.0.0.1:4576.")),
            std::io::ErrorKind::PermissionDenied => {
                Error::new(Kind::Io, message).hint("Ports below 1024 need privileges; choose a higher one.")
            }
            _ => Error::new(Kind::Io, message),
        }
    })
}

/// Opens the database; recovery may take a while, hence not on a thread of the runtime.
async fn open(options: &ServeOptions) -> Result<Engine> {
    create_directory(&options.data_dir)?;
    let workers = match options.workers {
        Some(workers) => usize::from(workers),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let engine_options = EngineOptions {
        data_dir: options.data_dir.clone(),
        workers,
        memory_limit_bytes: options.memory_limit,
        fill_rows: options.fill_rows,
        clock: Arc::new(SystemClock),
        environment: Environment { file_roots: file_roots(&options.file_root)? },
    };
    let opened = tokio::task::spawn_blocking(move || Engine::open(engine_options)).await;
    let engine = opened.map_err(|error| Error::internal(format!("opening the database failed: {error}")))??;
    tracing::info!(data_dir = %options.data_dir.display(), workers, "the database is open");
    Ok(engine)
}

/// The real paths of the directories that sources may read.
fn file_roots(directories: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let real = |directory: &PathBuf| match directory.canonicalize() {
        Ok(real) if real.is_dir() => Ok(real),
        Ok(_) => Err(Error::invalid_parameter(format!("--file-root {} is no directory", directory.display()))),
        Err(error) => {
            let message = format!("--file-root {} cannot be used: {error}", directory.display());
            Err(Error::new(Kind::Io, message).hint("Create the directory, or name another one."))
        }
    };
    directories.iter().map(real).collect()
}

fn create_directory(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).map_err(|error| {
        let message = format!("cannot create the data directory {}: {error}", directory.display());
        Error::new(Kind::Io, message).hint("Name another one with --data-dir, or make this one writable.")
    })
}

/// Executes the statements of a file. The first error ends the server, named with its statement.
async fn initialize(engine: &Engine, file: &Path) -> Result<()> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Error::new(Kind::Io, format!("cannot read {}: {error}", file.display())))?;
    let identity = Identity { user: DATABASE.to_string(), pid: 0 };
    let mut session = Session::new(engine.clone(), identity, DATABASE, &[], Arc::default(), Arc::default())?;
    for statement in session.parse(&text)? {
        let done = async {
            if let Outcome::Rows { mut rows, .. } = session.run(&statement, true).await? {
                while let Some(batch) = rows.next().await {
                    batch?;
                }
            }
            Ok(())
        };
        done.await.map_err(|error: Error| {
            // Only where it is, not its text: that may hold a password.
            let line = text.chars().take(statement.offset).filter(|c| *c == '\n').count() + 1;
            let told = format!("{}: {}", file.display(), error.message);
            Error { message: told, detail: Some(format!("The statement begins in line {line}.")), ..error }
        })?;
        for notice in session.take_notices() {
            tracing::info!(message = notice.message, "notice from {}", file.display());
        }
    }
    Ok(())
}

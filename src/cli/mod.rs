//! The command line: the only reader of flags and environment, and the place where the parts are put together.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use clap::CommandFactory;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use clap::parser::ValueSource;

use crate::error::Error;
use crate::error::Result;

pub mod serve;
mod settings_file;
mod size;

/// Millstream: a streaming SQL database that speaks the Postgres protocol.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What can be asked of the program.
#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server until it gets SIGTERM or Ctrl-C.
    Serve(ServeOptions),
}

/// How to run the server.
#[derive(Clone, Debug, Args)]
pub struct ServeOptions {
    /// Where everything is stored; created if it does not exist.
    #[arg(long, env = "MILLSTREAM_DATA_DIR", default_value = "./data", value_name = "DIRECTORY")]
    pub data_dir: PathBuf,
    /// Address and port for Postgres clients; port 0 takes a free one.
    #[arg(long, env = "MILLSTREAM_LISTEN", default_value = "127.0.0.1:4566", value_name = "ADDRESS:PORT")]
    pub listen: String,
    /// Address and port for /metrics and /healthz over HTTP, or `none`; by default 127.0.0.1 and the port after that of --listen,
    /// or a free one where that is 0.
    #[arg(long, env = "MILLSTREAM_HTTP", value_name = "ADDRESS:PORT")]
    pub http: Option<String>,
    /// Worker threads; by default one for each core.
    #[arg(long, env = "MILLSTREAM_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Memory that the server may take.
    #[arg(long, env = "MILLSTREAM_MEMORY_LIMIT", default_value = "4GB", value_parser = size::parse, value_name = "SIZE")]
    pub memory_limit: usize,
    /// Rows that a view which is being filled takes in at once at most.
    #[arg(long, env = "MILLSTREAM_FILL_ROWS", default_value_t = 8192, value_parser = fill_rows, value_name = "ROWS")]
    pub fill_rows: usize,
    /// What is logged: a level (error, warn, info, debug, trace), or levels by module (`info,millstream::engine=debug`).
    #[arg(long, env = "MILLSTREAM_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// How the log is written: in lines for people, or as one JSON object a line.
    #[arg(long, env = "MILLSTREAM_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// A directory whose files sources may read (connector = 'file'); may be given several times. Without it none may.
    #[arg(long, env = "MILLSTREAM_FILE_ROOT", value_delimiter = ':', value_name = "DIRECTORY")]
    pub file_root: Vec<PathBuf>,
    /// Statements to execute before clients are served, each in a transaction of its own.
    #[arg(long, env = "MILLSTREAM_INIT_SQL", value_name = "FILE")]
    pub init_sql: Option<PathBuf>,
    /// A TOML file with settings, called as these flags are; flags and environment go before it.
    #[arg(long, env = "MILLSTREAM_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// A number of rows, at least one.
fn fill_rows(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rows) if rows > 0 => Ok(rows),
        Ok(_) | Err(_) => Err("a number of rows, at least 1, is wanted".to_string()),
    }
}

/// Runs the program; its result is the process's.
pub fn run() -> std::process::ExitCode {
    let done = command().and_then(|command| match command {
        Command::Serve(options) => serve::serve(options),
    });
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            std::process::ExitCode::FAILURE
        }
    }
}

/// What is asked of the program: its arguments, and after them what a settings file says of flags that neither they nor the
/// environment give.
fn command() -> Result<Command> {
    let mut arguments = std::env::args_os().collect::<Vec<OsString>>();
    let matches = Cli::command().get_matches_from(&arguments);
    if let Some((_, given)) = matches.subcommand()
        && let Some(file) = given.get_one::<PathBuf>(settings_file::CONFIG)
    {
        for setting in settings_file::read(file)? {
            let stronger = [Some(ValueSource::CommandLine), Some(ValueSource::EnvVariable)];
            if !stronger.contains(&given.value_source(&setting.id)) {
                arguments.extend(setting.arguments);
            }
        }
    }
    Ok(Cli::parse_from(arguments).command)
}

/// Tells a person what went wrong and what to do.
fn report(error: &Error) {
    eprintln!("millstream: {}", error.message);
    if let Some(detail) = &error.detail {
        eprintln!("  {detail}");
    }
    if let Some(hint) = &error.hint {
        eprintln!("  {hint}");
    }
}

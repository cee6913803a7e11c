//! A real PostgreSQL as the judge: Debian's server binaries, a cluster in a temporary directory, a free port.

use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use tempfile::TempDir;

/// A running PostgreSQL; stopped when dropped.
pub struct Postgres {
    directory: TempDir,
    /// The port it listens on.
    pub port: u16,
}

/// Where Debian keeps the server's programs: the newest version there is.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed; see docker/packages.txt");
    let mut versions = versions.flatten().map(|entry| entry.path().join("bin")).collect::<Vec<_>>();
    versions.sort();
    versions.pop().expect("PostgreSQL is installed")
}

/// A command run as a user that PostgreSQL accepts: it refuses to run as root.
fn command(program: &str) -> Command {
    let path = programs().join(program);
    let root = Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.starts_with(b"0\n"));
    if !root {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(path);
    command
}

impl Postgres {
    /// Starts one.
    pub fn start() -> Postgres {
        let directory = tempfile::Builder::new().prefix("millstream-judge").tempdir().expect("a temporary directory");
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = socket.local_addr().expect("bound").port();
        drop(socket);
        let data = directory.path().join("data");
        std::fs::create_dir(&data).expect("a data directory");
        let _ = Command::new("chown").arg("-R").arg("postgres:postgres").arg(directory.path()).status();
        run(command("initdb").args(["-A", "trust", "-U", "millstream", "-E", "UTF8", "--locale=C", "-D"]).arg(&data));
        let options = format!("-p {port} -k {} -c timezone=UTC -c fsync=off", directory.path().display());
        run(command("pg_ctl")
            .args(["-w", "-t", "60", "-o", &options, "-l"])
            .arg(data.join("log"))
            .args(["-D"])
            .arg(&data)
            .arg("start"));
        let postgres = Postgres { directory, port };
        run(command("createdb").args(["-h", "127.0.0.1", "-U", "millstream", "-p", &port.to_string(), "millstream"]));
        postgres
    }
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.is_ok_and(|s| s.success()), "{command:?} failed");
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.directory.path().join("data");
        let _ = command("pg_ctl").args(["-m", "immediate", "-D"]).arg(data).arg("stop").stdout(Stdio::null()).status();
    }
}

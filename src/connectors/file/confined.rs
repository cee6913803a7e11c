//! Files are read only inside of the directories that the server was started with, whatever links there are.

use std::fs::File;
use std::fs::Metadata;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::error::Error;
use crate::error::Result;

/// Which file it is, whatever it is called: another one under the same name is not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    /// Numbers are used again; where the file system knows it, the moment of birth tells.
    born: Option<SystemTime>,
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Identity {
        Identity { device: metadata.dev(), inode: metadata.ino(), born: metadata.created().ok() }
    }
}

/// Refuses a path that lies, or leads, out of the roots.
pub(super) fn check(path: &Path, roots: &[PathBuf]) -> Result<()> {
    real(path, roots).map(|_| ())
}

/// Opens a regular file for reading.
pub(super) fn open(path: &Path, roots: &[PathBuf]) -> Result<File> {
    let real = real(path, roots)?;
    if !real.metadata().map_err(|e| unreadable(path, &e))?.is_file() {
        return Err(Error::invalid_parameter(format!("\"{}\" is no file", path.display())));
    }
    // Neither a link nor a pipe that took its place since then is waited for.
    let mut how = OpenOptions::new();
    let opened = how.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&real);
    let file = opened.map_err(|e| unreadable(path, &e))?;
    // What counts is where the file that was opened lies: a directory on the way may have been exchanged, too.
    let way = Path::new("/proc/self/fd").join(file.as_raw_fd().to_string());
    let lies = way.read_link().map_err(|e| unreadable(path, &e))?;
    if !file.metadata()?.is_file() || !roots.iter().any(|root| lies.starts_with(root)) {
        return Err(outside(path));
    }
    Ok(file)
}

/// Where a path really leads.
fn real(path: &Path, roots: &[PathBuf]) -> Result<PathBuf> {
    // What may not be looked at is not told apart from what is not there.
    let within = |path: &Path| roots.iter().any(|root| path.starts_with(root));
    match path.canonicalize() {
        Ok(real) if within(&real) => Ok(real),
        Ok(_) => Err(outside(path)),
        Err(error) if within(path) => Err(unreadable(path, &error)),
        Err(_) => Err(outside(path)),
    }
}

fn outside(path: &Path) -> Error {
    Error::invalid_parameter(format!("\"{}\" does not lie in a directory that sources may read", path.display()))
        .hint("The server reads files only in the directories that it was started with (--file-root).")
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::undefined_object(format!("file \"{}\" does not exist", path.display())),
        _ => Error::io(format!("file \"{}\" cannot be read: {error}", path.display())),
    }
}

//! The program; see `millstream::cli`.

use mimalloc::MiMalloc;

/// One allocator for Rust and C++ alike.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    millstream::cli::run()
}

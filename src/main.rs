//! The program; see `millstream::cli`.

use mimalloc::MiMalloc;

/// One allocator for Rust and C++ alike. It does not ask for huge pages: where memory is fragmented the kernel takes longer to find
/// them than the whole work does, and half of what it finds stays empty.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    millstream::cli::run()
}

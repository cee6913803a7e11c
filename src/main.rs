//! The program; see `millstream::cli`.

use millstream::allocator::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> std::process::ExitCode {
    millstream::cli::run()
}

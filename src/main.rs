//! The program; see `millstream::cli`.

use millstream::allocator::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> std::process::ExitCode {
    millstream::cli::run()
}

/// Which processors the program runs on.
///
/// On one that lacks what `.cargo/config.toml` builds for, it would end at some instruction without a word, often before `main`: the
/// constructors of libraries are built so too. Therefore this looks before all of them.
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_feature = "avx2"))]
mod processor {
    use std::arch::x86_64::__cpuid;
    use std::arch::x86_64::__cpuid_count;

    /// What runs before any constructor (System V ABI, "Initialization and Termination Functions").
    #[used]
    #[unsafe(link_section = ".preinit_array")]
    static FIRST: extern "C" fn() = check;

    const MESSAGE: &str = "millstream: this program is built for processors with AVX2, which this one does not have\n  \
                           Build it for others with: RUSTFLAGS= cargo build --release\n";

    extern "C" fn check() {
        // Leaf 7 of what the processor tells of itself, bit 5 of EBX: Intel 64 and IA-32 Architectures Software Developer's
        // Manual, volume 2A, CPUID. The standard library would take the build's word for it.
        let has_avx2 = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ebx & 1 << 5 != 0;
        if !has_avx2 {
            // SAFETY: both are calls to the kernel, with memory that is there from the beginning.
            unsafe {
                libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len());
                libc::_exit(1);
            }
        }
    }
}

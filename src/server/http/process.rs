//! What the process takes, as Linux tells it, under the names that Prometheus' own libraries use.

use std::path::Path;

use crate::telemetry::Page;

/// Writes what the process takes; what the system does not tell is left out.
pub(super) fn tell(page: &mut Page) {
    if let Some(seconds) = cpu_seconds() {
        page.counter("process_cpu_seconds_total", "Processor time, of the user and of the system.", seconds);
    }
    if let Some([virtual_bytes, resident_bytes]) = memory_bytes() {
        page.gauge("process_resident_memory_bytes", "Resident memory.", resident_bytes);
        page.gauge("process_virtual_memory_bytes", "Virtual memory.", virtual_bytes);
    }
    for (name, help, folder) in [
        ("process_open_fds", "Open file descriptors.", "/proc/self/fd"),
        ("process_threads", "Threads.", "/proc/self/task"),
    ] {
        if let Ok(entries) = std::fs::read_dir(Path::new(folder)) {
            page.gauge(name, help, entries.count());
        }
    }
}

fn cpu_seconds() -> Option<f64> {
    // SAFETY: the kernel fills the struct that it is handed, which is plain numbers.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        (libc::getrusage(libc::RUSAGE_SELF, &mut usage) == 0).then_some(usage)?
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Some(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

/// Virtual and resident memory, in bytes.
fn memory_bytes() -> Option<[u64; 2]> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    // SAFETY: asks for a number and has no other effect.
    let page_bytes = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    let mut pages = text.split_ascii_whitespace().map(str::parse::<u64>);
    Some([pages.next()?.ok()? * page_bytes, pages.next()?.ok()? * page_bytes])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_tells_all_of_it() {
        let mut page = Page::default();
        tell(&mut page);
        let text = page.into_text();
        for name in ["cpu_seconds_total", "resident_memory_bytes", "virtual_memory_bytes", "open_fds", "threads"] {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("process_{name} ")));
            assert!(line.unwrap().parse::<f64>().unwrap() > 0.0, "{name}");
        }
    }
}

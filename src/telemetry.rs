//! What is counted, and the text in which Prometheus reads it. Each module counts its own things; [`Page`] is how it tells them.
//!
//! Counting is a relaxed addition, done for a batch, an epoch or a statement, never for a row.

use std::fmt::Display;
use std::fmt::Write;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Makes it larger.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// How large it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The upper bounds of a histogram's buckets, in microseconds: 100 µs to a minute.
const BOUNDS_US: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Those that took at most as long as the bound of this number, and longer than the one before.
    buckets: [Counter; BOUNDS_US.len()],
    /// Those that took longer than the last bound.
    longer: Counter,
    /// How long all took together.
    sum_us: Counter,
}

impl Histogram {
    /// Counts one.
    pub fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.iter().position(|bound| micros <= *bound);
        bucket.map_or(&self.longer, |bucket| &self.buckets[bucket]).add(1);
        self.sum_us.add(micros);
    }
}

/// A page in Prometheus' text format, version 0.0.4.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

/// The samples of one metric, being written.
pub struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
}

impl Page {
    /// The media type of the text.
    pub const MEDIA_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// The text.
    pub fn into_text(self) -> String {
        self.text
    }

    /// Begins a metric that only grows; its name ends with `_total`.
    pub fn counters(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    /// Begins a metric that goes up and down.
    pub fn gauges(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// One counter without labels.
    pub fn counter(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.counters(name, help).sample(&[], value);
    }

    /// One gauge without labels.
    pub fn gauge(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.gauges(name, help).sample(&[], value);
    }

    /// A histogram, in seconds.
    pub fn histogram(&mut self, name: &'static str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        let mut count = 0;
        for (bound, bucket) in BOUNDS_US.iter().zip(&histogram.buckets) {
            count += bucket.get();
            self.line(&format!("{name}_bucket"), &[("le", &seconds(*bound).to_string())], count);
        }
        count += histogram.longer.get();
        self.line(&format!("{name}_bucket"), &[("le", "+Inf")], count);
        self.line(&format!("{name}_sum"), &[], seconds(histogram.sum_us.get()));
        self.line(&format!("{name}_count"), &[], count);
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { page: self, name }
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        for (i, (label, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{label}=\"{value}\"", if i == 0 { '{' } else { ',' });
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }
}

impl Family<'_> {
    /// One value, told apart by its labels.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        self.page.line(self.name, labels, value);
        self
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let histogram = Histogram::default();
        histogram.took(Duration::from_micros(100));
        histogram.took(Duration::from_millis(3));
        histogram.took(Duration::from_secs(3600));
        let mut page = Page::default();
        page.gauges("sessions", "Open sessions.").sample(&[], 3);
        page.counters("rows_total", "Rows,\nby object.").sample(&[("object", "a.\"b\\\n\""), ("kind", "table")], 7);
        page.histogram("epoch_seconds", "Time.", &histogram);
        let text = page.into_text();
        let (head, buckets) = text.split_once("# HELP epoch_seconds").unwrap();
        assert_eq!(
            head,
            "# HELP sessions Open sessions.\n# TYPE sessions gauge\nsessions 3\n\
             # HELP rows_total Rows,\\nby object.\n# TYPE rows_total counter\n\
             rows_total{object=\"a.\\\"b\\\\\\n\\\"\",kind=\"table\"} 7\n"
        );
        let lines = buckets.lines().collect::<Vec<_>>();
        assert_eq!(lines[1], "# TYPE epoch_seconds histogram");
        assert_eq!(lines[2], "epoch_seconds_bucket{le=\"0.0001\"} 1");
        assert_eq!(lines[6], "epoch_seconds_bucket{le=\"0.0025\"} 1");
        assert_eq!(lines[7], "epoch_seconds_bucket{le=\"0.005\"} 2");
        assert_eq!(
            lines[lines.len() - 4..],
            [
                "epoch_seconds_bucket{le=\"60\"} 2",
                "epoch_seconds_bucket{le=\"+Inf\"} 3",
                "epoch_seconds_sum 3600.0031",
                "epoch_seconds_count 3"
            ]
        );
    }
}

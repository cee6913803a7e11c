//! Rows made up by a rule: the Nexmark auction house, or a plain sequence. There is one partition, `0`; an offset is the
//! number of an event, and everything about an event follows from its number, so that a restart goes on exactly.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::array::RecordBatchOptions;
use arrow::datatypes::SchemaRef;
use crossbeam_channel::Sender;

use self::datagen::Plan;
use self::timeline::Timeline;
use super::Connector;
use super::EndQuestion;
use super::Part;
use super::Positions;
use super::Reader;
use super::SourceBatch;
use super::SourceEvent;
use super::SourceSpec;
use super::options::Default;
use super::options::OptionKind;
use super::options::OptionSpec;
use super::options::Options;
use super::worker::StopSignal;
use super::worker::Stopped;
use super::worker::Workers;
use crate::error::Error;
use crate::error::Result;
use crate::time::Clock;
use crate::types::Column;
use crate::types::schema_of;

mod datagen;
mod timeline;
mod nexmark;
mod sequence;

/// The one partition.
const PARTITION: &str = "0";

/// How long a reader with a rate sleeps when it has caught up.
const TICK: Duration = Duration::from_millis(20);

/// The most rows in a batch.
const ROWS_MAX: u64 = 2048;

/// The most events of all kinds that a batch goes on by, so that readers of rare and of frequent events over one timeline
/// stay near each other.
const EVENTS_MAX: u64 = 16_384;

/// The options of `connector = 'generator'`.
const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "generator",
        kind: OptionKind::Choice(&["nexmark", "sequence"]),
        default: Default::Required,
        doc: "What is generated: the Nexmark auction house ('nexmark'), or the numbers from 0 with a timestamp \
              ('sequence').",
    },
    OptionSpec {
        name: "nexmark.table",
        kind: OptionKind::Choice(&["person", "auction", "bid"]),
        default: Default::None,
        doc: "Which kind of Nexmark event becomes rows; of 50 events, 1 is a person, 3 are auctions, 46 are bids.",
    },
    OptionSpec {
        name: "rate",
        kind: OptionKind::Number { min: 0.0, max: 1e9 },
        default: Default::Value("10000"),
        doc: "Events of all kinds per second of the wall clock; 0: as fast as they are taken.",
    },
    OptionSpec {
        name: "rows",
        kind: OptionKind::Integer { min: 0, max: i64::MAX },
        default: Default::None,
        doc: "The source ends after so many events of all kinds; without it, it never ends.",
    },
    OptionSpec {
        name: "seed",
        kind: OptionKind::Integer { min: 0, max: 1_000_000 },
        default: Default::Value("0"),
        doc: "Another seed, another billion of events of the same kind. Sources that belong together need the same.",
    },
    OptionSpec {
        name: "event_rate",
        kind: OptionKind::Integer { min: 1, max: 1_000_000_000 },
        default: Default::Value("10000"),
        doc: "Events of all kinds per second of event time.",
    },
    OptionSpec {
        name: "start_time",
        kind: OptionKind::Timestamp,
        default: Default::Value("2015-07-15 00:00:00"),
        doc: "The event time of the first event.",
    },
    OptionSpec {
        name: "out_of_order.share",
        kind: OptionKind::Number { min: 0.0, max: 1.0 },
        default: Default::Value("0"),
        doc: "The share of events that come late: their event time lies before that of events already seen.",
    },
    OptionSpec {
        name: "out_of_order.delay_ms",
        kind: OptionKind::Integer { min: 1, max: 86_400_000 },
        default: Default::Value("1000"),
        doc: "How late an event comes at most, in milliseconds of event time.",
    },
];

pub(super) use self::datagen::Datagen;

/// `connector = 'generator'`.
pub(super) struct Generator;

/// What is generated.
enum Kind {
    Nexmark(nexmark::Table, Timeline),
    Sequence(Timeline),
    Plan(Arc<Plan>),
}

/// A running generator; its thread and its handle share it.
struct Run {
    spec: SourceSpec,
    schema: SchemaRef,
    kind: Kind,
    /// Names of the generated columns that are wanted, in order.
    fields: Vec<String>,
    /// The number of the first event.
    from: u64,
    /// Events of all kinds per second of the wall clock; `None`: no limit.
    rate: Option<f64>,
    /// One past the last event there will ever be.
    rows: Option<u64>,
    clock: Arc<dyn Clock>,
    started: Instant,
}

/// The handle of a running generator.
struct GeneratorReader {
    run: Arc<Run>,
    /// Dropped with the handle; ends the thread.
    _workers: Workers,
}

impl Connector for Generator {
    fn name(&self) -> &'static str {
        "generator"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn validate(&self, spec: &SourceSpec) -> Result<()> {
        let known = Kind::of(&checked(&spec.options)?)?.columns();
        for (column, part) in &spec.columns {
            let Part::Field(field) = part else {
                return Err(Error::unsupported(
                    "connector \"generator\" has no messages that INCLUDE could name a part of",
                ));
            };
            let Some(generated) = known.iter().find(|c| c.name == *field) else {
                let names = known.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
                return Err(Error::undefined_column(format!("column \"{field}\" is not generated"))
                    .hint(format!("The columns are {names}. Without a column list the source gets them all.")));
            };
            if generated.ty.arrow() != column.ty.arrow() {
                return Err(Error::type_mismatch(format!(
                    "column \"{field}\" is generated as {}, not as {}",
                    generated.ty, column.ty
                )));
            }
        }
        Ok(())
    }

    fn columns(&self, options: &BTreeMap<String, String>) -> Result<Option<Vec<Column>>> {
        Ok(Some(Kind::of(&checked(options)?)?.columns()))
    }

    fn start(&self, spec: &SourceSpec) -> Result<Positions> {
        self.validate(spec)?;
        Ok(Positions::from([(PARTITION.to_string(), 0)]))
    }

    fn read(
        &self,
        spec: SourceSpec,
        from: Positions,
        clock: Arc<dyn Clock>,
        events: Sender<SourceEvent>,
    ) -> Result<Box<dyn Reader>> {
        self.validate(&spec)?;
        run(spec, &from, clock)?.start(events)
    }
}

/// A generator that has come so far.
fn run(spec: SourceSpec, from: &Positions, clock: Arc<dyn Clock>) -> Result<Run> {
    let options = checked(&spec.options)?;
    let (kind, rate) = (Kind::of(&options)?, options.number("rate").expect("the option has a default"));
    let rows = options.integer("rows").map(|rows| rows as u64);
    Ok(Run::new(spec, kind, rate, rows, from, clock))
}

impl Reader for GeneratorReader {
    fn committed(&self, _positions: &Positions) {}

    fn end(&self) -> EndQuestion {
        let available = self.run.available();
        let end = (available != u64::MAX).then(|| Positions::from([(PARTITION.to_string(), available as i64)]));
        Box::new(move || Ok(end))
    }
}

impl Kind {
    fn of(options: &Options<'_>) -> Result<Kind> {
        if options.text("generator") == Some("sequence") {
            return Ok(Kind::Sequence(Timeline::of(options)));
        }
        let table = options.text("nexmark.table").ok_or_else(|| {
            Error::invalid_parameter("generator 'nexmark' needs the option \"nexmark.table\"")
                .hint("It is one of 'person', 'auction', 'bid'.")
        })?;
        Ok(Kind::Nexmark(nexmark::Table::of(table), Timeline::of(options)))
    }

    /// All columns it can generate; those of a plan are as they are declared.
    fn columns(&self) -> Vec<Column> {
        match self {
            Kind::Nexmark(table, _) => table.columns(),
            Kind::Sequence(_) => sequence::columns(),
            Kind::Plan(_) => Vec::new(),
        }
    }

    /// How many events of all kinds hold about `rows` rows of this one.
    fn events_of(&self, rows: u64) -> u64 {
        match self {
            Kind::Nexmark(table, _) => table.events_of(rows),
            Kind::Sequence(_) | Kind::Plan(_) => rows,
        }
    }
}

impl Run {
    /// At so many events per second (0: no limit), so many in all, from where it had come.
    fn new(spec: SourceSpec, kind: Kind, rate: f64, rows: Option<u64>, from: &Positions, clock: Arc<dyn Clock>) -> Run {
        let until = spec.until.as_ref().map(|until| until.get(PARTITION).map_or(0, |offset| (*offset).max(0) as u64));
        let rate = Some(rate).filter(|rate| *rate > 0.0 && until.is_none());
        let rows = until.or(rows);
        let fields = spec.columns.iter().filter_map(|(_, part)| match part {
            Part::Field(field) => Some(field.clone()),
            Part::Key | Part::Partition | Part::Offset | Part::Timestamp | Part::Headers | Part::File => None,
        });
        let fields = fields.collect();
        let schema = schema_of(&spec.columns.iter().map(|(column, _)| column.clone()).collect::<Vec<_>>());
        let from = from.get(PARTITION).map_or(0, |offset| (*offset).max(0) as u64);
        let started = clock.instant();
        Run { spec, schema, kind, fields, from, rate, rows, clock, started }
    }

    /// Starts its thread.
    fn start(self, events: Sender<SourceEvent>) -> Result<Box<dyn Reader>> {
        let run = Arc::new(self);
        let mut workers = Workers::new();
        let stop = workers.stop_signal();
        let thread = run.clone();
        workers.spawn(format!("generate {}", run.spec.name), move || thread.generate(&stop, &events))?;
        Ok(Box::new(GeneratorReader { run, _workers: workers }))
    }

    /// One past the last event that exists by now; `u64::MAX` when they are endless.
    fn available(&self) -> u64 {
        let due = self.rate.map_or(u64::MAX, |rate| {
            let elapsed = self.clock.instant().duration_since(self.started);
            self.from + (elapsed.as_secs_f64() * rate) as u64
        });
        due.min(self.rows.unwrap_or(u64::MAX))
    }

    fn generate(&self, stop: &StopSignal, events: &Sender<SourceEvent>) -> Result<(), Stopped> {
        let step = self.kind.events_of(ROWS_MAX).min(EVENTS_MAX);
        let mut next = self.from;
        while self.rows.is_none_or(|rows| next < rows) {
            let available = self.available();
            let to = available.min(next + step);
            if to > next {
                stop.send(events, self.event(next..to, to == available))?;
                next = to;
            }
            if to == available {
                stop.wait(TICK)?;
            }
        }
        // Nothing comes any more; a reader that starts here must say so.
        if next == self.from {
            stop.send(events, self.event(next..next, true))?;
        }
        Ok(())
    }

    fn event(&self, numbers: Range<u64>, at_end: bool) -> SourceEvent {
        let (offsets, batch) = self.batch(numbers.clone());
        SourceEvent::Batch(SourceBatch {
            source: self.spec.source,
            partition: PARTITION.to_string(),
            batch,
            deleted: Vec::new(),
            offsets,
            next_offset: numbers.end as i64,
            at_end,
            errors: Vec::new(),
        })
    }

    /// The rows among the events with these numbers, and their own numbers.
    fn batch(&self, numbers: Range<u64>) -> (Vec<i64>, RecordBatch) {
        let (offsets, columns) = match &self.kind {
            Kind::Nexmark(table, timeline) => table.generate(timeline, &self.fields, numbers),
            Kind::Sequence(timeline) => sequence::generate(timeline, &self.fields, numbers),
            Kind::Plan(plan) => plan.generate(numbers),
        };
        let options = RecordBatchOptions::new().with_row_count(Some(offsets.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .expect("validate compared the types of all columns");
        (offsets, batch)
    }
}

fn checked(options: &BTreeMap<String, String>) -> Result<Options<'_>> {
    Options::check("generator", OPTIONS, options)
}

#[cfg(test)]
mod tests;

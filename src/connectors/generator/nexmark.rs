//! The Nexmark auction house (Tucker et al., "NEXMark: a benchmark for queries over data streams", 2002), with the values
//! that the `nexmark` crate gives to each event number, and event times of our own.
//!
//! The crate computes times in 32-bit floats, which become coarse after 16.7 million events. We let it count from 0 again
//! every [`CHUNK`] events and take from it only how long an auction runs.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::Int64Array;
use arrow::array::StringArray;
use arrow::array::TimestampMicrosecondArray;
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::Auction;
use nexmark::event::Bid;
use nexmark::event::Event;
use nexmark::event::EventType;
use nexmark::event::Person;

use super::timeline::Timeline;
use crate::types::Column;
use crate::types::SqlType;

/// The kinds of event repeat in the same order after so many: 1 person, 3 auctions, 46 bids.
const CYCLE: u64 = 50;

/// After so many events the crate's own event numbers start again at 0. A multiple of [`CYCLE`].
const CHUNK: u64 = 50_000;

/// How far apart the event numbers of two seeds lie. A multiple of [`CYCLE`].
const SEED_STRIDE: u64 = 1_000_000_000;

/// One of the three kinds of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Person,
    Auction,
    Bid,
}

impl Table {
    /// The table of this name, which the option's list allows.
    pub(super) fn of(name: &str) -> Table {
        match name {
            "person" => Table::Person,
            "auction" => Table::Auction,
            "bid" => Table::Bid,
            other => unreachable!("the option's list let {other} pass"),
        }
    }

    /// All columns.
    pub(super) fn columns(self) -> Vec<Column> {
        let names: &[&str] = match self {
            Table::Person => &["id", "name", "email_address", "credit_card", "city", "state", "date_time", "extra"],
            Table::Auction => &[
                "id",
                "item_name",
                "description",
                "initial_bid",
                "reserve",
                "date_time",
                "expires",
                "seller",
                "category",
                "extra",
            ],
            Table::Bid => &["auction", "bidder", "price", "channel", "url", "date_time", "extra"],
        };
        let column = |name: &&str| {
            let ty = match *name {
                "id" | "initial_bid" | "reserve" | "seller" | "category" | "auction" | "bidder" | "price" => {
                    SqlType::BigInt
                }
                "date_time" | "expires" => SqlType::Timestamp,
                _ => SqlType::Text,
            };
            Column::new(*name, ty)
        };
        names.iter().map(column).collect()
    }

    /// Where this kind begins in a cycle, and how many of it there are.
    fn place(self) -> (u64, u64) {
        match self {
            Table::Person => (0, 1),
            Table::Auction => (1, 3),
            Table::Bid => (4, 46),
        }
    }

    /// How many events of all kinds hold about `rows` of this one.
    pub(super) fn events_of(self, rows: u64) -> u64 {
        rows * CYCLE / self.place().1
    }

    /// How many of this kind there are before the event `number`.
    fn count_before(self, number: u64) -> u64 {
        let (first, count) = self.place();
        number / CYCLE * count + (number % CYCLE).saturating_sub(first).min(count)
    }

    /// The number of the `index`th event of this kind.
    fn number_of(self, index: u64) -> u64 {
        let (first, count) = self.place();
        index / count * CYCLE + first + index % count
    }

    /// How many rows of this kind there are among these events, and the named columns of them.
    pub(super) fn generate(
        self,
        timeline: &Timeline,
        fields: &[String],
        numbers: Range<u64>,
    ) -> (Vec<i64>, Vec<ArrayRef>) {
        let extra = fields.iter().any(|f| f == "extra");
        let events = self.events(timeline.seed, extra, numbers);
        match self {
            Table::Person => {
                let rows = pick(events, |event| if let Event::Person(person) = event { Some(person) } else { None });
                (numbers_of(&rows), persons(timeline, fields, &rows))
            }
            Table::Auction => {
                let rows = pick(events, |event| if let Event::Auction(auction) = event { Some(auction) } else { None });
                (numbers_of(&rows), auctions(timeline, fields, &rows))
            }
            Table::Bid => {
                let rows = pick(events, |event| if let Event::Bid(bid) = event { Some(bid) } else { None });
                (numbers_of(&rows), bids(timeline, fields, &rows))
            }
        }
    }

    /// The events of this kind with these numbers.
    fn events(self, seed: u64, extra: bool, numbers: Range<u64>) -> impl Iterator<Item = (u64, Event)> {
        let kind = match self {
            Table::Person => EventType::Person,
            Table::Auction => EventType::Auction,
            Table::Bid => EventType::Bid,
        };
        let chunks = numbers.start / CHUNK..numbers.end.div_ceil(CHUNK);
        chunks.flat_map(move |chunk| {
            let base = chunk * CHUNK;
            let from = self.count_before(numbers.start.max(base) - base);
            let to = self.count_before(numbers.end.min(base + CHUNK) - base);
            let generator = EventGenerator::new(config(seed * SEED_STRIDE + base, extra));
            let events = generator.with_type_filter(kind).with_offset(from);
            (from..to).zip(events).map(move |(index, event)| (base + self.number_of(index), event))
        })
    }
}

/// The crate's settings for a chunk that begins at `first_event`. `extra` comes last of all random values of an event: an
/// average size of 0 leaves it out without changing any other.
fn config(first_event: u64, extra: bool) -> NexmarkConfig {
    let default = NexmarkConfig { base_time: 0, first_event_id: first_event as usize, ..NexmarkConfig::default() };
    if extra {
        return default;
    }
    NexmarkConfig { avg_person_byte_size: 0, avg_auction_byte_size: 0, avg_bid_byte_size: 0, ..default }
}

fn pick<T>(events: impl Iterator<Item = (u64, Event)>, kind: fn(Event) -> Option<T>) -> Vec<(u64, T)> {
    events.filter_map(|(number, event)| Some((number, kind(event)?))).collect()
}

/// The numbers of the events that these rows are of.
fn numbers_of<T>(rows: &[(u64, T)]) -> Vec<i64> {
    rows.iter().map(|(number, _)| *number as i64).collect()
}

fn persons(timeline: &Timeline, fields: &[String], rows: &[(u64, Person)]) -> Vec<ArrayRef> {
    let column = |field: &String| match field.as_str() {
        "id" => integers(rows, |p| p.id),
        "name" => texts(rows, |p| &p.name),
        "email_address" => texts(rows, |p| &p.email_address),
        "credit_card" => texts(rows, |p| &p.credit_card),
        "city" => texts(rows, |p| &p.city),
        "state" => texts(rows, |p| &p.state),
        "extra" => texts(rows, |p| &p.extra),
        "date_time" => times(rows, |n, _| timeline.event_time(n)),
        other => unreachable!("validate let the column {other} pass"),
    };
    fields.iter().map(column).collect()
}

fn auctions(timeline: &Timeline, fields: &[String], rows: &[(u64, Auction)]) -> Vec<ArrayRef> {
    let column = |field: &String| match field.as_str() {
        "id" => integers(rows, |a| a.id),
        "item_name" => texts(rows, |a| &a.item_name),
        "description" => texts(rows, |a| &a.description),
        "initial_bid" => integers(rows, |a| a.initial_bid),
        "reserve" => integers(rows, |a| a.reserve),
        "seller" => integers(rows, |a| a.seller),
        "category" => integers(rows, |a| a.category),
        "extra" => texts(rows, |a| &a.extra),
        "date_time" => times(rows, |n, _| timeline.event_time(n)),
        "expires" => times(rows, |n, a| timeline.due(n) + (a.expires - a.date_time) as i64 * 1000),
        other => unreachable!("validate let the column {other} pass"),
    };
    fields.iter().map(column).collect()
}

fn bids(timeline: &Timeline, fields: &[String], rows: &[(u64, Bid)]) -> Vec<ArrayRef> {
    let column = |field: &String| match field.as_str() {
        "auction" => integers(rows, |b| b.auction),
        "bidder" => integers(rows, |b| b.bidder),
        "price" => integers(rows, |b| b.price),
        "channel" => texts(rows, |b| &b.channel),
        "url" => texts(rows, |b| &b.url),
        "extra" => texts(rows, |b| &b.extra),
        "date_time" => times(rows, |n, _| timeline.event_time(n)),
        other => unreachable!("validate let the column {other} pass"),
    };
    fields.iter().map(column).collect()
}

fn integers<T>(rows: &[(u64, T)], value: impl Fn(&T) -> usize) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, row)| value(row) as i64)))
}

fn texts<T>(rows: &[(u64, T)], value: impl Fn(&T) -> &String) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, row)| value(row))))
}

fn times<T>(rows: &[(u64, T)], value: impl Fn(u64, &T) -> i64) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|(number, row)| value(*number, row))))
}

//! Rows per second through single parts, on one thread.
//!
//! `json`: Nexmark's bids as JSON lines to columns: all of them, and two.
//!
//! `join`: Nexmark's auctions and bids (3 : 46) by auction, both sides kept: each bid falls on one of the last auctions.

use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use millstream::dataflow::changelog::Recording;
use millstream::dataflow::operator::{Context, Operator, Room};
use millstream::dataflow::operators::arrange::Arrange;
use millstream::dataflow::operators::join::Join;
use millstream::delta::Delta;
use millstream::formats::json::JsonDecoder;
use millstream::ids::{Epoch, Portion, TableId};
use millstream::state::{Sealed, Store, StoreOptions, Writes};
use millstream::time::{Clock, SystemClock};
use millstream::types::{Column, SqlType, schema_of};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Steps of so many events.
const STEP: usize = 4900;
/// So many steps in an epoch.
const STEPS: usize = 20;
const EPOCHS: usize = 20;

fn main() {
    json();
    join();
}

/// Decodes the same lines again and again, so that they come from the processor's caches as those of a reader do.
fn json() {
    let lines = (0..10_000).map(|n| {
        format!(
            r#"{{"auction":{},"bidder":{},"price":{},"channel":"channel-{}","url":"https://www.nexmark.com/item.htm?query=1&channel_id={n}","date_time":"2015-07-15 00:00:{:02}.{:03}","extra":"{}"}}"#,
            1000 + n / 15,
            1000 + n % 97,
            n * 7919 % 100_000,
            n % 10_000,
            n / 1000 % 60,
            n % 1000,
            "x".repeat(60 + n % 40)
        )
    });
    let lines = lines.collect::<Vec<_>>();
    let all = [
        ("auction", SqlType::BigInt),
        ("bidder", SqlType::BigInt),
        ("price", SqlType::BigInt),
        ("channel", SqlType::Text),
        ("url", SqlType::Text),
        ("date_time", SqlType::Timestamp),
        ("extra", SqlType::Text),
    ];
    for columns in [&all[..], &all[..1], &[all[0].clone(), all[2].clone()]] {
        let columns = columns.iter().map(|(name, ty)| ((*name).to_owned(), ty.clone())).collect::<Vec<_>>();
        let names = columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let mut decoder = JsonDecoder::new(columns.clone()).expect("these types are decoded");
        let (clock, mut faults, rounds) = (SystemClock, Vec::new(), 300);
        let begin = clock.instant();
        for _ in 0..rounds {
            for batch in lines.chunks(1000) {
                batch.iter().for_each(|line| decoder.decode(line.as_bytes(), &mut faults).expect("it is JSON"));
                std::hint::black_box(decoder.finish());
            }
        }
        assert!(faults.is_empty(), "every value fits its column");
        let seconds = (clock.instant() - begin).as_secs_f64();
        println!("json: {:.0} rows/s decoded to {names}", (rounds * lines.len()) as f64 / seconds);
    }
}

fn join() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path(), StoreOptions::default()).expect("a store");
    let auctions = [("id", SqlType::BigInt), ("item", SqlType::Text), ("category", SqlType::BigInt)];
    let bids = [("auction", SqlType::BigInt), ("price", SqlType::BigInt), ("bidder", SqlType::BigInt)];
    let columns = |list: &[(&str, SqlType)]| list.iter().map(|(n, t)| Column::new(*n, t.clone())).collect::<Vec<_>>();
    let (auctions, bids) = (columns(&auctions), columns(&bids));
    let (mut left, l) = Arrange::new(&auctions, &[0], false, TableId(1), None, true);
    let (mut right, r) = Arrange::new(&bids, &[0], false, TableId(2), None, true);
    let mut join = Join::new(Rc::clone(&l), Rc::clone(&r));

    let recording = &Recording::default();
    let clock = SystemClock;
    let mut random = StdRng::seed_from_u64(1);
    let (mut first, mut seconds, mut commits, mut pairs) = (0, 0.0, 0.0, 0);
    let mut sealed = None;
    for epoch in 0..EPOCHS {
        let steps = (0..STEPS).map(|_| step(&auctions, &bids, &mut first, &mut random)).collect::<Vec<_>>();
        let state = &store.reader(sealed.take());
        let mut writes = Writes::default();
        let begin = clock.instant();
        for [auctions, bids] in steps {
            let (mut out, mut errors) = (Vec::new(), Vec::new());
            let mut passed = [Vec::new(), Vec::new()];
            for (side, (arrange, delta)) in [(&mut left, auctions), (&mut right, bids)].into_iter().enumerate() {
                let mut cx = Context {
                    portion: Portion::first(Epoch(epoch as u64)),
                    state,
                    recording,
                    writes: &mut writes,
                    out: &mut passed[side],
                    room: Room::ENDLESS,
                    watermark: None,
                    shards: 0..0,
                    errors: &mut errors,
                };
                arrange.on_delta(0, delta, &mut cx).expect("rows are taken");
                arrange.on_step(&mut cx).expect("rows are taken");
            }
            let mut cx = Context {
                portion: Portion::first(Epoch(epoch as u64)),
                state,
                recording,
                writes: &mut writes,
                out: &mut out,
                room: Room::ENDLESS,
                watermark: None,
                shards: 0..0,
                errors: &mut errors,
            };
            for (port, deltas) in passed.into_iter().enumerate() {
                deltas.into_iter().for_each(|delta| join.on_delta(port, delta, &mut cx).expect("rows are taken"));
            }
            join.on_step(&mut cx).expect("the join is computed");
            pairs += out.iter().map(Delta::len).sum::<usize>();
            left.after_step().expect("rows are applied");
            right.after_step().expect("rows are applied");
        }
        left.seal(&mut writes).expect("changes are sealed");
        right.seal(&mut writes).expect("changes are sealed");
        let computed = clock.instant();
        let batch = Arc::new(Sealed::new(Epoch(epoch as u64), vec![writes]));
        store.commit(&batch, false).expect("the epoch is committed");
        sealed = Some(batch);
        seconds += (computed - begin).as_secs_f64();
        commits += (clock.instant() - computed).as_secs_f64();
    }
    let events = (EPOCHS * STEPS * STEP) as f64;
    let memory = (left.memory_bytes() + right.memory_bytes()) >> 20;
    println!("join: {:.0} events/s computed, {:.0} with the commit", events / seconds, events / (seconds + commits));
    println!("      {events} events, {pairs} pairs, {memory} MiB");
}

/// A step's auctions and bids.
fn step(auctions: &[Column], bids: &[Column], first: &mut i64, random: &mut StdRng) -> [Delta; 2] {
    let new = (STEP / 49 * 3) as i64;
    let ids = *first..*first + new;
    *first += new;
    let items = ids.clone().map(|id| format!("item number {id}"));
    let left: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids.clone())),
        Arc::new(StringArray::from_iter_values(items)),
        Arc::new(Int64Array::from_iter_values(ids.map(|id| id % 10))),
    ];
    let count = STEP / 49 * 46;
    let mut column = |from: i64, to: i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values((0..count).map(|_| random.random_range(from..to))))
    };
    let right = vec![column((*first - 2000).max(0), *first), column(1, 10_000), column(0, 100_000)];
    let delta =
        |columns, arrays| Delta::inserts(RecordBatch::try_new(schema_of(columns), arrays).expect("equal lengths"));
    [delta(auctions, left), delta(bids, right)]
}

//! That a generator repeats itself exactly, cut in any way, and stops when told.

use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use arrow::datatypes::TimestampMicrosecondType;
use crossbeam_channel::Receiver;

use super::*;
use crate::ids::ObjectId;
use crate::time::SystemClock;

fn spec(options: &[(&str, &str)]) -> SourceSpec {
    let options = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let columns = Generator.columns(&options).unwrap().unwrap();
    let columns = columns.into_iter().map(|c| (c.clone(), Part::Field(c.name))).collect();
    SourceSpec {
        source: ObjectId(1),
        name: "s".into(),
        columns,
        options,
        until: None,
        identity: None,
        fields: Vec::new(),
        format: None,
        environment: Arc::default(),
    }
}

fn run(spec: &SourceSpec) -> Run {
    super::run(spec.clone(), &Positions::new(), Arc::new(SystemClock)).unwrap()
}

fn batches(events: &Receiver<SourceEvent>) -> Vec<SourceBatch> {
    let batch = |event| match event {
        SourceEvent::Batch(batch) => batch,
        SourceEvent::Trouble { error, .. } | SourceEvent::Failed { error, .. } => panic!("{error}"),
    };
    events.iter().map(batch).collect()
}

#[test]
fn every_cut_gives_the_same_rows() {
    for table in ["person", "auction", "bid"] {
        let spec = spec(&[("generator", "nexmark"), ("nexmark.table", table), ("out_of_order.share", "0.3")]);
        let run = run(&spec);
        let (numbers, whole) = run.batch(49_000..51_777);
        assert_eq!(numbers.len(), whole.num_rows());
        for cut in [49_001, 49_004, 49_049, 50_000, 50_001, 51_776] {
            let [(before, head), (after, tail)] = [run.batch(49_000..cut), run.batch(cut..51_777)];
            assert_eq!(concat_batches(&run.schema, [&head, &tail]).unwrap(), whole, "{table} cut at {cut}");
            assert_eq!([before, after].concat(), numbers, "{table} cut at {cut}");
        }
    }
}

#[test]
fn the_values_are_those_of_the_nexmark_crate() {
    let run = run(&spec(&[("generator", "nexmark"), ("nexmark.table", "bid"), ("start_time", "1970-01-01 00:00:00")]));
    let (_, ours) = run.batch(0..1000);
    let config = ::nexmark::config::NexmarkConfig { base_time: 0, ..::nexmark::config::NexmarkConfig::default() };
    let theirs = ::nexmark::EventGenerator::new(config).take(1000).filter_map(|event| match event {
        ::nexmark::event::Event::Bid(bid) => Some(bid),
        _ => None,
    });
    let theirs = theirs.collect::<Vec<_>>();
    assert_eq!(ours.num_rows(), 46 * 20);
    for (i, bid) in theirs.iter().enumerate() {
        assert_eq!(ours.column(0).as_primitive::<Int64Type>().value(i) as usize, bid.auction);
        assert_eq!(ours.column(2).as_primitive::<Int64Type>().value(i) as usize, bid.price);
        assert_eq!(ours.column(4).as_string::<i32>().value(i), bid.url);
        let time = ours.column(5).as_primitive::<TimestampMicrosecondType>().value(i);
        assert!((time / 1000).abs_diff(bid.date_time as i64) <= 1);
        assert_eq!(ours.column(6).as_string::<i32>().value(i), bid.extra);
    }
}

#[test]
fn columns_not_wanted_change_no_other() {
    let all = spec(&[("generator", "nexmark"), ("nexmark.table", "auction")]);
    let mut few = all.clone();
    few.columns.retain(|(c, _)| ["category", "expires"].contains(&c.name.as_str()));
    let ((_, all), (_, few)) = (run(&all).batch(0..5000), run(&few).batch(0..5000));
    assert_eq!(few.column_by_name("category"), all.column_by_name("category"));
    assert_eq!(few.column_by_name("expires"), all.column_by_name("expires"));
}

#[test]
fn event_time_stays_exact_and_is_late_only_within_its_bound() {
    let mut late = spec(&[("generator", "sequence"), ("event_rate", "3"), ("out_of_order.share", "0.25")]);
    late.options.insert("out_of_order.delay_ms".into(), "500".into());
    let run = run(&late);
    let far = 3_000_000_000_000u64;
    let (Kind::Nexmark(_, timeline) | Kind::Sequence(timeline)) = &run.kind else { panic!("no timeline") };
    assert_eq!(timeline.due(far + 1) - timeline.due(far), 333_333);
    let times = (0..10_000).map(|n| timeline.due(n) - timeline.event_time(n)).collect::<Vec<_>>();
    assert!(times.iter().all(|delay| (0..=500_000).contains(delay)));
    let share = times.iter().filter(|delay| **delay > 0).count();
    assert!((2300..2700).contains(&share), "{share}");
}

#[test]
fn a_limited_generator_ends_and_goes_on_where_it_was() {
    let spec = spec(&[("generator", "nexmark"), ("nexmark.table", "person"), ("rate", "0"), ("rows", "100020")]);
    let read = |from: i64| {
        let (events, received) = crossbeam_channel::bounded(2);
        let from = Positions::from([(PARTITION.to_string(), from)]);
        let reader = Generator.read(spec.clone(), from, Arc::new(SystemClock), events).unwrap();
        assert_eq!(reader.end()().unwrap(), Some(Positions::from([("0".to_string(), 100_020)])));
        let batches = batches(&received);
        let rows = batches.iter().map(|b| b.batch.num_rows()).sum::<usize>();
        let last = batches.last().unwrap();
        assert!(last.at_end && last.next_offset == 100_020);
        rows
    };
    assert_eq!(read(0), 2001);
    assert_eq!(read(50_000), 1001);
    assert_eq!(read(100_020), 0);
}

#[test]
fn a_reader_ends_when_dropped_even_if_nobody_reads() {
    let spec = spec(&[("generator", "sequence"), ("rate", "0")]);
    let (events, received) = crossbeam_channel::bounded(1);
    let reader = Generator.read(spec, Positions::new(), Arc::new(SystemClock), events).unwrap();
    assert_eq!(reader.end()().unwrap(), None);
    drop(reader);
    assert!(received.try_iter().count() <= 1);
}

#[test]
fn columns_are_checked() {
    let mut wrong = spec(&[("generator", "nexmark"), ("nexmark.table", "bid")]);
    wrong.columns[0].0.ty = crate::types::SqlType::Text;
    assert_eq!(
        Generator.validate(&wrong).unwrap_err().message,
        "column \"auction\" is generated as bigint, not as text"
    );
    wrong.columns[0].1 = Part::Field("auktion".into());
    assert_eq!(Generator.validate(&wrong).unwrap_err().message, "column \"auktion\" is not generated");
    assert_eq!(crate::connectors::find("generater").err().unwrap().hint.unwrap(), "Perhaps you meant \"generator\".");
}

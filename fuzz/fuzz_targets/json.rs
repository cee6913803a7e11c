//! JSON rows, one a line, into columns of every type: each is a row, or broken and none; the others are not touched by it.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use millstream::formats::Decoder;
use millstream::formats::Encode;
use millstream::types::SqlType;

static COLUMNS: LazyLock<Vec<(String, SqlType)>> = LazyLock::new(|| {
    [
        ("b", SqlType::Boolean),
        ("s", SqlType::SmallInt),
        ("i", SqlType::Integer),
        ("l", SqlType::BigInt),
        ("r", SqlType::Real),
        ("d", SqlType::Double),
        ("n", SqlType::Numeric { precision: 10, scale: 2 }),
        ("t", SqlType::Text),
        ("v", SqlType::Varchar(3)),
        ("y", SqlType::Bytea),
        ("day", SqlType::Date),
        ("ts", SqlType::Timestamp),
        ("tz", SqlType::Timestamptz),
        ("iv", SqlType::Interval),
    ]
    .map(|(name, ty)| (name.to_string(), ty))
    .to_vec()
});

fn decoder() -> Decoder {
    Decoder::new(&Encode::Json, &COLUMNS, &[]).expect("every type is taken")
}

fuzz_target!(|bytes: &[u8]| {
    let (mut together, mut rows, mut alone) = (decoder(), 0, Vec::new());
    for payload in bytes.split(|byte| *byte == b'\n') {
        let mut faults = Vec::new();
        let taken = together.decode(payload, &mut faults).is_ok();
        assert!(faults.iter().all(|fault| fault.column < COLUMNS.len()));
        let mut single = decoder();
        assert_eq!(single.decode(payload, &mut Vec::new()).is_ok(), taken, "it depends on what came before");
        if taken {
            rows += 1;
            alone.push(single.finish());
        }
    }
    let columns = together.finish();
    for (column, values) in columns.iter().enumerate() {
        assert_eq!(values.len(), rows);
        for (row, single) in alone.iter().enumerate() {
            assert_eq!(&values.slice(row, 1), &single[column], "it depends on what came before");
        }
    }
});

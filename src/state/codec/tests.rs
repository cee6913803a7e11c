//! Both codecs against random values, against Arrow's own order, against damaged bytes, and against yesterday's bytes.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::BinaryArray;
use arrow::array::BooleanArray;
use arrow::array::Date32Array;
use arrow::array::Decimal128Array;
use arrow::array::Float32Array;
use arrow::array::Float64Array;
use arrow::array::Int16Array;
use arrow::array::Int32Array;
use arrow::array::Int64Array;
use arrow::array::IntervalMonthDayNanoArray;
use arrow::array::ListArray;
use arrow::array::StringArray;
use arrow::array::Time64MicrosecondArray;
use arrow::array::TimestampMicrosecondArray;
use arrow::buffer::NullBuffer;
use arrow::buffer::OffsetBuffer;
use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use arrow::datatypes::IntervalMonthDayNano;
use arrow_row::RowConverter;
use arrow_row::SortField;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::error::Kind;
use crate::state::codec::ByteRows;
use crate::state::codec::KeyCodec;
use crate::state::codec::RowCodec;
use crate::state::codec::prefix_end;
use crate::types::SqlType;

/// Every Arrow type that a column of ours has.
fn all_types() -> Vec<DataType> {
    let array = |item: SqlType| SqlType::Array(Box::new(item));
    [
        SqlType::Boolean,
        SqlType::SmallInt,
        SqlType::Integer,
        SqlType::BigInt,
        SqlType::Real,
        SqlType::Double,
        SqlType::Numeric { precision: 38, scale: 9 },
        SqlType::Text,
        SqlType::Bytea,
        SqlType::Date,
        SqlType::Time,
        SqlType::Timestamp,
        SqlType::Timestamptz,
        SqlType::Interval,
        array(SqlType::BigInt),
        array(SqlType::Text),
        array(array(SqlType::Numeric { precision: 10, scale: 2 })),
    ]
    .iter()
    .map(SqlType::arrow)
    .collect()
}

/// An integer: an extreme, a small one or any.
fn integer(rng: &mut StdRng) -> i64 {
    match rng.random_range(0..6) {
        0 => i64::MIN,
        1 => i64::MAX,
        2 => rng.random(),
        _ => rng.random_range(-3..200),
    }
}

fn float(rng: &mut StdRng) -> f64 {
    let edges = [0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE / 4.0];
    match rng.random_range(0..3) {
        0 => edges[rng.random_range(0..edges.len())],
        1 => f64::from_bits(rng.random()),
        _ => rng.random_range(-2.0..2.0),
    }
}

fn bytes(rng: &mut StdRng, alphabet: &[u8]) -> Vec<u8> {
    (0..rng.random_range(0..5)).map(|_| alphabet[rng.random_range(0..alphabet.len())]).collect()
}

fn interval(rng: &mut StdRng) -> IntervalMonthDayNano {
    match rng.random_range(0..3) {
        0 => IntervalMonthDayNano::new(rng.random(), rng.random(), rng.random()),
        1 => IntervalMonthDayNano::new(rng.random_range(-1..2), 30 * rng.random_range(-1..2), 0),
        _ => IntervalMonthDayNano::new(0, rng.random_range(-2..2), 43_200_000_000_000 * rng.random_range(-4..4)),
    }
}

/// A column of random values, a fifth of them NULL.
fn column(rng: &mut StdRng, data_type: &DataType, rows: usize) -> ArrayRef {
    let any_nulls = rng.random_bool(0.7);
    let valid = (0..rows).map(|_| !any_nulls || rng.random_bool(0.8)).collect::<Vec<_>>();
    let nulls = Some(NullBuffer::from(valid));
    let numbers = (0..rows).map(|_| integer(rng)).collect::<Vec<_>>();
    let floats = (0..rows).map(|_| float(rng)).collect::<Vec<_>>();
    match data_type {
        DataType::Boolean => {
            let values = numbers.iter().map(|n| n % 2 == 0).collect::<Vec<_>>();
            Arc::new(BooleanArray::new(values.into(), nulls))
        }
        DataType::Int16 => Arc::new(Int16Array::new(numbers.iter().map(|&n| n as i16).collect(), nulls)),
        DataType::Int32 => Arc::new(Int32Array::new(numbers.iter().map(|&n| n as i32).collect(), nulls)),
        DataType::Int64 => Arc::new(Int64Array::new(numbers.into(), nulls)),
        DataType::Float32 => Arc::new(Float32Array::new(floats.iter().map(|&f| f as f32).collect(), nulls)),
        DataType::Float64 => Arc::new(Float64Array::new(floats.into(), nulls)),
        DataType::Decimal128(_, _) => {
            let values = numbers.iter().map(|&n| i128::from(n) * i128::from(n % 1000)).collect();
            Arc::new(Decimal128Array::new(values, nulls).with_data_type(data_type.clone()))
        }
        DataType::Date32 => Arc::new(Date32Array::new(numbers.iter().map(|&n| n as i32).collect(), nulls)),
        DataType::Time64(_) => Arc::new(Time64MicrosecondArray::new(numbers.into(), nulls)),
        DataType::Timestamp(_, _) => {
            Arc::new(TimestampMicrosecondArray::new(numbers.into(), nulls).with_data_type(data_type.clone()))
        }
        DataType::Interval(_) => {
            let values = (0..rows).map(|_| interval(rng)).collect();
            Arc::new(IntervalMonthDayNanoArray::new(values, nulls))
        }
        DataType::Utf8 => {
            let value = |rng: &mut StdRng| {
                String::from_utf8(bytes(rng, b"\0\x01ab\x7f")).unwrap() + ["", "ü"][rng.random_range(0..2)]
            };
            let values = (0..rows).map(|_| value(rng)).collect::<Vec<_>>();
            Arc::new(StringArray::from_iter(
                values.iter().enumerate().map(|(i, v)| nulls.as_ref().unwrap().is_valid(i).then_some(v)),
            ))
        }
        DataType::Binary => {
            let values = (0..rows).map(|_| bytes(rng, b"\0\x01\x02\xfe\xff")).collect::<Vec<_>>();
            Arc::new(BinaryArray::from_iter(
                values.iter().enumerate().map(|(i, v)| nulls.as_ref().unwrap().is_valid(i).then_some(v)),
            ))
        }
        DataType::List(item) => {
            let lengths = (0..rows).map(|_| rng.random_range(0..4)).collect::<Vec<_>>();
            let items = column(rng, item.data_type(), lengths.iter().sum());
            Arc::new(ListArray::new(item.clone(), OffsetBuffer::from_lengths(lengths), items, nulls))
        }
        other => panic!("{other}"),
    }
}

/// The rows of a slice, so that offsets are not all 0.
fn sliced_column(rng: &mut StdRng, data_type: &DataType, rows: usize) -> ArrayRef {
    column(rng, data_type, rows + 5).slice(3, rows)
}

/// As a key: −0 is 0 and all NaN are one.
fn canonical(array: &ArrayRef) -> ArrayRef {
    let encoded =
        KeyCodec::new(vec![array.data_type().clone()]).encode(std::slice::from_ref(array), array.len()).unwrap();
    KeyCodec::new(vec![array.data_type().clone()]).decode(encoded.iter()).unwrap().remove(0)
}

#[test]
fn rows_come_back() {
    let mut rng = StdRng::seed_from_u64(1);
    for round in 0..200 {
        let types = all_types();
        let types = (0..round % 20).map(|_| types[rng.random_range(0..types.len())].clone()).collect::<Vec<_>>();
        let rows = rng.random_range(0..30);
        let columns = types.iter().map(|t| sliced_column(&mut rng, t, rows)).collect::<Vec<_>>();
        let codec = RowCodec::new(types);
        let encoded = codec.encode(&columns, rows).unwrap();
        assert_eq!(encoded.len(), rows);
        assert_eq!(format!("{:?}", codec.decode(encoded.iter()).unwrap()), format!("{columns:?}"));
    }
}

#[test]
fn keys_come_back() {
    let mut rng = StdRng::seed_from_u64(2);
    for data_type in all_types() {
        for _ in 0..20 {
            let array = sliced_column(&mut rng, &data_type, 50);
            let back = canonical(&array);
            match data_type {
                DataType::Float32 | DataType::Float64 => {
                    assert_eq!(format!("{:?}", canonical(&back)), format!("{back:?}"))
                }
                _ => assert_eq!(&back, &array),
            }
        }
    }
}

#[test]
fn keys_order_as_arrow_orders() {
    let mut rng = StdRng::seed_from_u64(3);
    let options = SortOptions { descending: false, nulls_first: false };
    let types = all_types().into_iter().filter(|t| !matches!(t, DataType::Interval(_))).collect::<Vec<_>>();
    for round in 0..200 {
        let count = if round < types.len() { 1 } else { rng.random_range(1..4) };
        let pick = |rng: &mut StdRng| if round < types.len() { round } else { rng.random_range(0..types.len()) };
        let types = (0..count).map(|_| types[pick(&mut rng)].clone()).collect::<Vec<_>>();
        let columns = types.iter().map(|t| canonical(&column(&mut rng, t, 40))).collect::<Vec<_>>();
        let fields = types.iter().map(|t| SortField::new_with_options(t.clone(), options)).collect();
        let expected = RowConverter::new(fields).unwrap().convert_columns(&columns).unwrap();
        let keys = KeyCodec::new(types.clone()).encode(&columns, 40).unwrap();
        for a in 0..40 {
            for b in 0..40 {
                let (ours, theirs) = (keys.get(a).cmp(keys.get(b)), expected.row(a).cmp(&expected.row(b)));
                assert_eq!(ours, theirs, "{types:?} {:?} {:?}", keys.get(a), keys.get(b));
            }
        }
    }
}

#[test]
fn intervals_order_as_postgres_orders() {
    let mut rng = StdRng::seed_from_u64(4);
    let length = |i: IntervalMonthDayNano| {
        (i128::from(i.months) * 30 + i128::from(i.days)) * 86_400_000_000_000 + i128::from(i.nanoseconds)
    };
    let values = (0..200).map(|_| interval(&mut rng)).collect::<Vec<_>>();
    let array: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(values.clone()));
    let keys = KeyCodec::new(vec![array.data_type().clone()]).encode(&[array], values.len()).unwrap();
    for (a, x) in values.iter().enumerate() {
        for (b, y) in values.iter().enumerate() {
            if length(*x) != length(*y) {
                assert_eq!(keys.get(a).cmp(keys.get(b)), length(*x).cmp(&length(*y)), "{x:?} {y:?}");
            }
        }
    }
}

#[test]
fn a_key_of_fewer_columns_is_a_prefix() {
    let mut rng = StdRng::seed_from_u64(5);
    for data_type in all_types() {
        let columns = [sliced_column(&mut rng, &data_type, 30), sliced_column(&mut rng, &DataType::Int64, 30)];
        let short = KeyCodec::new(vec![data_type.clone()]);
        let long = KeyCodec::new(vec![data_type, DataType::Int64]).encode(&columns, 30).unwrap();
        for (prefix, key) in short.encode(&columns[..1], 30).unwrap().iter().zip(long.iter()) {
            assert!(key.starts_with(prefix));
            assert_eq!(short.prefix_len(key).unwrap(), prefix.len());
        }
    }
}

#[test]
fn damaged_bytes_are_refused_or_read_but_never_panic() {
    let mut rng = StdRng::seed_from_u64(6);
    for data_type in all_types() {
        let columns = [sliced_column(&mut rng, &data_type, 100), sliced_column(&mut rng, &DataType::Utf8, 100)];
        let types = vec![data_type, DataType::Utf8];
        let (keys, rows) = (KeyCodec::new(types.clone()), RowCodec::new(types));
        let encoded = [keys.encode(&columns, 100).unwrap(), rows.encode(&columns, 100).unwrap()];
        for (which, encoded) in encoded.iter().enumerate() {
            for row in encoded.iter() {
                let mut row = row.to_vec();
                match rng.random_range(0..3) {
                    0 => row.truncate(rng.random_range(0..row.len())),
                    1 => row.push(rng.random()),
                    _ => {
                        let at = rng.random_range(0..row.len());
                        row[at] = rng.random();
                    }
                }
                let bytes = std::iter::once(row.as_slice());
                let decoded = if which == 0 { keys.decode(bytes) } else { rows.decode(bytes) };
                match decoded {
                    // No two keys are of one value.
                    Ok(columns) if which == 0 => assert_eq!(keys.encode(&columns, 1).unwrap().get(0), row),
                    Ok(_) => {}
                    Err(error) => assert_eq!(error.kind, Kind::Corrupted),
                }
            }
        }
    }
}

#[test]
fn without_columns_every_row_is_the_same() {
    let none = ByteRows { bytes: vec![], ends: vec![0; 3] };
    assert_eq!(KeyCodec::new(vec![]).encode(&[], 3).unwrap(), none);
    assert_eq!(RowCodec::new(vec![]).encode(&[], 3).unwrap(), none);
    assert!(KeyCodec::new(vec![]).decode(none.iter()).unwrap().is_empty());
}

#[test]
fn columns_of_another_type_are_refused() {
    let array: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    let error = KeyCodec::new(vec![DataType::Int64]).encode(std::slice::from_ref(&array), 1).unwrap_err();
    assert_eq!(error.kind, Kind::Internal);
    assert_eq!(RowCodec::new(vec![DataType::Int32]).encode(&[array], 2).unwrap_err().kind, Kind::Internal);
}

#[test]
fn prefixes_end() {
    assert_eq!(prefix_end(b"ab"), Some(b"ac".to_vec()));
    assert_eq!(prefix_end(&[1, 0xFF, 0xFF]), Some(vec![2]));
    assert_eq!(prefix_end(&[0xFF]), None);
    assert_eq!(prefix_end(&[]), None);
}

/// One row of values and one of NULLs, of every type.
fn fixture() -> Vec<ArrayRef> {
    let interval = IntervalMonthDayNano::new(1, -2, 3_000);
    let list = ListArray::new(
        Arc::new(Field::new_list_field(DataType::Int64, true)),
        OffsetBuffer::from_lengths([2, 0]),
        Arc::new(Int64Array::from(vec![Some(300), None])),
        Some(vec![true, false].into()),
    );
    vec![
        Arc::new(BooleanArray::from(vec![Some(true), None])),
        Arc::new(Int16Array::from(vec![Some(-2), None])),
        Arc::new(Int32Array::from(vec![Some(70_000), None])),
        Arc::new(Int64Array::from(vec![Some(-1), None])),
        Arc::new(Float32Array::from(vec![Some(-0.0), None])),
        Arc::new(Float64Array::from(vec![Some(-1.5), None])),
        Arc::new(Decimal128Array::from(vec![Some(-129), None])),
        Arc::new(StringArray::from(vec![Some("a\0b"), None])),
        Arc::new(BinaryArray::from(vec![Some(&[0xFF][..]), None])),
        Arc::new(Date32Array::from(vec![Some(19_000), None])),
        Arc::new(Time64MicrosecondArray::from(vec![Some(1), None])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(1_700_000_000_000_000), None])),
        Arc::new(IntervalMonthDayNanoArray::from(vec![Some(interval), None])),
        Arc::new(list),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// These bytes are on people's disks: they change only together with the codec's version.
#[test]
fn the_formats_stay_as_they_are() {
    let columns = fixture();
    let types = columns.iter().map(|c| c.data_type().clone()).collect::<Vec<_>>();
    let keys = KeyCodec::new(types.clone()).encode(&columns, 2).unwrap();
    let rows = RowCodec::new(types).encode(&columns, 2).unwrap();
    assert_eq!((KeyCodec::VERSION, RowCodec::VERSION), (1, 1));
    let key = [
        "0101",
        "017ffe",
        "0180011170",
        "017fffffffffffffff",
        "0180000000",
        "014007ffffffffffff",
        "017fffffffffffffffffffffffffffff7f",
        "016100ff620001",
        "01ff0001",
        "0180004a38",
        "018000000000000001",
        "0180060a24181e4000",
        "0180000000000000000008983fe4a40bb8800000017ffffffe",
        "010101800000000000012c010200",
    ]
    .concat();
    assert_eq!(hex(keys.get(0)), key);
    assert_eq!(hex(keys.get(1)), "02".repeat(14));
    let row = [
        "0000",
        "01",
        "feff",
        "e0c508",
        "01",
        "00000080",
        "000000000000f8bf",
        "027fff",
        "03610062",
        "01ff",
        "f0a802",
        "02",
        "8080f28183898506",
        "01000000feffffffb80b000000000000",
        "0202d804",
    ]
    .concat();
    assert_eq!(hex(rows.get(0)), row);
    assert_eq!(hex(rows.get(1)), "ff3f");
}

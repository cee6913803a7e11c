//! Keys and rows as bytes: what is encoded comes back, byte order is the order of the values, and bytes that nobody encoded are an
//! error or encode to themselves.

#![no_main]

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::BinaryArray;
use arrow::array::BooleanArray;
use arrow::array::Date32Array;
use arrow::array::Decimal128Array;
use arrow::array::Float64Array;
use arrow::array::Int16Array;
use arrow::array::Int64Array;
use arrow::array::StringArray;
use arrow::array::make_comparator;
use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use libfuzzer_sys::fuzz_target;
use millstream::state::codec::KeyCodec;
use millstream::state::codec::RowCodec;

/// Reads values off the input.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_at(self.0.len().min(N));
        self.0 = rest;
        let mut bytes = [0; N];
        bytes[..taken.len()].copy_from_slice(taken);
        bytes
    }

    fn byte(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }

    fn slice(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte() % 16).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    /// A value in seven of eight, else NULL.
    fn some<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.byte() % 8 != 0).then(|| value(self))
    }

    /// A column of two rows.
    fn column(&mut self) -> ArrayRef {
        let kind = self.byte() % 8;
        let rows = 0..2;
        match kind {
            0 => Arc::new(rows.map(|_| self.some(|input| input.byte() % 2 == 1)).collect::<BooleanArray>()),
            1 => Arc::new(rows.map(|_| self.some(|input| i16::from_le_bytes(input.bytes()))).collect::<Int16Array>()),
            2 => Arc::new(rows.map(|_| self.some(|input| i64::from_le_bytes(input.bytes()))).collect::<Int64Array>()),
            3 => Arc::new(rows.map(|_| self.some(|input| f64::from_le_bytes(input.bytes()))).collect::<Float64Array>()),
            4 => Arc::new(rows.map(|_| self.some(|input| i32::from_le_bytes(input.bytes()))).collect::<Date32Array>()),
            5 => {
                let texts = rows.map(|_| self.some(|input| String::from_utf8_lossy(input.slice()).into_owned()));
                Arc::new(texts.collect::<StringArray>())
            }
            6 => Arc::new(rows.map(|_| self.some(Input::slice)).collect::<BinaryArray>()),
            _ => {
                let numbers = rows.map(|_| self.some(|input| i128::from(i64::from_le_bytes(input.bytes()))));
                let numbers = numbers.collect::<Decimal128Array>();
                Arc::new(numbers.with_precision_and_scale(38, 4).expect("they fit"))
            }
        }
    }
}

/// Floats as keys know them: one zero, one NaN.
fn plain(column: &ArrayRef) -> ArrayRef {
    match column.as_any().downcast_ref::<Float64Array>() {
        Some(floats) => {
            let plain = |float: f64| if float.is_nan() { f64::NAN } else { float + 0.0 };
            Arc::new(floats.iter().map(|float| float.map(plain)).collect::<Float64Array>())
        }
        None => column.clone(),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let count = 1 + input.byte() % 3;
    let columns = (0..count).map(|_| input.column()).collect::<Vec<_>>();
    let types = columns.iter().map(|column| column.data_type().clone()).collect::<Vec<DataType>>();
    let (keys, rows) = (KeyCodec::new(types.clone()), RowCodec::new(types));

    let encoded = rows.encode(&columns, 2).expect("every type is taken");
    let decoded = rows.decode(encoded.iter()).expect("what was encoded is decoded");
    assert_eq!(rows.encode(&decoded, 2).expect("again"), encoded);

    let columns = columns.iter().map(plain).collect::<Vec<_>>();
    let encoded = keys.encode(&columns, 2).expect("every type is taken");
    assert_eq!(keys.decode(encoded.iter()).expect("what was encoded is decoded"), columns);
    let options = SortOptions { descending: false, nulls_first: false };
    let compare = columns.iter().map(|column| make_comparator(column, column, options).expect("it orders")(0, 1));
    let order = compare.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then);
    assert_eq!(encoded.get(0).cmp(encoded.get(1)), order, "{columns:?}");

    // What is left was encoded by nobody.
    if let Ok(decoded) = keys.decode([input.0].into_iter()) {
        assert_eq!(keys.encode(&decoded, 1).expect("it was decoded").get(0), input.0);
    }
    if let Ok(decoded) = rows.decode([input.0].into_iter()) {
        rows.encode(&decoded, 1).expect("it was decoded");
    }
});

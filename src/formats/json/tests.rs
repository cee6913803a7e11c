//! What JSON becomes, column by column, and what becomes an error.

use arrow::array::RecordBatch;
use arrow::util::display::ArrayFormatter;
use arrow::util::display::FormatOptions;

use super::*;
use crate::types::Column;
use crate::types::schema_of;

fn decoder(columns: &[(&str, SqlType)]) -> JsonDecoder {
    JsonDecoder::new(columns.iter().map(|(name, ty)| (name.to_string(), ty.clone()))).unwrap()
}

/// One line a row, columns separated by `|`.
fn rows(columns: &[ArrayRef]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let formatters = columns.iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect::<Vec<_>>();
    let row = |i| formatters.iter().map(|f| f.value(i).to_string()).collect::<Vec<_>>().join("|");
    (0..columns.first().map_or(0, |c| c.len())).map(row).collect()
}

/// What one value becomes in a column of this type.
fn value(ty: SqlType, json: &str) -> Result<String, String> {
    let mut decoder = decoder(&[("v", ty.clone())]);
    let mut faults = Vec::new();
    decoder.decode(format!("{{\"v\":{json}}}").as_bytes(), &mut faults).unwrap();
    if let Some(fault) = faults.pop() {
        assert_eq!((fault.column, rows(&decoder.finish())), (0, vec!["NULL".to_string()]));
        return Err(fault.reason);
    }
    let columns = decoder.finish();
    let batch = RecordBatch::try_new(schema_of(&[Column::new("v", ty)]), columns).unwrap();
    Ok(rows(batch.columns()).remove(0))
}

#[track_caller]
fn becomes(ty: SqlType, json: &str, expected: &str) {
    assert_eq!(value(ty, json).as_deref(), Ok(expected), "{json}");
}

#[track_caller]
fn fails(ty: SqlType, json: &str, reason: &str) {
    assert_eq!(value(ty, json).unwrap_err(), reason, "{json}");
}

#[test]
fn fields_go_to_their_columns_in_any_order() {
    let mut decoder = decoder(&[("a", SqlType::BigInt), ("b", SqlType::Text)]);
    for message in [
        r#"{"a":1,"b":"x"}"#,
        r#"{"b":"y","z":{"a":7},"a":2}"#,
        r#"{"A":3}"#,
        r#"{"a":4,"b":null,"a":5}"#,
        r#"{"\u0061":6}"#,
        "{}",
    ] {
        decoder.decode(message.as_bytes(), &mut Vec::new()).unwrap();
    }
    assert_eq!(rows(&decoder.finish()), ["1|x", "2|y", "NULL|NULL", "5|NULL", "6|NULL", "NULL|NULL"]);
    assert_eq!(rows(&decoder.finish()), [""; 0]);
}

#[test]
fn a_broken_message_leaves_no_row_and_a_bad_value_its_null() {
    let mut decoder = decoder(&[("a", SqlType::Integer), ("b", SqlType::Integer)]);
    let mut faults = Vec::new();
    decoder.decode(br#"{"a":1,"b":1}"#, &mut faults).unwrap();
    for broken in
        [&b"{\"a\":1"[..], b"", b"[1]", b"nope", b"{\"a\":1}}", b"{\"a\":\"\xff\"}", b"{\"a\":1,}", b"{'a':1}"]
    {
        assert!(decoder.decode(broken, &mut faults).is_err());
    }
    assert!(faults.is_empty());
    decoder.decode(br#"{"a":3000000000,"b":"x"}"#, &mut faults).unwrap();
    let told = faults.iter().map(|fault| (fault.column, fault.reason.as_str())).collect::<Vec<_>>();
    let expected = [
        (0, "value \"3000000000\" is out of range for type integer"),
        (1, "invalid input syntax for type integer: \"x\""),
    ];
    assert_eq!(told, expected);
    decoder.decode(br#"{"a":4,"b":4}"#, &mut faults).unwrap();
    assert_eq!(rows(&decoder.finish()), ["1|1", "NULL|NULL", "4|4"]);
}

#[test]
fn no_columns_at_all() {
    let mut decoder = decoder(&[]);
    decoder.decode(br#"{"a":1}"#, &mut Vec::new()).unwrap();
    assert!(decoder.decode(b"x", &mut Vec::new()).is_err());
    assert!(decoder.finish().is_empty());
}

#[test]
fn numbers() {
    becomes(SqlType::SmallInt, "-32768", "-32768");
    fails(SqlType::SmallInt, "32768", "value \"32768\" is out of range for type smallint");
    becomes(SqlType::Integer, "\"12\"", "12");
    becomes(SqlType::Integer, "-3.00", "-3");
    fails(SqlType::Integer, "1.5", "invalid input syntax for type integer: \"1.5\"");
    fails(SqlType::Integer, "\"1.\"", "invalid input syntax for type integer: \"1.\"");
    fails(SqlType::Integer, "\"\"", "invalid input syntax for type integer: \"\"");
    fails(SqlType::Integer, "true", "a literal cannot be read as integer: \"true\"");
    fails(SqlType::Integer, "[1]", "an object or array cannot be read as integer: \"[1]\"");
    becomes(SqlType::BigInt, "9223372036854775807", "9223372036854775807");
    fails(SqlType::BigInt, "9223372036854775808", "value \"9223372036854775808\" is out of range for type bigint");
    let numeric = SqlType::Numeric { precision: 18, scale: 2 };
    becomes(numeric.clone(), "90071992547409.93", "90071992547409.93");
    becomes(numeric.clone(), "\"0.005\"", "0.01");
    becomes(numeric.clone(), "-1.5e3", "-1500.00");
    fails(numeric, "1e400", "numeric field overflow");
    becomes(SqlType::Double, "0.1", "0.1");
    becomes(SqlType::Double, "-0", "-0.0");
    becomes(SqlType::Double, "\"NaN\"", "NaN");
    becomes(SqlType::Double, "\"-Infinity\"", "-inf");
    fails(SqlType::Double, "1e400", "\"1e400\" is out of range for type double precision");
    fails(SqlType::Real, "1e39", "\"1e39\" is out of range for type real");
    let long = "9".repeat(100_000);
    for ty in [SqlType::BigInt, SqlType::Double, SqlType::Numeric { precision: 38, scale: 9 }, SqlType::Timestamp] {
        assert!(value(ty, &long).unwrap_err().len() < 200);
    }
}

#[test]
fn texts_and_bytes() {
    becomes(SqlType::Text, r#""a\u00e9\n""#, "aé\n");
    becomes(SqlType::Text, "1.50", "1.50");
    becomes(SqlType::Text, "true", "true");
    becomes(SqlType::Text, r#"{"a": [1]}"#, r#"{"a": [1]}"#);
    fails(SqlType::Text, r#""\u0000""#, "a text cannot hold \\u0000");
    becomes(SqlType::Varchar(2), "\"éé\"", "éé");
    fails(SqlType::Varchar(2), "\"éée\"", "value too long for type character varying(2)");
    becomes(SqlType::Bytea, r#""\\x0aFF""#, "0aff");
    becomes(SqlType::Bytea, "\"AQID\"", "010203");
    becomes(SqlType::Bytea, "\"AQ==\"", "01");
    becomes(SqlType::Bytea, "\"AQI\"", "0102");
    becomes(SqlType::Bytea, "\"\"", "");
    fails(SqlType::Bytea, "\"A\"", "a string cannot be read as bytea: \"A\"");
    fails(SqlType::Bytea, "\"A?==\"", "a string cannot be read as bytea: \"A?==\"");
    becomes(SqlType::Boolean, "false", "false");
    becomes(SqlType::Boolean, "\"true\"", "true");
    fails(SqlType::Boolean, "1", "a number cannot be read as boolean: \"1\"");
}

#[test]
fn times() {
    becomes(SqlType::Timestamp, "\"2024-01-02 03:04:05.123456\"", "2024-01-02T03:04:05.123456");
    becomes(SqlType::Timestamp, "\"2024-01-02T03:04:05.5Z\"", "2024-01-02T03:04:05.500");
    becomes(SqlType::Timestamp, "\"2024-01-02 24:00:00\"", "2024-01-03T00:00:00");
    becomes(SqlType::Timestamptz, "\"2024-01-02T03:04:05+02:00\"", "2024-01-02T01:04:05Z");
    becomes(SqlType::Timestamptz, "\"2024-01-02 03:04:05\"", "2024-01-02T03:04:05Z");
    becomes(SqlType::Timestamp, "1704164645123", "2024-01-02T03:04:05.123");
    becomes(SqlType::Timestamp, "1704164645123.456", "2024-01-02T03:04:05.123456");
    becomes(SqlType::Timestamp, "-1", "1969-12-31T23:59:59.999");
    fails(SqlType::Timestamp, "1e30", "\"1e30\" milliseconds are out of range for type timestamp without time zone");
    fails(SqlType::Timestamp, "\"soon\"", "invalid input syntax for type timestamp: \"soon\"");
    fails(SqlType::Timestamp, "\"2023-02-29 00:00:00\"", "date/time field value out of range: \"2023-02-29 00:00:00\"");
    becomes(SqlType::Date, "\"2024-02-29\"", "2024-02-29");
    fails(SqlType::Date, "\"2023-02-29\"", "date/time field value out of range: \"2023-02-29\"");
    fails(SqlType::Date, "19000", "a number cannot be read as date: \"19000\"");
    becomes(SqlType::Time, "\"03:04:05.5\"", "03:04:05.500");
    assert!(value(SqlType::Interval, "\"1 day 2 hours\"").is_ok());
    fails(SqlType::Interval, "\"a while\"", "invalid input syntax for type interval: \"a while\"");
}

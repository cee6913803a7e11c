//! Rows to bytes and back; broken data is refused with its line.

use std::sync::Arc;

use super::Format;
use super::Header;
use super::Options;
use super::Reader;
use super::Writer;
use crate::error::Error;
use crate::error::Result;
use crate::types::Column;
use crate::types::SqlType;
use crate::types::text::format_array;
use crate::types::zone::Zone;

fn columns() -> Vec<Column> {
    vec![Column::new("id", SqlType::Integer), Column::new("name", SqlType::Text)]
}

/// Reads the data in pieces of so many bytes; the rows as text, with the line of each.
fn read_in(data: &[u8], options: &Options, piece: usize) -> Result<Vec<String>> {
    let mut reader = Reader::new("t".into(), columns(), options.clone(), Zone::UTC);
    for piece in data.chunks(piece) {
        assert!(reader.push(piece)?.is_none());
    }
    let batch = reader.finish()?;
    let texts = batch.rows.columns().iter().zip(columns());
    let texts: Vec<_> = texts.map(|(array, c)| format_array(array.as_ref(), &c.ty, Zone::UTC).unwrap()).collect();
    let value = |row: usize| {
        move |text: &arrow::array::StringArray| text.iter().nth(row).unwrap().map_or("NULL".into(), str::to_string)
    };
    let row = |(row, line)| format!("{line}: {}", texts.iter().map(value(row)).collect::<Vec<_>>().join("|"));
    Ok(batch.lines.iter().enumerate().map(row).collect())
}

/// Reads whole and byte by byte, which must come to the same.
fn read(data: &[u8], options: &Options) -> Result<Vec<String>> {
    let whole = read_in(data, options, data.len().max(1));
    assert_eq!(read_in(data, options, 1), whole);
    whole
}

fn failure(data: &str, options: &Options) -> (String, String) {
    let Error { message, context, .. } = read(data.as_bytes(), options).unwrap_err();
    (message, context.unwrap_or_default().into())
}

#[test]
fn text_is_read_with_its_escapes() {
    let options = Options::new(Format::Text);
    let data = b"1\ta\\tb\n2\t\\N\n3\t\\\\N\\101\\x41\\q\n4\tone\\\ntwo\n5\t\n\\.\nignored";
    let expected = ["1: 1|a\tb", "2: 2|NULL", "3: 3|\\NAAq", "4: 4|one\ntwo", "5: 5|"];
    // The escaped line end belongs to the value.
    assert_eq!(read(data, &options).unwrap(), expected);
    assert_eq!(read(b"1\ta\r\n2\tb\r\n", &options).unwrap(), ["1: 1|a", "2: 2|b"]);
    assert_eq!(read(b"1\ta\r2\tb", &options).unwrap(), ["1: 1|a", "2: 2|b"]);
    assert_eq!(read(b"", &options).unwrap(), [""; 0]);
}

#[test]
fn csv_is_read_with_its_quotes() {
    let mut options = Options::new(Format::Csv);
    let data = b"1,a\n2,\n3,\"\"\n4,\"x,\"\"y\"\"\nz\"\n5,a\"b\"c\n";
    let expected = ["1: 1|a", "2: 2|NULL", "3: 3|", "5: 4|x,\"y\"\nz", "6: 5|abc"];
    assert_eq!(read(data, &options).unwrap(), expected);
    options.force_null = vec![false, true];
    options.header = Header::Match;
    assert_eq!(read(b"id,name\n1,\"\"\n", &options).unwrap(), ["2: 1|NULL"]);
    options.force_null = Vec::new();
    options.force_not_null = vec![false, true];
    options.escape = b'\\';
    assert_eq!(read(b"id,name\n1,\n2,\"a\\\"b\\c\"\n", &options).unwrap(), ["2: 1|", "3: 2|a\"b\\c"]);
    let mismatch = "column name mismatch in header line field 2: got \"nam\", expected \"name\"";
    assert_eq!(failure("id,nam\n", &options).0, mismatch);
}

#[test]
fn errors_name_the_line() {
    let text = Options::new(Format::Text);
    for (data, message, context) in [
        ("1\ta\nx\tb\n", "invalid input syntax for type integer: \"x\"", "COPY t, line 2, column id: \"x\""),
        ("1\n", "missing data for column \"name\"", "COPY t, line 1: \"1\""),
        ("1\ta\tb\n", "extra data after last expected column", "COPY t, line 1: \"1\ta\tb\""),
        ("1\ta\n2\tb\r\n", "literal carriage return found in data", "COPY t, line 2"),
        ("1\t\\xff\n", "invalid byte sequence for encoding \"UTF8\": 0xff", "COPY t, line 1: \"1\t\\xff\""),
    ] {
        assert_eq!(failure(data, &text), (message.to_string(), context.to_string()), "{data:?}");
    }
    let csv = Options::new(Format::Csv);
    assert_eq!(
        failure("1,\"a\n2,b\n", &csv),
        ("unterminated CSV quoted field".to_string(), "COPY t, line 3: \"1,\"a\n2,b\n\"".to_string())
    );
}

#[test]
fn every_format_reads_what_it_writes() {
    let data = "1\ta\\tb\\nc\n2\t\\N\n3\t\n4\t\\\\.\n5\t\"q\",;\n";
    let rows = read(data.as_bytes(), &Options::new(Format::Text)).unwrap();
    let mut reader = Reader::new("t".into(), columns(), Options::new(Format::Text), Zone::UTC);
    reader.push(data.as_bytes()).unwrap();
    let batch = reader.finish().unwrap().rows;
    let semicolons = Options { delimiter: b';', quote: b'\'', escape: b'\\', ..Options::new(Format::Csv) };
    let forced = Options { force_quote: vec![true, true], header: Header::Yes, ..Options::new(Format::Csv) };
    for options in
        [Options::new(Format::Text), Options::new(Format::Csv), Options::new(Format::Binary), semicolons, forced]
    {
        let mut writer = Writer::new(Arc::from(columns()), options.clone(), Zone::UTC);
        let mut bytes = Vec::new();
        let mut pieces = 0;
        let mut emit = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            pieces += 1;
        };
        writer.begin(&mut emit);
        writer.write(&batch, &mut emit).unwrap();
        writer.end(&mut emit);
        let beside = usize::from(options.header != Header::No) + usize::from(options.format == Format::Binary);
        assert_eq!(pieces, 5 + beside);
        let values = |rows: Vec<String>| {
            rows.into_iter().map(|row| row.split_once(' ').unwrap().1.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(values(read(&bytes, &options).unwrap()), values(rows.clone()), "{options:?}");
    }
}

#[test]
fn broken_binary_data_is_refused() {
    let options = Options::new(Format::Binary);
    let head = [b"PGCOPY\n\xff\r\n\0".as_slice(), &[0; 8]].concat();
    for (tail, message) in [
        (&[0, 3][..], "row field count is 3, expected 2"),
        (&[0, 2, 0, 0, 0, 4, 0, 0], "unexpected EOF in COPY data"),
        (&[0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0], "incorrect binary data format for type integer"),
        (&[0, 2, 0x80, 0, 0, 0], "invalid field size"),
    ] {
        let data = [&head, tail].concat();
        assert_eq!(read(&data, &options).unwrap_err().message, message, "{tail:?}");
    }
    assert_eq!(read(b"1\ta\n", &options).unwrap_err().message, "COPY file signature not recognized");
    assert_eq!(read(&head[..15], &options).unwrap_err().message, "unexpected EOF in COPY data");
}

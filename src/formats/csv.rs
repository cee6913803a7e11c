//! `ENCODE CSV`: one record of RFC 4180 to the columns of a source, with the rules of Postgres' `COPY ... (FORMAT csv)`: an
//! empty field is NULL, a quoted empty one is the empty text, a quote inside of quotes is doubled, and values are read as
//! the input functions of their types do.

use std::borrow::Cow;

use arrow::array::ArrayRef;
use memchr::memchr;
use memchr::memchr2;

use super::Broken;
use super::Fault;
use crate::types::SqlType;
use crate::types::parse::TextBuilder;
use crate::types::zone::Zone;

const QUOTE: u8 = b'"';

/// What some programs put before a file that is UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Decodes records into columns.
pub struct CsvDecoder {
    delimiter: u8,
    /// The name of the field that fills each column.
    names: Vec<String>,
    /// Which field, counted from 0, fills each column; `None`: the header does not name it.
    places: Vec<Option<usize>>,
    /// How many fields each record has.
    width: usize,
    /// The rows so far.
    columns: Vec<TextBuilder>,
    /// The fields of the record at hand.
    fields: Vec<Field>,
}

/// A field as it lies in its record, quotes included.
#[derive(Clone, Copy, Debug)]
struct Field {
    start: usize,
    end: usize,
    quoted: bool,
}

/// Where the record that `bytes` begin with ends: at the first newline outside of quotes.
pub(super) fn record_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr2(QUOTE, b'\n', &bytes[at..])?;
        if bytes[at] == b'\n' {
            return Some(at);
        }
        // The closing quote; a doubled one opens again at once.
        at += 1;
        at += memchr(QUOTE, &bytes[at..])? + 1;
    }
}

impl CsvDecoder {
    /// A decoder for columns of these types; until a [`header`](Self::header) says otherwise the fields are `declared`.
    pub fn new(delimiter: u8, columns: &[(String, SqlType)], declared: &[String]) -> CsvDecoder {
        let names = columns.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let places = names.iter().map(|name| declared.iter().position(|field| field == name)).collect();
        let columns = columns.iter().map(|(_, ty)| TextBuilder::new(ty, Zone::UTC)).collect();
        CsvDecoder { delimiter, names, places, width: declared.len(), columns, fields: Vec::new() }
    }

    /// Takes the names of the fields from the record that a file begins with. A name that is not there exactly may be there
    /// in other letters' case.
    pub fn header(&mut self, record: &[u8]) -> Result<(), Broken> {
        let record = record.strip_prefix(BYTE_ORDER_MARK).unwrap_or(record);
        let text = self.split(record)?;
        let fields = self.fields.iter().map(|field| field.text(text)).collect::<Vec<_>>();
        let place = |name: &String| {
            let exact = fields.iter().position(|field| field == name);
            exact.or_else(|| fields.iter().position(|field| field.eq_ignore_ascii_case(name)))
        };
        self.places = self.names.iter().map(place).collect();
        self.width = fields.len();
        Ok(())
    }

    /// Decodes one record.
    pub fn decode(&mut self, record: &[u8], faults: &mut Vec<Fault>) -> Result<(), Broken> {
        let text = self.split(record)?;
        if self.fields.len() != self.width {
            return Err(format!("the record has {} fields instead of {}", self.fields.len(), self.width));
        }
        for (index, (column, place)) in self.columns.iter_mut().zip(&self.places).enumerate() {
            let value = place.map(|place| self.fields[place]).filter(|field| field.quoted || field.start < field.end);
            let Some(field) = value else {
                column.append_null();
                continue;
            };
            if let Err(wrong) = column.append(&field.text(text)) {
                column.append_null();
                faults.push(Fault { column: index, reason: wrong.message });
            }
        }
        Ok(())
    }

    /// A row of NULLs.
    pub fn append_nulls(&mut self) {
        self.columns.iter_mut().for_each(TextBuilder::append_null);
    }

    /// The columns of all rows since the last call.
    pub fn finish(&mut self) -> Vec<ArrayRef> {
        self.columns.iter_mut().map(TextBuilder::finish).collect()
    }

    /// Finds the fields of a record; its text.
    fn split<'r>(&mut self, record: &'r [u8]) -> Result<&'r str, Broken> {
        let record = record.strip_suffix(b"\r").unwrap_or(record);
        let text = std::str::from_utf8(record)
            .map_err(|error| format!("the text is not valid UTF-8 after byte {}", error.valid_up_to()))?;
        if memchr(0, record).is_some() {
            return Err("a text cannot hold the character 0".into());
        }
        self.fields.clear();
        let (mut start, mut at, mut quoted) = (0, 0, false);
        loop {
            let Some(found) = memchr2(QUOTE, self.delimiter, &record[at..]) else {
                self.fields.push(Field { start, end: record.len(), quoted });
                return Ok(text);
            };
            at += found + 1;
            if record[at - 1] == self.delimiter {
                self.fields.push(Field { start, end: at - 1, quoted });
                (start, quoted) = (at, false);
            } else {
                let close = memchr(QUOTE, &record[at..]).ok_or("a quoted field does not end")?;
                at += close + 1;
                quoted = true;
            }
        }
    }
}

impl Field {
    /// Its value: without the quotes around parts of it, doubled ones halved.
    fn text(self, record: &str) -> Cow<'_, str> {
        let raw = &record[self.start..self.end];
        if !self.quoted {
            return Cow::Borrowed(raw);
        }
        let inner = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).filter(|inner| !inner.contains('"'));
        inner.map_or_else(|| Cow::Owned(unquoted(raw)), Cow::Borrowed)
    }
}

fn unquoted(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    // Every other piece lies inside of quotes. An empty one outside, between two that are inside, is a doubled quote.
    let pieces = raw.split('"').collect::<Vec<_>>();
    for (n, piece) in pieces.iter().enumerate() {
        let doubled = n % 2 == 0 && piece.is_empty() && n > 0 && n + 1 < pieces.len();
        out.push_str(if doubled { "\"" } else { piece });
    }
    out
}

#[cfg(test)]
mod tests {
    use arrow::util::display::array_value_to_string;

    use super::*;

    /// The rows that records come to, and the errors.
    fn decode(header: Option<&str>, records: &[&str]) -> (Vec<String>, Vec<String>) {
        let columns = [("b".to_string(), SqlType::Text), ("a".to_string(), SqlType::Integer)];
        let declared = ["a".to_string(), "b".to_string(), "c".to_string()];
        let mut decoder = CsvDecoder::new(b',', &columns, &declared);
        if let Some(header) = header {
            decoder.header(header.as_bytes()).unwrap();
        }
        let mut errors = Vec::new();
        for record in records {
            let mut faults = Vec::new();
            errors.extend(decoder.decode(record.as_bytes(), &mut faults).err());
            errors.extend(faults.into_iter().map(|fault| fault.reason));
        }
        let arrays = decoder.finish();
        let cell = |array: &ArrayRef, row| match array.is_null(row) {
            true => "NULL".to_string(),
            false => array_value_to_string(array, row).unwrap(),
        };
        let rows = (0..arrays[0].len()).map(|row| arrays.iter().map(|a| cell(a, row)).collect::<Vec<_>>().join("|"));
        (rows.collect(), errors)
    }

    #[test]
    fn fields_go_by_place_or_by_the_header() {
        assert_eq!(decode(None, &["1,x,y", "2,\"\",", ",,\r"]).0, ["x|1", "|2", "NULL|NULL"]);
        assert_eq!(decode(Some("\u{feff}B,z,a"), &["x,y,1"]).0, ["x|1"]);
        assert_eq!(decode(Some("b"), &["x"]).0, ["x|NULL"]);
    }

    #[test]
    fn quotes_are_taken_off_as_copy_does() {
        let (rows, errors) = decode(None, &[r#"1,"a,b",c"#, r#"2,"say ""hi""",c"#, r#"3,x"y"z,c"#, "4,\"l1\nl2\",c"]);
        assert_eq!(rows, ["a,b|1", "say \"hi\"|2", "xyz|3", "l1\nl2|4"]);
        assert!(errors.is_empty());
        assert_eq!(decode(None, &[r#"1,"""",c"#, r#"2,"""a",c"#, r#"3,"a""",c"#]).0, ["\"|1", "\"a|2", "a\"|3"]);
    }

    #[test]
    fn a_bad_record_is_an_error_of_its_own() {
        let (rows, errors) = decode(None, &["1,x", "one,x,y", "2,\"x,y", "3,x,y"]);
        assert_eq!(rows, ["x|NULL", "x|3"]);
        assert_eq!(
            errors,
            [
                "the record has 2 fields instead of 3",
                "invalid input syntax for type integer: \"one\"",
                "a quoted field does not end"
            ]
        );
    }

    #[test]
    fn a_record_ends_outside_of_quotes() {
        assert_eq!(record_end(b"a,b\nc"), Some(3));
        assert_eq!(record_end(b"a,\"b\nc\"\"\n\"\nd"), Some(10));
        assert_eq!(record_end(b"a,\"b\n"), None);
        assert_eq!(record_end(b""), None);
    }
}

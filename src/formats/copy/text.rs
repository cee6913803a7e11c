//! The text format: values between tabs, special characters behind backslashes.

use crate::formats::copy::Options;
use crate::formats::copy::read::Fields;

/// Cuts a record into values.
pub(super) fn split(record: &[u8], options: &Options, fields: &mut Fields) {
    let mut at = 0;
    loop {
        let raw = at;
        let begin = fields.begin();
        while at < record.len() && record[at] != options.delimiter {
            at = match record[at] {
                b'\\' => unescape(record, at, &mut fields.data),
                plain => {
                    fields.data.push(plain);
                    at + 1
                }
            };
        }
        // NULL is told by what was written, not by what it means.
        fields.end(begin, &record[raw..at] == options.null.as_bytes());
        if at == record.len() {
            return;
        }
        at += 1;
    }
}

/// Reads what stands behind a backslash; gives the place after it.
fn unescape(record: &[u8], at: usize, out: &mut Vec<u8>) -> usize {
    let Some(&code) = record.get(at + 1) else {
        out.push(b'\\');
        return at + 1;
    };
    let digits = |from: usize, most: usize, radix: u32| {
        record[from..].iter().take(most).take_while(|byte| char::from(**byte).is_digit(radix)).count()
    };
    let number = |from: usize, count: usize, radix: u32| {
        let digits = record[from..from + count].iter().filter_map(|byte| char::from(*byte).to_digit(radix));
        digits.fold(0u32, |value, digit| value * radix + digit) as u8
    };
    match code {
        b'b' => out.push(8),
        b'f' => out.push(12),
        b'n' => out.push(b'\n'),
        b'r' => out.push(b'\r'),
        b't' => out.push(b'\t'),
        b'v' => out.push(11),
        b'0'..=b'7' => {
            let count = digits(at + 1, 3, 8);
            out.push(number(at + 1, count, 8));
            return at + 1 + count;
        }
        b'x' if digits(at + 2, 2, 16) > 0 => {
            let count = digits(at + 2, 2, 16);
            out.push(number(at + 2, count, 16));
            return at + 2 + count;
        }
        other => out.push(other),
    }
    at + 2
}

/// Appends a value.
pub(super) fn write(value: &str, options: &Options, out: &mut Vec<u8>) {
    for &byte in value.as_bytes() {
        let letter = match byte {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            b'\\' => b'\\',
            delimiter if delimiter == options.delimiter => delimiter,
            plain => {
                out.push(plain);
                continue;
            }
        };
        out.extend([b'\\', letter]);
    }
}

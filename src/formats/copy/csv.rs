//! CSV: values between commas, quoted where they must be.

use crate::error::Error;
use crate::error::Result;
use crate::formats::copy::END;
use crate::formats::copy::Options;
use crate::formats::copy::is_set;
use crate::formats::copy::read::Fields;

/// Cuts a record into values.
pub(super) fn split(record: &[u8], options: &Options, fields: &mut Fields) -> Result<()> {
    let mut at = 0;
    loop {
        let (raw, begin) = (at, fields.begin());
        let mut was_quoted = false;
        while at < record.len() && record[at] != options.delimiter {
            if record[at] == options.quote {
                was_quoted = true;
                at = quoted(record, at + 1, options, &mut fields.data)?;
            } else {
                fields.data.push(record[at]);
                at += 1;
            }
        }
        let column = fields.count();
        let null = match was_quoted {
            false => &record[raw..at] == options.null.as_bytes() && !is_set(&options.force_not_null, column),
            true => is_set(&options.force_null, column) && &fields.data[begin..] == options.null.as_bytes(),
        };
        fields.end(begin, null);
        if at == record.len() {
            return Ok(());
        }
        at += 1;
    }
}

/// Reads up to the closing quote; gives the place after it.
fn quoted(record: &[u8], mut at: usize, options: &Options, out: &mut Vec<u8>) -> Result<usize> {
    loop {
        let Some(&byte) = record.get(at) else {
            return Err(Error::bad_copy_format("unterminated CSV quoted field"));
        };
        let following = record.get(at + 1).copied();
        if byte == options.escape
            && let Some(escaped) = following.filter(|next| *next == options.escape || *next == options.quote)
        {
            out.push(escaped);
            at += 2;
            continue;
        }
        at += 1;
        if byte == options.quote {
            return Ok(at);
        }
        out.push(byte);
    }
}

/// Appends a value; `alone`: it is its row's only one.
pub(super) fn write(value: &str, forced: bool, alone: bool, options: &Options, out: &mut Vec<u8>) {
    let bytes = value.as_bytes();
    let special = |byte: &u8| [options.delimiter, options.quote, b'\n', b'\r'].contains(byte);
    let ends = alone && bytes == END;
    if !forced && !ends && value != options.null && !bytes.iter().any(special) {
        out.extend_from_slice(bytes);
        return;
    }
    out.push(options.quote);
    for &byte in bytes {
        if byte == options.quote || byte == options.escape {
            out.push(options.escape);
        }
        out.push(byte);
    }
    out.push(options.quote);
}

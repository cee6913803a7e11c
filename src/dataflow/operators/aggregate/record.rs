//! The disk format of aggregate state: numbers in as few bytes as hold them, behind a version byte.
//!
//! ```text
//! group:    version, weight, then what each call's accumulators hold, in the order of the calls
//! multiset: version, a count for each filter
//! ```
//! Integers are zigzag varints, so that the many small ones take a byte each.

use crate::error::Error;
use crate::error::Result;

/// The first byte of every record.
const VERSION: u8 = 1;

/// Begins a record.
pub(in crate::dataflow::operators) fn put_version(out: &mut Vec<u8>) {
    out.push(VERSION);
}

/// Checks the first byte of a record and moves past it.
pub(in crate::dataflow::operators) fn take_version(bytes: &mut &[u8]) -> Result<()> {
    match take(bytes, 1)?[0] {
        VERSION => Ok(()),
        other => Err(Error::corrupted(format!("aggregate state has the unknown version {other}"))),
    }
}

/// Writes an integer.
pub(in crate::dataflow::operators) fn put_integer(out: &mut Vec<u8>, value: i128) {
    let mut zigzag = ((value << 1) ^ (value >> 127)) as u128;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// Reads what [`put_integer`] wrote and moves past it.
pub(super) fn take_integer(bytes: &mut &[u8]) -> Result<i128> {
    let mut zigzag: u128 = 0;
    for shift in (0..128).step_by(7) {
        let byte = take(bytes, 1)?[0];
        zigzag |= ((byte & 0x7f) as u128) << shift;
        if byte & 0x80 == 0 {
            return Ok((zigzag >> 1) as i128 ^ -((zigzag & 1) as i128));
        }
    }
    Err(damaged())
}

/// Reads an integer of 64 bits.
pub(in crate::dataflow::operators) fn take_long(bytes: &mut &[u8]) -> Result<i64> {
    i64::try_from(take_integer(bytes)?).map_err(|_| damaged())
}

/// Writes bytes behind their length; `None` as well.
pub(super) fn put_bytes(out: &mut Vec<u8>, value: Option<&[u8]>) {
    put_integer(out, value.map_or(-1, |bytes| bytes.len() as i128));
    out.extend_from_slice(value.unwrap_or_default());
}

/// Reads what [`put_bytes`] wrote and moves past it.
pub(super) fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>> {
    match take_integer(bytes)? {
        -1 => Ok(None),
        length => take(bytes, usize::try_from(length).map_err(|_| damaged())?).map(Some),
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or_else(damaged)?;
    *bytes = rest;
    Ok(taken)
}

fn damaged() -> Error {
    Error::corrupted("stored aggregate is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_survive() {
        for value in [0, 1, -1, 63, -64, 64, i64::MAX as i128, i64::MIN as i128, i128::MAX, i128::MIN] {
            let mut bytes = Vec::new();
            put_integer(&mut bytes, value);
            let mut rest = bytes.as_slice();
            assert_eq!(take_integer(&mut rest).unwrap(), value);
            assert!(rest.is_empty());
            assert!(take_integer(&mut &bytes[..bytes.len() - 1]).is_err());
        }
        assert!(take_integer(&mut [0xff; 40].as_slice()).is_err());
    }

    #[test]
    fn bytes_survive() {
        let mut bytes = Vec::new();
        put_version(&mut bytes);
        put_bytes(&mut bytes, None);
        put_bytes(&mut bytes, Some(b""));
        put_bytes(&mut bytes, Some(b"abc"));
        assert_eq!(bytes, [1, 1, 0, 6, b'a', b'b', b'c']);
        let mut rest = bytes.as_slice();
        take_version(&mut rest).unwrap();
        assert_eq!(take_bytes(&mut rest).unwrap(), None);
        assert_eq!(take_bytes(&mut rest).unwrap(), Some(b"".as_slice()));
        assert_eq!(take_bytes(&mut rest).unwrap(), Some(b"abc".as_slice()));
        assert!(take_version(&mut [9].as_slice()).is_err());
    }
}

//! What is wrong with `E'...'`: the tokenizer calls every string with escapes that it cannot make sense of unterminated.

use crate::error::Error;
use crate::types::text::not_utf8;

/// Escapes in hexadecimal of 16 and of 32 bits.
const HINT: &str = "Unicode escapes must be \\uXXXX or \\UXXXXXXXX.";

/// Why a text that begins with `E'` is no string, as Postgres says it.
pub fn fault(text: &str) -> Error {
    match unescape(text) {
        Err(error) => error,
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(_) => Error::unsupported("bytes beyond ASCII as \\x or \\ooo in a string are not supported")
                .hint("Write the character itself, or \\uXXXX."),
            Err(error) => invalid(&error.as_bytes()[error.utf8_error().valid_up_to()..]),
        },
    }
}

/// The bytes of the string that begins here.
fn unescape(text: &str) -> Result<Vec<u8>, Error> {
    let mut rest = text.get(2..).unwrap_or_default().chars();
    let mut bytes = Vec::new();
    // The first half of a pair of \u escapes.
    let mut high = None;
    loop {
        let plain = match rest.next() {
            None => return Err(Error::syntax("unterminated quoted string")),
            Some('\'') if rest.as_str().starts_with('\'') => rest.next(),
            Some('\'') if high.is_some() => return Err(surrogate()),
            Some('\'') => return Ok(bytes),
            Some('\\') => None,
            plain => plain,
        };
        if let Some(plain) = plain {
            high.map_or(Ok(()), |_| Err(surrogate()))?;
            bytes.extend(plain.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        let escape = rest.next().ok_or_else(|| Error::syntax("unterminated quoted string"))?;
        if let 'u' | 'U' = escape {
            let value = digits(&mut rest, 16, if escape == 'u' { 4 } else { 8 }, true)
                .ok_or_else(|| Error::invalid_escape("invalid Unicode escape").hint(HINT))?;
            let value = match (high.take(), value) {
                (None, 0xd800..0xdc00) => {
                    high = Some(value);
                    continue;
                }
                (Some(high), 0xdc00..0xe000) => 0x1_0000 + ((high - 0xd800) << 10) + (value - 0xdc00),
                (Some(_), _) | (None, 0xdc00..0xe000) => return Err(surrogate()),
                (None, value) => value,
            };
            let c = char::from_u32(value).filter(|c| *c != '\0');
            let c = c.ok_or_else(|| Error::syntax("invalid Unicode escape value"))?;
            bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        high.map_or(Ok(()), |_| Err(surrogate()))?;
        let byte = match escape {
            'x' => digits(&mut rest, 16, 2, false),
            '0'..='7' => {
                rest = text[text.len() - rest.as_str().len() - 1..].chars();
                digits(&mut rest, 8, 3, false)
            }
            _ => None,
        };
        match byte.map(|byte| byte as u8) {
            Some(0) => return Err(invalid(&[0])),
            Some(byte) => bytes.push(byte),
            None => bytes.extend(escape.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
}

/// Up to so many digits, at least one; with `all`, just so many.
fn digits(rest: &mut std::str::Chars<'_>, radix: u32, count: usize, all: bool) -> Option<u32> {
    let (mut value, mut taken) = (0u32, 0);
    while taken < count
        && let Some(digit) = rest.as_str().chars().next().and_then(|c| c.to_digit(radix))
    {
        value = value * radix + digit;
        rest.next();
        taken += 1;
    }
    (if all { taken == count } else { taken > 0 }).then_some(value)
}

fn surrogate() -> Error {
    Error::syntax("invalid Unicode surrogate pair").hint(HINT)
}

fn invalid(bytes: &[u8]) -> Error {
    not_utf8(bytes).hint("Write characters as themselves or as \\uXXXX; a bytea is written '\\xff'.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_told_as_postgres_tells_it() {
        for (text, expected) in [
            (r"E'\xff'", "22021 invalid byte sequence for encoding \"UTF8\": 0xff"),
            (r"E'\xc3'", "22021 invalid byte sequence for encoding \"UTF8\": 0xc3"),
            (r"E'abc\xe2\x82 def'", "22021 invalid byte sequence for encoding \"UTF8\": 0xe2 0x82 0x20"),
            (r"E'\377'", "22021 invalid byte sequence for encoding \"UTF8\": 0xff"),
            (r"E'\400'", "22021 invalid byte sequence for encoding \"UTF8\": 0x00"),
            (r"E'a\0'", "22021 invalid byte sequence for encoding \"UTF8\": 0x00"),
            (r"E'\u00zz'", "22025 invalid Unicode escape"),
            (r"E'\U0001'", "22025 invalid Unicode escape"),
            (r"E'\ud800'", "42601 invalid Unicode surrogate pair"),
            (r"E'\ud800x'", "42601 invalid Unicode surrogate pair"),
            (r"E'\udc00'", "42601 invalid Unicode surrogate pair"),
            (r"E'\U00110000'", "42601 invalid Unicode escape value"),
            (r"E'\xc3\xa9'", "0A000 bytes beyond ASCII as \\x or \\ooo in a string are not supported"),
            (r"E'\303\251'", "0A000 bytes beyond ASCII as \\x or \\ooo in a string are not supported"),
            (r"E'\ud83d\ude00 ''", "42601 unterminated quoted string"),
            (r"E'abc\", "42601 unterminated quoted string"),
            ("E", "42601 unterminated quoted string"),
        ] {
            let error = fault(text);
            assert_eq!(format!("{} {}", error.kind.sqlstate(), error.message), expected, "{text}");
        }
    }
}

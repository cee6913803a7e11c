//! JSON syntax (RFC 8259), strictly: where in a text the fields of an object lie, and what kind of value each is. Nothing is
//! copied and nothing converted; what nobody asked for is only passed over, but still checked.

/// How deeply values may be nested.
const DEPTH_MAX: usize = 128;

/// A value as it lies in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) kind: Kind,
    /// Where its text begins; for a string, after the quote.
    pub(super) start: u32,
    /// Where it ends; for a string, before the quote.
    pub(super) end: u32,
}

/// The kinds of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    True,
    False,
    Number,
    /// A string without any escape.
    Plain,
    /// A string with escapes; [`unescape`] resolves them.
    Escaped,
    /// An object or array.
    Nested,
}

/// Why a text is no JSON object.
pub(super) type Reason = String;

impl Value {
    /// The value of a field that is not there.
    pub(super) const NULL: Value = Value { kind: Kind::Null, start: 0, end: 0 };

    /// Its text.
    pub(super) fn text(self, json: &str) -> &str {
        &json[self.start as usize..self.end as usize]
    }
}

/// The names of the fields of the text before, as they lay in it: `"name":`. Most texts of a source are alike, and what is
/// found again needs no look at its single bytes.
#[derive(Default)]
pub(super) struct Shape {
    names: Vec<Vec<u8>>,
}

/// So many fields are remembered.
const NAMES_MAX: usize = 256;

/// Walks over the one object that `json` must be, and calls `field(nth, name, value)` for each of its fields, in order. The
/// name is `None` where it is that of the `nth` field of the text before.
pub(super) fn object(
    json: &str,
    shape: &mut Shape,
    mut field: impl FnMut(usize, Option<Value>, Value),
) -> Result<(), Reason> {
    if json.len() > u32::MAX as usize {
        return Err("the text is too long".into());
    }
    let mut scanner = Scanner { bytes: json.as_bytes(), at: 0 };
    scanner.blanks();
    if scanner.peek() != Some(b'{') {
        return Err(match scanner.peek() {
            None => "the text is empty".into(),
            Some(_) => "a JSON object was expected".into(),
        });
    }
    scanner.fields(shape, &mut field)?;
    scanner.blanks();
    match scanner.peek() {
        None => Ok(()),
        Some(_) => Err(format!("text after the object, at byte {}", scanner.at)),
    }
}

/// The text of an escaped string. `Err` for half of a surrogate pair, and for `\u0000`, which no SQL text can hold.
pub(super) fn unescape(raw: &str) -> Result<String, Reason> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = rest.as_bytes()[at + 1];
        rest = &rest[at + 2..];
        out.push(match escape {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'u' => {
                let (c, after) = code_point(rest)?;
                rest = after;
                c
            }
            quoted => quoted as char,
        });
    }
    out.push_str(rest);
    Ok(out)
}

/// The character that `hex...` after `\u` stands for, and what follows it.
fn code_point(hex: &str) -> Result<(char, &str), Reason> {
    let unit = |hex: &str| u32::from_str_radix(&hex[..4], 16).expect("the scanner saw four hex digits");
    let (mut code, mut rest) = (unit(hex), &hex[4..]);
    if (0xd800..0xdc00).contains(&code)
        && let Some(low) = rest.strip_prefix("\\u")
        && (0xdc00..0xe000).contains(&unit(low))
    {
        code = 0x10000 + ((code - 0xd800) << 10) + (unit(low) - 0xdc00);
        rest = &low[4..];
    }
    match char::from_u32(code) {
        Some('\0') => Err("a text cannot hold \\u0000".into()),
        Some(c) => Ok((c, rest)),
        None => Err(format!("\\u{code:04x} is half of a surrogate pair")),
    }
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn broken(&self, expected: &str) -> Reason {
        match self.peek() {
            None => format!("the text ends where {expected} was expected"),
            Some(_) => format!("{expected} was expected at byte {}", self.at),
        }
    }

    fn expect(&mut self, byte: u8, name: &str) -> Result<(), Reason> {
        if self.peek() != Some(byte) {
            return Err(self.broken(name));
        }
        self.at += 1;
        Ok(())
    }

    /// The object that is the text.
    fn fields(&mut self, shape: &mut Shape, field: &mut impl FnMut(usize, Option<Value>, Value)) -> Result<(), Reason> {
        let mut nth = 0;
        while self.next(b'}', nth == 0)? {
            let start = self.at;
            let name = match shape.names.get(nth) {
                Some(name) if self.bytes[start..].starts_with(name) => {
                    self.at += name.len();
                    None
                }
                _ => Some(self.name()?),
            };
            let end = self.at;
            self.blanks();
            let value = self.value(1)?;
            if name.is_some() && nth < NAMES_MAX {
                shape.names.truncate(nth);
                shape.names.push(self.bytes[start..end].to_vec());
            }
            field(nth, name, value);
            nth += 1;
        }
        Ok(())
    }

    /// A field's name and its colon.
    fn name(&mut self) -> Result<Value, Reason> {
        if self.peek() != Some(b'"') {
            return Err(self.broken("a field name"));
        }
        let name = self.string()?;
        self.blanks();
        self.expect(b':', "\":\"")?;
        Ok(name)
    }

    /// The object inside another value that begins here.
    fn members(&mut self, depth: usize) -> Result<(), Reason> {
        let mut first = true;
        while self.next(b'}', first)? {
            self.name()?;
            self.blanks();
            self.value(depth + 1)?;
            first = false;
        }
        Ok(())
    }

    /// The array that begins here.
    fn items(&mut self, depth: usize) -> Result<(), Reason> {
        let mut first = true;
        while self.next(b']', first)? {
            self.value(depth + 1)?;
            first = false;
        }
        Ok(())
    }

    /// Goes on to the next part of an object or array, at whose opening or after whose last part this is; `false` at its end,
    /// which is passed.
    fn next(&mut self, close: u8, first: bool) -> Result<bool, Reason> {
        if first {
            self.at += 1;
        }
        self.blanks();
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                return Ok(false);
            }
            Some(b',') if !first => self.at += 1,
            _ if first => return Ok(true),
            _ if close == b'}' => return Err(self.broken("\",\" or \"}\"")),
            _ => return Err(self.broken("\",\" or \"]\"")),
        }
        self.blanks();
        Ok(true)
    }

    fn value(&mut self, depth: usize) -> Result<Value, Reason> {
        if depth > DEPTH_MAX {
            return Err(format!("values are nested more than {DEPTH_MAX} deep"));
        }
        let start = self.at;
        let kind = match self.peek() {
            Some(b'"') => return self.string(),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b'{') => {
                self.members(depth)?;
                Kind::Nested
            }
            Some(b'[') => {
                self.items(depth)?;
                Kind::Nested
            }
            Some(b't') => self.literal("true", Kind::True)?,
            Some(b'f') => self.literal("false", Kind::False)?,
            Some(b'n') => self.literal("null", Kind::Null)?,
            _ => return Err(self.broken("a value")),
        };
        Ok(Value { kind, start: start as u32, end: self.at as u32 })
    }

    fn literal(&mut self, word: &str, kind: Kind) -> Result<Kind, Reason> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.broken("a value"));
        }
        self.at += word.len();
        Ok(kind)
    }

    fn number(&mut self) -> Result<Kind, Reason> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Kind::Number)
    }

    fn digits(&mut self) -> Result<(), Reason> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(self.broken("a digit")) } else { Ok(()) }
    }

    /// The string whose opening quote is here.
    fn string(&mut self) -> Result<Value, Reason> {
        self.at += 1;
        let start = self.at as u32;
        let mut kind = Kind::Plain;
        loop {
            self.at += ordinary(&self.bytes[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Value { kind, start, end: self.at as u32 - 1 });
                }
                Some(b'\\') => {
                    kind = Kind::Escaped;
                    self.at += 1;
                    self.escape()?;
                }
                Some(_) => return Err(format!("a control character in a string, at byte {}", self.at)),
                None => return Err(self.broken("the end of a string")),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<(), Reason> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let hex = self.bytes.get(self.at + 1..self.at + 5);
                if !hex.is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(self.broken("\\u and four hex digits"));
                }
                self.at += 5;
            }
            _ => return Err(self.broken("an escape")),
        }
        Ok(())
    }
}

/// How many bytes of a string lie before its next quote, backslash or control character. Eight at a time: a byte of the
/// sum is marked when it is below 0x20 or, by exclusive or with the byte sought, zero ("Bit Twiddling Hacks", S. Anderson).
fn ordinary(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGHS;
    let (words, rest) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = below(word ^ (ONES * b'"' as u64), 1);
        let backslash = below(word ^ (ONES * b'\\' as u64), 1);
        let marks = below(word, 0x20) | quote | backslash;
        if marks != 0 {
            return i * 8 + marks.trailing_zeros() as usize / 8;
        }
    }
    let special = |b: &u8| *b < 0x20 || *b == b'"' || *b == b'\\';
    words.len() * 8 + rest.iter().position(special).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name=text` of each field, or why not.
    fn scan(json: &str) -> Result<String, Reason> {
        let (mut shape, mut names) = (Shape::default(), Vec::new());
        let scanned = scan_after(json, &mut shape, &mut names);
        // The same once more, now that its names are known.
        assert_eq!(scan_after(json, &mut shape, &mut names), scanned);
        scanned
    }

    /// The same after another text with this shape and these names.
    fn scan_after(json: &str, shape: &mut Shape, names: &mut Vec<String>) -> Result<String, Reason> {
        let mut found = Vec::new();
        object(json, shape, |nth, name, value| {
            if let Some(name) = name {
                names.truncate(nth);
                names.push(name.text(json).to_string());
            }
            found.push(format!("{}={}", names[nth], value.text(json)));
        })?;
        Ok(found.join(";"))
    }

    #[test]
    fn fields_are_found_where_they_lie() {
        assert_eq!(scan(" { } ").unwrap(), "");
        assert_eq!(
            scan(r#"{"a":1,"b" : "x\"y" ,"c":[1,{"d":[]}],"e":null}"#).unwrap(),
            r#"a=1;b=x\"y;c=[1,{"d":[]}];e=null"#
        );
    }

    #[test]
    fn texts_of_other_shapes_follow_each_other() {
        let (mut shape, mut names) = (Shape::default(), Vec::new());
        let mut next = |json: &str| scan_after(json, &mut shape, &mut names);
        assert_eq!(next(r#"{"a":1,"b":2,"c":3}"#).unwrap(), "a=1;b=2;c=3");
        assert_eq!(next(r#"{"a":4,"bb":5,"c":6}"#).unwrap(), "a=4;bb=5;c=6");
        assert_eq!(next(r#"{"a":4}"#).unwrap(), "a=4");
        assert_eq!(next(r#"{"b":7,"bb":8,"c":9,"d":1}"#).unwrap(), "b=7;bb=8;c=9;d=1");
        assert_eq!(next(r#"{"b" : 7, "bb": 8, "c":9, "d":1}"#).unwrap(), "b=7;bb=8;c=9;d=1");
        assert!(next(r#"{"b":7,"x":,"c":9}"#).is_err());
        assert_eq!(next(r#"{"b":7,"x":6,"c":9}"#).unwrap(), "b=7;x=6;c=9");
    }

    /// serde_json, which is strict, must agree on what is an object; it stops at depth 128 as well.
    #[test]
    fn accepts_what_serde_accepts() {
        let seed =
            r#"{"a":-1.5e+3,"b":"x\u00e9\n","c":[true,false,null,{}],"d":{"e":"é"},"f":0,"long":"0123456789abcdef\\"}"#;
        let bytes = b"{}[]\",:\\0-.eE+tu \n\x01x\xc3";
        let mut checked = 0;
        for at in 0..seed.len() {
            for with in bytes {
                let mut mutants = vec![seed.as_bytes().to_vec(); 3];
                mutants[0][at] = *with;
                mutants[1].insert(at, *with);
                mutants[2].truncate(at);
                for mutant in mutants {
                    let Ok(text) = std::str::from_utf8(&mutant) else { continue };
                    let judge = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text);
                    let lone = judge.as_ref().is_err_and(|e| {
                        let e = e.to_string();
                        e.contains("surrogate") || e.contains("number out of range")
                    });
                    assert!(lone || judge.is_ok() == scan(text).is_ok(), "{text}: {judge:?} {:?}", scan(text));
                    checked += 1;
                }
            }
        }
        assert!(checked > 4000);
    }

    #[test]
    fn depth_is_limited() {
        let nest = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
        assert!(scan(&nest(100)).is_ok());
        assert_eq!(scan(&nest(100_000)).unwrap_err(), "values are nested more than 128 deep");
    }

    #[test]
    fn escapes_are_resolved() {
        assert_eq!(unescape(r#"a\n\t\"\\\/\u00e9\ud83d\ude00b"#).unwrap(), "a\n\t\"\\/é😀b");
        for bad in [r"\u0000", r"\ud83d", r"\ude00x", r"\ud83dA"] {
            assert!(unescape(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_special_byte_is_found_at_every_place() {
        for at in 0..40 {
            for special in [b'"', b'\\', 0x1f, 0] {
                let mut bytes = vec![0xc3; 48];
                bytes[at] = special;
                assert_eq!(ordinary(&bytes), at);
            }
        }
        assert_eq!(ordinary(" ~\u{7f}é!#[]".as_bytes()), " ~\u{7f}é!#[]".len());
    }
}

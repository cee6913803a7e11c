//! Where things are in a text: the parser counts in lines and columns, clients in characters, slices in bytes.

use sqlparser::tokenizer::{Location, Span};

/// A text with its lines found.
pub struct Text<'a> {
    /// The text.
    text: &'a str,
    /// Where each line begins, in bytes and in characters.
    lines: Vec<(usize, usize)>,
}

impl<'a> Text<'a> {
    /// Finds the lines of a text.
    pub fn new(text: &'a str) -> Text<'a> {
        let mut lines = vec![(0, 0)];
        for (chars, (bytes, c)) in text.char_indices().enumerate() {
            if c == '\n' {
                lines.push((bytes + 1, chars + 1));
            }
        }
        Text { text, lines }
    }

    /// The place of a location, in characters from 0; the end of the text for one that is not in it.
    pub fn chars(&self, location: Location) -> usize {
        self.find(location).1
    }

    /// The place of a location, in bytes from 0.
    pub fn bytes(&self, location: Location) -> usize {
        self.find(location).0
    }

    /// The place behind the last character.
    pub fn end(&self) -> Location {
        let (bytes, _) = self.lines[self.lines.len() - 1];
        Location::new(self.lines.len() as u64, self.text[bytes..].chars().count() as u64 + 1)
    }

    /// The 1-based position of a span's beginning, as errors carry it.
    pub fn position(&self, span: Span) -> Option<usize> {
        (span.start.line > 0).then(|| self.chars(span.start) + 1)
    }

    /// The text between two locations.
    pub fn slice(&self, from: Location, to: Location) -> &'a str {
        let (from, to) = (self.bytes(from), self.bytes(to));
        &self.text[from..to.max(from)]
    }

    fn find(&self, location: Location) -> (usize, usize) {
        let columns = (location.column as usize).saturating_sub(1);
        let line = (location.line as usize).checked_sub(1).and_then(|line| self.lines.get(line));
        let Some((bytes, chars)) = line else { return (self.text.len(), self.text.chars().count()) };
        let rest = &self.text[*bytes..];
        let mut passed = 0;
        for (at, _) in rest.char_indices() {
            if passed == columns {
                return (bytes + at, chars + passed);
            }
            passed += 1;
        }
        (self.text.len(), chars + passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_found_in_characters_and_bytes() {
        let text = Text::new("aé\nßx y");
        assert_eq!(text.chars(Location::new(2, 2)), 4);
        assert_eq!(text.bytes(Location::new(2, 2)), 6);
        assert_eq!(text.slice(Location::new(1, 2), Location::new(2, 2)), "é\nß");
        assert_eq!(text.chars(Location::new(9, 1)), 7);
    }
}

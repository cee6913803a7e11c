//! What our own rules share: the parser with its text, and small rules for names and lists.

use sqlparser::ast::{Ident, ObjectName};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use crate::error::Error;
use crate::sql::dialect::is_word;
use crate::sql::parse::ast::Snippet;
use crate::sql::parse::text::Text;

/// Why a rule failed: the parser's complaint, or one of ours.
pub enum Fault {
    Parser(ParserError),
    Error(Box<Error>),
}

impl From<ParserError> for Fault {
    fn from(error: ParserError) -> Fault {
        Fault::Parser(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Error(error.into())
    }
}

/// What a rule gives.
pub type Parse<T> = std::result::Result<T, Fault>;

/// The rules, over one statement.
pub struct Grammar<'a> {
    /// The parser, standing where the next rule begins.
    pub parser: Parser<'a>,
    /// The statement's text.
    pub text: &'a Text<'a>,
    /// Where the statement ends, before `EMIT ...` and comments.
    pub end: Location,
    /// The `EMIT ...` cut from the statement's end, until a rule takes it.
    pub emit: Option<Vec<TokenWithSpan>>,
}

impl Grammar<'_> {
    /// Where the next token begins.
    pub fn mark(&self) -> Location {
        self.parser.peek_token_ref().span.start
    }

    /// The 1-based position of the next token, in characters.
    pub fn position(&self) -> usize {
        self.text.chars(self.mark()) + 1
    }

    /// The text from a mark to the end of the last token taken.
    pub fn since(&self, mark: Location) -> Snippet {
        let text = self.text.slice(mark, self.parser.get_current_token().span.end);
        Snippet { text: text.to_string(), offset: self.text.chars(mark) }
    }

    /// The text from a mark to another, without the blanks at its end.
    pub fn until(&self, mark: Location, end: Location) -> Snippet {
        let text = self.text.slice(mark, end).trim_end();
        Snippet { text: text.to_string(), offset: self.text.chars(mark) }
    }

    /// Takes this unquoted word, a keyword of the parser or not.
    pub fn word(&mut self, word: &str) -> bool {
        let found = is_word(&self.parser.peek_token_ref().token, word);
        if found {
            self.parser.advance_token();
        }
        found
    }

    /// Whether this unquoted word comes next.
    pub fn is_next(&self, word: &str) -> bool {
        is_word(&self.parser.peek_token_ref().token, word)
    }

    /// Takes these words or none of them.
    pub fn words(&mut self, words: &[&str]) -> bool {
        let found = words.iter().enumerate().all(|(n, word)| is_word(&self.parser.peek_nth_token_ref(n).token, word));
        if found {
            words.iter().for_each(|_| self.parser.advance_token());
        }
        found
    }

    /// Takes this word or fails.
    pub fn expect(&mut self, word: &str) -> Parse<()> {
        if self.word(word) { Ok(()) } else { self.unexpected(word) }
    }

    /// Fails at the next token.
    pub fn unexpected<T>(&mut self, expected: &str) -> Parse<T> {
        Ok(self.parser.expected_ref(expected, self.parser.peek_token_ref())?)
    }

    /// A name with its schema, if it has one.
    pub fn name(&mut self) -> Parse<ObjectName> {
        Ok(self.parser.parse_object_name(false)?)
    }

    /// An identifier, folded.
    pub fn identifier(&mut self) -> Parse<String> {
        Ok(folded(&self.parser.parse_identifier()?))
    }

    /// `IF NOT EXISTS`.
    pub fn if_not_exists(&mut self) -> bool {
        self.parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS])
    }

    /// `IF EXISTS`.
    pub fn if_exists(&mut self) -> bool {
        self.parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS])
    }

    /// One or more of a rule, separated by commas.
    pub fn list<T>(&mut self, mut rule: impl FnMut(&mut Self) -> Parse<T>) -> Parse<Vec<T>> {
        let mut items = vec![rule(self)?];
        while self.parser.consume_token(&Token::Comma) {
            items.push(rule(self)?);
        }
        Ok(items)
    }

    /// A list in parentheses.
    pub fn parenthesized<T>(&mut self, rule: impl FnMut(&mut Self) -> Parse<T>) -> Parse<Vec<T>> {
        self.parser.expect_token(&Token::LParen)?;
        let items = self.list(rule)?;
        self.parser.expect_token(&Token::RParen)?;
        Ok(items)
    }
}

/// The name that an identifier means: lower case unless it was quoted.
pub fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

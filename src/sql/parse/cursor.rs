//! `DECLARE`, `FETCH`, `MOVE` and `CLOSE`.

use sqlparser::tokenizer::Token;

use crate::error::Error;
use crate::sql::bound::{Direction, Fetch};
use crate::sql::options::Options;
use crate::sql::parse::ast::{Declare, Statement};
use crate::sql::parse::grammar::{Grammar, Parse};

impl Grammar<'_> {
    /// What follows DECLARE.
    pub fn declare(&mut self) -> Parse<Statement> {
        let name = self.identifier()?;
        let (mut binary, mut scroll) = (false, None);
        loop {
            if self.word("binary") {
                binary = true;
            } else if self.word("scroll") {
                scroll = Some(self.position());
            } else if !self.words(&["no", "scroll"]) && !self.word("insensitive") && !self.word("asensitive") {
                break;
            }
        }
        let position = self.position();
        if self.words(&["subscription", "cursor"]) {
            let error = Error::unsupported("DECLARE ... SUBSCRIPTION CURSOR is not supported").at(position);
            return Err(error.hint("Write DECLARE name CURSOR WITH HOLD FOR SUBSCRIBE subscription.").into());
        }
        self.expect("cursor")?;
        let hold = self.words(&["with", "hold"]);
        if !hold {
            self.words(&["without", "hold"]);
        }
        self.expect("for")?;
        let query = Box::new(self.row_statement()?);
        if let (Some(position), Statement::Subscribe(_)) = (scroll, &*query) {
            let error = Error::unsupported("a subscription cannot have a SCROLL cursor").at(position);
            return Err(error.hint("Changes go forward only: leave SCROLL out.").into());
        }
        Ok(Statement::Declare(Declare { name, binary, hold, scroll: scroll.is_some(), query }))
    }

    /// A statement that gives rows one after the other, with nothing else to it: what a cursor can be for.
    pub fn row_statement(&mut self) -> Parse<Statement> {
        match self.word("subscribe") {
            true => self.subscribe(),
            false if self.starts_query(0) => self.query(),
            false => self.unexpected("a query"),
        }
    }

    /// What follows FETCH or MOVE.
    pub fn fetch(&mut self, moves: bool) -> Parse<Statement> {
        let direction = self.direction()?;
        if !self.word("from") {
            self.word("in");
        }
        let cursor = self.identifier()?;
        let mut timeout_ms = None;
        if self.word("with") {
            let mut options = Options::new(&self.options()?);
            timeout_ms = options.duration_ms("timeout")?;
            options.finish()?;
        }
        Ok(Statement::Fetch(Fetch { cursor, direction, moves, timeout_ms }))
    }

    fn direction(&mut self) -> Parse<Direction> {
        let ones = [("next", Direction::Rows(1)), ("prior", Direction::Rows(-1)), ("all", Direction::All)];
        let ends = [("first", Direction::Absolute(1)), ("last", Direction::Absolute(-1))];
        for (word, direction) in ones.into_iter().chain(ends) {
            if self.word(word) {
                return Ok(direction);
            }
        }
        for (word, to) in [("absolute", Direction::Absolute as fn(i64) -> Direction), ("relative", Direction::Relative)]
        {
            if self.word(word) {
                let Some(number) = self.row_count()? else { return self.unexpected("a number of rows") };
                return Ok(to(number));
            }
        }
        let back = self.word("backward");
        if (back || self.word("forward")) && self.word("all") {
            return Ok(if back { Direction::AllBack } else { Direction::All });
        }
        let count = self.row_count()?.unwrap_or(1);
        Ok(Direction::Rows(if back { count.saturating_neg() } else { count }))
    }

    /// A number of rows, if there is one.
    fn row_count(&mut self) -> Parse<Option<i64>> {
        let negative = self.parser.consume_token(&Token::Minus);
        let token = self.parser.peek_token();
        match &token.token {
            Token::Number(number, _) => {
                let Ok(count) = number.parse::<i64>() else { return self.unexpected("a number of rows") };
                self.parser.advance_token();
                Ok(Some(if negative { -count } else { count }))
            }
            _ if negative => self.unexpected("a number of rows"),
            _ => Ok(None),
        }
    }

    /// What follows CLOSE.
    pub fn close(&mut self) -> Parse<Statement> {
        Ok(Statement::Close(if self.word("all") { None } else { Some(self.identifier()?) }))
    }
}

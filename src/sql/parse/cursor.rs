//! `DECLARE`, `FETCH`, `MOVE` and `CLOSE`.

use sqlparser::tokenizer::Token;

use crate::error::Error;
use crate::sql::bound::Fetch;
use crate::sql::options::Options;
use crate::sql::parse::ast::{Declare, Statement};
use crate::sql::parse::grammar::{Grammar, Parse};

impl Grammar<'_> {
    /// What follows DECLARE.
    pub fn declare(&mut self) -> Parse<Statement> {
        let name = self.identifier()?;
        let mut binary = false;
        loop {
            let position = self.position();
            if self.word("binary") {
                binary = true;
            } else if self.word("scroll") {
                let error = Error::unsupported("SCROLL cursors are not supported").at(position);
                return Err(error.hint("A cursor goes forward only: leave SCROLL out.").into());
            } else if !self.words(&["no", "scroll"]) && !self.word("insensitive") && !self.word("asensitive") {
                break;
            }
        }
        self.expect("cursor")?;
        let hold = self.words(&["with", "hold"]);
        if !hold {
            self.words(&["without", "hold"]);
        }
        self.expect("for")?;
        let query = Box::new(self.row_statement()?);
        Ok(Statement::Declare(Declare { name, binary, hold, query }))
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
        let position = self.position();
        let count = self.direction()?;
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
        match count {
            Direction::Forward(count) => Ok(Statement::Fetch(Fetch { cursor, count, moves, timeout_ms })),
            Direction::Other => Err(Error::not_ready("cursor can only scan forward")
                .at(position)
                .hint("FETCH takes NEXT, FORWARD, ALL or a number of rows.")
                .into()),
        }
    }

    fn direction(&mut self) -> Parse<Direction> {
        let forward = self.word("forward");
        if self.word("all") {
            return Ok(Direction::Forward(None));
        }
        if !forward && self.word("next") {
            return Ok(Direction::Forward(Some(1)));
        }
        for word in ["prior", "first", "last"] {
            if !forward && self.word(word) {
                return Ok(Direction::Other);
            }
        }
        for word in ["backward", "absolute", "relative"] {
            if !forward && self.word(word) {
                if !self.word("all") {
                    self.row_count()?;
                }
                return Ok(Direction::Other);
            }
        }
        Ok(match self.row_count()? {
            None => Direction::Forward(Some(1)),
            Some(count) => match u64::try_from(count) {
                Ok(count) if count > 0 => Direction::Forward(Some(count)),
                Ok(_) | Err(_) => Direction::Other,
            },
        })
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

/// Where FETCH goes.
enum Direction {
    /// So many rows on; `None`: all of them.
    Forward(Option<u64>),
    /// Anywhere else.
    Other,
}

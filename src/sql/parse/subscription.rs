//! `CREATE SUBSCRIPTION` and `ALTER SUBSCRIPTION`.

use sqlparser::keywords::Keyword;

use crate::error::Error;
use crate::sql::parse::ast::{Advance, CreateSubscription, Statement};
use crate::sql::parse::grammar::{Grammar, Parse};

impl Grammar<'_> {
    /// What follows CREATE SUBSCRIPTION.
    pub(super) fn create_subscription(&mut self) -> Parse<Statement> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        self.parser.expect_keyword(Keyword::FROM)?;
        let from = self.name()?;
        let options = if self.parser.parse_keyword(Keyword::WITH) { self.options()? } else { Vec::new() };
        Ok(Statement::CreateSubscription(Box::new(CreateSubscription { name, if_not_exists, from, options })))
    }

    /// What follows ALTER, which stands at this position.
    pub(super) fn alter(&mut self, position: usize) -> Parse<Statement> {
        if !self.word("subscription") {
            let error = Error::unsupported("ALTER is not supported").at(position);
            return Err(error.hint("Only ALTER SUBSCRIPTION name ADVANCE TO epoch is.").into());
        }
        let name = self.name()?;
        self.expect("advance")?;
        self.expect("to")?;
        let to = match self.word("latest") {
            true => None,
            false => Some(self.epoch("ADVANCE TO takes the number of an epoch, or LATEST")?),
        };
        Ok(Statement::Advance(Advance { name, to }))
    }
}

//! `SUBSCRIBE [TO] relation | (query) [WITH (snapshot, progress)] [AS OF epoch]`.

use sqlparser::tokenizer::Token;

use crate::error::Error;
use crate::sql::parse::ast::{AsOf, OptionValue, Statement, Subscribe, SubscribeTarget};
use crate::sql::parse::grammar::{Grammar, Parse};

impl Grammar<'_> {
    pub(super) fn subscribe(&mut self) -> Parse<Statement> {
        self.word("to");
        let target = if self.parser.consume_token(&Token::LParen) {
            let query = self.parser.parse_query()?;
            self.parser.expect_token(&Token::RParen)?;
            SubscribeTarget::Query(query)
        } else {
            SubscribeTarget::Relation(self.name()?)
        };
        let options = if self.word("with") { self.parenthesized(Self::switch)? } else { Vec::new() };
        let as_of = if self.words(&["as", "of"]) { Some(self.as_of()?) } else { None };
        Ok(Statement::Subscribe(Box::new(Subscribe { target, options, as_of })))
    }

    /// `key [= value]`: an option that is only named is on.
    fn switch(&mut self) -> Parse<OptionValue> {
        let position = self.position();
        let key = self.identifier()?;
        let has_value = self.parser.consume_token(&Token::Eq)
            || !matches!(self.parser.peek_token_ref().token, Token::Comma | Token::RParen);
        let mark = self.mark();
        let value = if has_value { self.option_value()? } else { "true".to_string() };
        Ok(OptionValue { key, value, written: self.since(mark), position })
    }

    fn as_of(&mut self) -> Parse<AsOf> {
        self.epoch("AS OF takes the number of an epoch")
    }

    /// The number of an epoch; what else there is fails with this message.
    pub(super) fn epoch(&mut self, message: &str) -> Parse<AsOf> {
        let position = self.position();
        let token = self.parser.next_token();
        let epoch = match &token.token {
            Token::Number(number, _) | Token::SingleQuotedString(number) => number.parse().ok(),
            _ => None,
        };
        let wrong = || Error::syntax(message).at(position).hint("It is the column ms_epoch of the changes received.");
        Ok(AsOf { epoch: epoch.ok_or_else(wrong)?, position })
    }
}

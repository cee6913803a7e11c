//! `COPY`, with its options in today's spelling and in that of old.

use sqlparser::tokenizer::Token;

use crate::error::Error;
use crate::sql::parse::ast::{Copied, Copy, CopyOption, CopyValue, Statement};
use crate::sql::parse::grammar::{Grammar, Parse};

impl Grammar<'_> {
    /// What follows COPY.
    pub fn copy(&mut self) -> Parse<Statement> {
        let mut options = Vec::new();
        let position = self.position();
        if self.word("binary") {
            options.push(CopyOption { name: "format".into(), value: CopyValue::Text("binary".into()), position });
        }
        let what = if self.parser.consume_token(&Token::LParen) {
            let statement = Box::new(self.copied_statement()?);
            self.parser.expect_token(&Token::RParen)?;
            Copied::Statement(statement)
        } else {
            let name = self.name()?;
            let listed = self.parser.peek_token_ref().token == Token::LParen;
            let columns = if listed { self.parenthesized(|g| Ok(g.parser.parse_identifier()?))? } else { Vec::new() };
            Copied::Table { name, columns }
        };
        let from = matches!(what, Copied::Table { .. }) && self.word("from");
        if !from {
            self.expect("to")?;
        }
        let position = self.position();
        if !self.word(if from { "stdin" } else { "stdout" }) {
            if matches!(self.parser.peek_token_ref().token, Token::SingleQuotedString(_)) || self.word("program") {
                let error = Error::unsupported("COPY with files of the server or programs is not supported");
                let hint = "Use STDIN and STDOUT; psql's \\copy does that with files of the client.";
                return Err(error.at(position).hint(hint).into());
            }
            return self.unexpected(if from { "STDIN" } else { "STDOUT" });
        }
        let with = self.word("with");
        if self.parser.peek_token_ref().token == Token::LParen {
            options.extend(self.parenthesized(Self::copy_option)?);
        } else {
            self.old_copy_options(with, &mut options)?;
        }
        let position = self.position();
        if from && self.word("where") {
            let error = Error::unsupported("COPY FROM ... WHERE is not supported").at(position);
            return Err(error.hint("Copy into another table, and INSERT ... SELECT from it.").into());
        }
        let copy = Copy { what, options };
        Ok(if from { Statement::CopyFrom(Box::new(copy)) } else { Statement::CopyTo(Box::new(copy)) })
    }

    /// What COPY (...) TO takes: a statement that gives rows, DML with RETURNING among them.
    fn copied_statement(&mut self) -> Parse<Statement> {
        if ["insert", "update", "delete"].iter().any(|word| self.is_next(word)) {
            return self.statement();
        }
        self.row_statement()
    }

    /// `name [value]`, as between the parentheses of today.
    fn copy_option(&mut self) -> Parse<CopyOption> {
        let position = self.position();
        let name = self.identifier()?;
        let token = self.parser.peek_token();
        let value = match &token.token {
            Token::Comma | Token::RParen => return Ok(CopyOption { name, value: CopyValue::None, position }),
            Token::LParen => {
                let columns = self.parenthesized(|g| Ok(g.parser.parse_identifier()?))?;
                return Ok(CopyOption { name, value: CopyValue::Columns(columns), position });
            }
            Token::Mul => CopyValue::All,
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => CopyValue::Text(text.clone()),
            Token::Number(text, _) => CopyValue::Text(text.clone()),
            Token::Word(word) if word.quote_style.is_none() => CopyValue::Text(word.value.to_lowercase()),
            Token::Word(word) => CopyValue::Text(word.value.clone()),
            _ => return self.unexpected("an option's value"),
        };
        self.parser.advance_token();
        Ok(CopyOption { name, value, position })
    }

    /// `DELIMITER ',' CSV HEADER`, as before PostgreSQL 9.0, and as people still write it.
    fn old_copy_options(&mut self, with: bool, options: &mut Vec<CopyOption>) -> Parse<()> {
        let before = options.len();
        loop {
            let position = self.position();
            let (name, value) = if self.word("csv") {
                ("format", CopyValue::Text("csv".into()))
            } else if self.word("binary") {
                ("format", CopyValue::Text("binary".into()))
            } else if self.word("header") {
                ("header", CopyValue::None)
            } else if self.words(&["force", "quote"]) {
                let all = self.parser.consume_token(&Token::Mul);
                ("force_quote", if all { CopyValue::All } else { CopyValue::Columns(self.copy_columns()?) })
            } else if self.words(&["force", "not", "null"]) {
                ("force_not_null", CopyValue::Columns(self.copy_columns()?))
            } else if self.words(&["force", "null"]) {
                ("force_null", CopyValue::Columns(self.copy_columns()?))
            } else if let Some(name) =
                ["delimiter", "null", "quote", "escape", "encoding"].into_iter().find(|w| self.word(w))
            {
                self.word("as");
                (name, CopyValue::Text(self.parser.parse_literal_string()?))
            } else {
                break;
            };
            options.push(CopyOption { name: name.into(), value, position });
        }
        if with && options.len() == before {
            return self.unexpected("an option of COPY");
        }
        Ok(())
    }

    fn copy_columns(&mut self) -> Parse<Vec<sqlparser::ast::Ident>> {
        self.list(|g| Ok(g.parser.parse_identifier()?))
    }
}

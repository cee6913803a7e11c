//! Which statement it is, by its first words.

use sqlparser::ast;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use crate::error::Error;
use crate::sql::bound::TransactionStatement;
use crate::sql::dialect::{is_word, keyword};
use crate::sql::parse::ast::{Drop, DropKind, Statement};
use crate::sql::parse::grammar::{Grammar, Parse};

/// What Postgres knows in `EXPLAIN (...)`; only ANALYZE makes a difference here.
const EXPLAIN_OPTIONS: [&str; 9] =
    ["analyze", "verbose", "costs", "settings", "buffers", "wal", "timing", "summary", "format"];

/// The first words of Postgres' statements that there are none of here.
const UNSUPPORTED: [&str; 18] = [
    "analyze",
    "call",
    "checkpoint",
    "cluster",
    "comment",
    "do",
    "grant",
    "import",
    "load",
    "lock",
    "merge",
    "reassign",
    "refresh",
    "reindex",
    "revoke",
    "security",
    "vacuum",
    "kill",
];

impl Grammar<'_> {
    /// One whole statement.
    pub fn statement(&mut self) -> Parse<Statement> {
        let first = self.parser.peek_token();
        match keyword(&first.token) {
            Keyword::SELECT | Keyword::WITH | Keyword::VALUES | Keyword::TABLE => return self.query(),
            Keyword::INSERT | Keyword::UPDATE | Keyword::DELETE => return self.dml(),
            _ => {}
        }
        if first.token == Token::LParen {
            return self.query();
        }
        let position = self.position();
        let Token::Word(word) = &first.token else { return self.unexpected("a statement") };
        let word = if word.quote_style.is_none() { word.value.to_lowercase() } else { String::new() };
        self.parser.advance_token();
        match word.as_str() {
            "create" => self.create(),
            "drop" => self.drop(),
            "alter" => self.alter(position),
            "truncate" => self.truncate(),
            "subscribe" => self.subscribe(),
            "flush" => Ok(Statement::Flush),
            "explain" => self.explain(),
            "begin" => {
                if !self.word("work") {
                    self.word("transaction");
                }
                self.begin("BEGIN")
            }
            "start" => {
                self.expect("transaction")?;
                self.begin("START TRANSACTION")
            }
            "commit" | "end" => self.commit(),
            "rollback" | "abort" => self.rollback(),
            "savepoint" => Ok(Statement::Transaction(TransactionStatement::Savepoint(self.identifier()?))),
            "release" => self.release(),
            "set" => self.set(),
            "show" => self.show(),
            "reset" => self.reset(),
            "prepare" => self.prepare(),
            "execute" => self.execute(),
            "deallocate" => self.deallocate(),
            "discard" => self.discard(),
            "declare" => self.declare(),
            "fetch" => self.fetch(false),
            "move" => self.fetch(true),
            "close" => self.close(),
            "describe" | "desc" => self.describe(),
            "copy" => self.copy(),
            "listen" | "unlisten" | "notify" => self.nothing(&word),
            word if UNSUPPORTED.contains(&word) => {
                Err(Error::unsupported(format!("{} is not supported", word.to_uppercase())).at(position).into())
            }
            _ => {
                self.parser.prev_token();
                self.unexpected("a statement")
            }
        }
    }

    /// A query.
    pub(super) fn query(&mut self) -> Parse<Statement> {
        Ok(Statement::Query(self.parser.parse_query()?))
    }

    fn dml(&mut self) -> Parse<Statement> {
        let position = self.position();
        match self.parser.parse_statement()? {
            ast::Statement::Insert(insert) => Ok(Statement::Insert(Box::new(insert))),
            ast::Statement::Update(update) => Ok(Statement::Update(Box::new(update))),
            ast::Statement::Delete(delete) => Ok(Statement::Delete(Box::new(delete))),
            _ => Err(Error::unsupported("this form of statement is not supported").at(position).into()),
        }
    }

    fn truncate(&mut self) -> Parse<Statement> {
        self.word("table");
        let tables = self.list(|g| {
            g.word("only");
            let name = g.name()?;
            let _every_descendant = g.parser.consume_token(&Token::Mul);
            Ok(name)
        })?;
        if !self.words(&["restart", "identity"]) {
            self.words(&["continue", "identity"]);
        }
        if !self.word("cascade") {
            self.word("restrict");
        }
        Ok(Statement::Truncate(tables))
    }

    fn drop(&mut self) -> Parse<Statement> {
        let position = self.position();
        if self.word("schema") {
            let if_exists = self.if_exists();
            let names = self.list(|g| Ok(g.parser.parse_identifier()?))?;
            let cascade = self.word("cascade");
            if !cascade {
                self.word("restrict");
            }
            return Ok(Statement::DropSchema { names, if_exists, cascade });
        }
        let kind = if self.words(&["materialized", "view"]) {
            DropKind::MaterializedView
        } else if self.word("view") {
            DropKind::View
        } else if self.word("table") {
            DropKind::Table
        } else if self.word("source") {
            DropKind::Source
        } else if self.word("sink") {
            DropKind::Sink
        } else if self.word("subscription") {
            DropKind::Subscription
        } else {
            let token = self.parser.peek_token();
            return match &token.token {
                Token::Word(word) if word.keyword != Keyword::NoKeyword => {
                    let message = format!("DROP {} is not supported", word.value.to_uppercase());
                    Err(Error::unsupported(message).at(position).into())
                }
                _ => self.unexpected("TABLE, SOURCE, VIEW, MATERIALIZED VIEW, SINK or SUBSCRIPTION"),
            };
        };
        let if_exists = self.if_exists();
        let names = self.list(Self::name)?;
        let cascade = self.word("cascade");
        if !cascade {
            self.word("restrict");
        }
        Ok(Statement::Drop(Drop { kind, if_exists, names, cascade }))
    }

    fn explain(&mut self) -> Parse<Statement> {
        let mut analyze = false;
        if self.parser.peek_token_ref().token == Token::LParen && !self.starts_query(1) {
            for option in self.parser.parse_utility_options()? {
                let off = option.arg.as_ref().is_some_and(|arg| is_off(&arg.to_string()));
                let name = option.name.value.to_ascii_lowercase().replace("analyse", "analyze");
                if !EXPLAIN_OPTIONS.contains(&name.as_str()) {
                    let error = Error::syntax(format!("unrecognized EXPLAIN option \"{name}\""));
                    let error = Error { position: self.text.position(option.name.span), ..error };
                    return Err(error.hint(format!("The options are {}.", EXPLAIN_OPTIONS.join(", "))).into());
                }
                analyze |= name == "analyze" && !off;
            }
        } else {
            analyze = self.word("analyze");
            self.word("verbose");
        }
        if self.words(&["materialized", "view"]) || self.word("sink") {
            return Ok(Statement::ExplainView { name: self.name()?, analyze });
        }
        if !self.starts_query(0) {
            let error = Error::unsupported("EXPLAIN of this statement is not supported").at(self.position());
            return Err(error
                .hint(
                    "EXPLAIN takes a query, EXPLAIN MATERIALIZED VIEW the name of a view, EXPLAIN SINK that of a sink.",
                )
                .into());
        }
        Ok(Statement::Explain { query: self.parser.parse_query()?, analyze })
    }

    /// Whether a query begins at the `nth` token from here.
    pub(super) fn starts_query(&self, nth: usize) -> bool {
        let token = &self.parser.peek_nth_token_ref(nth).token;
        *token == Token::LParen || ["select", "with", "values", "table"].iter().any(|word| is_word(token, word))
    }

    fn prepare(&mut self) -> Parse<Statement> {
        let name = self.identifier()?;
        let has_types = self.parser.peek_token_ref().token == Token::LParen;
        let types = if has_types { self.parenthesized(|g| Ok(g.parser.parse_data_type()?))? } else { Vec::new() };
        self.parser.expect_keyword(Keyword::AS)?;
        let mark = self.mark();
        let position = self.position();
        match self.statement()? {
            Statement::Query(_) | Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) => {}
            _ => return Err(Error::syntax("this statement cannot be prepared").at(position).into()),
        }
        Ok(Statement::Prepare { name, types, statement: self.since(mark).text })
    }

    fn execute(&mut self) -> Parse<Statement> {
        let name = self.identifier()?;
        let has_arguments = self.parser.peek_token_ref().token == Token::LParen;
        let arguments =
            if has_arguments { self.parenthesized(|g| Ok(Parser::parse_expr(&mut g.parser)?))? } else { Vec::new() };
        Ok(Statement::Execute { name, arguments })
    }

    fn deallocate(&mut self) -> Parse<Statement> {
        self.word("prepare");
        let name = if self.word("all") { None } else { Some(self.identifier()?) };
        Ok(Statement::Deallocate(name))
    }

    fn discard(&mut self) -> Parse<Statement> {
        if self.word("all") {
            return Ok(Statement::DiscardAll);
        }
        for (word, tag) in [("plans", "DISCARD PLANS"), ("sequences", "DISCARD SEQUENCES"), ("temp", "DISCARD TEMP")] {
            if self.word(word) {
                return Ok(Statement::Nothing { tag, notice: None });
            }
        }
        self.unexpected("ALL, PLANS, SEQUENCES or TEMP")
    }

    /// LISTEN and its kin: there is nobody to notify.
    fn nothing(&mut self, word: &str) -> Parse<Statement> {
        if word != "unlisten" || !self.parser.consume_token(&Token::Mul) {
            self.identifier()?;
        }
        if word == "notify" && self.parser.consume_token(&Token::Comma) {
            self.parser.parse_literal_string()?;
        }
        let tag = match word {
            "listen" => "LISTEN",
            "unlisten" => "UNLISTEN",
            _ => "NOTIFY",
        };
        Ok(Statement::Nothing { tag, notice: None })
    }
}

fn is_off(value: &str) -> bool {
    ["off", "false", "0"].contains(&value.to_lowercase().as_str())
}

//! `SET`, `SHOW`, `RESET`, and the transaction statements.

use sqlparser::ast::{TransactionAccessMode, TransactionIsolationLevel, TransactionMode};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;

use crate::error::Error;
use crate::sql::bound::{SettingStatement, TransactionStatement};
use crate::sql::parse::ast::Statement;
use crate::sql::parse::grammar::{Grammar, Parse};

impl Grammar<'_> {
    /// What follows SET.
    pub fn set(&mut self) -> Parse<Statement> {
        if self.words(&["session", "characteristics", "as", "transaction"]) {
            return self.set_transaction("default_transaction_isolation", "default_transaction_read_only", false);
        }
        let local = self.word("local");
        if !local {
            self.word("session");
        }
        if self.word("transaction") {
            return self.set_transaction("transaction_isolation", "transaction_read_only", true);
        }
        let name = self.setting_name()?;
        let assigned = self.parser.parse_keyword(Keyword::TO) || self.parser.consume_token(&Token::Eq);
        let name = match name.as_str() {
            "names" if !assigned => "client_encoding",
            "timezone" | "session_authorization" | "role" => &name,
            _ if assigned => &name,
            _ => return self.unexpected("TO or ="),
        };
        let value = self.setting_value()?;
        Ok(setting(name, value, local))
    }

    /// What follows SHOW.
    pub fn show(&mut self) -> Parse<Statement> {
        if self.word("all") {
            return Ok(Statement::Setting(SettingStatement::ShowAll));
        }
        if let Some(query) = self.show_objects()? {
            return Ok(query);
        }
        Ok(Statement::Setting(SettingStatement::Show(self.setting_name()?)))
    }

    /// What follows RESET.
    pub fn reset(&mut self) -> Parse<Statement> {
        let name = if self.word("all") { None } else { Some(self.setting_name()?) };
        Ok(Statement::Setting(SettingStatement::Reset(name)))
    }

    /// What follows BEGIN or START TRANSACTION.
    pub fn begin(&mut self, tag: &'static str) -> Parse<Statement> {
        let modes = self.parser.parse_transaction_modes()?;
        let read_only = modes.contains(&TransactionMode::AccessMode(TransactionAccessMode::ReadOnly));
        Ok(Statement::Transaction(TransactionStatement::Begin { read_only, tag }))
    }

    /// What follows COMMIT or END.
    pub fn commit(&mut self) -> Parse<Statement> {
        self.end_of_transaction()?;
        Ok(Statement::Transaction(TransactionStatement::Commit))
    }

    /// What follows ROLLBACK or ABORT.
    pub fn rollback(&mut self) -> Parse<Statement> {
        self.end_of_transaction()?;
        if self.word("to") {
            self.word("savepoint");
            return Ok(Statement::Transaction(TransactionStatement::RollbackTo(self.identifier()?)));
        }
        Ok(Statement::Transaction(TransactionStatement::Rollback))
    }

    /// What follows RELEASE.
    pub fn release(&mut self) -> Parse<Statement> {
        self.word("savepoint");
        Ok(Statement::Transaction(TransactionStatement::Release(self.identifier()?)))
    }

    fn end_of_transaction(&mut self) -> Parse<()> {
        if !self.word("work") {
            self.word("transaction");
        }
        let position = self.position();
        if self.words(&["and", "chain"]) {
            return Err(Error::unsupported("AND CHAIN is not supported").at(position).into());
        }
        self.words(&["and", "no", "chain"]);
        Ok(())
    }

    /// The modes of a transaction, as a setting. There is one level of isolation, so that READ ONLY is what matters.
    fn set_transaction(&mut self, isolation: &str, read_only: &str, local: bool) -> Parse<Statement> {
        let modes = self.parser.parse_transaction_modes()?;
        let mut statement = None;
        for mode in modes {
            let (name, value) = match mode {
                TransactionMode::AccessMode(TransactionAccessMode::ReadOnly) => (read_only, "on"),
                TransactionMode::AccessMode(TransactionAccessMode::ReadWrite) => (read_only, "off"),
                TransactionMode::IsolationLevel(_) if statement.is_some() => continue,
                TransactionMode::IsolationLevel(level) => (isolation, isolation_level(level)),
            };
            statement = Some(setting(name, Some(value.to_string()), local));
        }
        match statement {
            Some(statement) => Ok(statement),
            None => self.unexpected("a transaction mode"),
        }
    }

    /// The name of a setting, dotted or one of the spelled-out ones.
    fn setting_name(&mut self) -> Parse<String> {
        for (words, name) in [
            (&["time", "zone"][..], "timezone"),
            (&["transaction", "isolation", "level"], "transaction_isolation"),
            (&["session", "authorization"], "session_authorization"),
        ] {
            if self.words(words) {
                return Ok(name.to_string());
            }
        }
        let mut name = self.identifier()?;
        while self.parser.consume_token(&Token::Period) {
            name = format!("{name}.{}", self.identifier()?);
        }
        Ok(name.to_lowercase())
    }

    /// A setting's value; `None` for DEFAULT (and for `SET TIME ZONE LOCAL`).
    fn setting_value(&mut self) -> Parse<Option<String>> {
        if self.word("default") || self.word("local") {
            return Ok(None);
        }
        let values = self.list(Self::setting_item)?;
        Ok(Some(values.join(", ")))
    }

    fn setting_item(&mut self) -> Parse<String> {
        let sign = if self.parser.consume_token(&Token::Minus) { "-" } else { "" };
        let token = self.parser.peek_token();
        let value = match token.token {
            Token::Number(number, _) => format!("{sign}{number}"),
            Token::SingleQuotedString(value) | Token::EscapedStringLiteral(value) if sign.is_empty() => value,
            Token::Word(word) if sign.is_empty() && word.quote_style.is_some() => word.value,
            Token::Word(word) if sign.is_empty() => word.value.to_lowercase(),
            _ => return self.unexpected("a value"),
        };
        self.parser.advance_token();
        Ok(value)
    }
}

fn setting(name: &str, value: Option<String>, local: bool) -> Statement {
    Statement::Setting(SettingStatement::Set { name: name.to_string(), value, local })
}

fn isolation_level(level: TransactionIsolationLevel) -> &'static str {
    match level {
        TransactionIsolationLevel::ReadUncommitted => "read uncommitted",
        TransactionIsolationLevel::ReadCommitted => "read committed",
        TransactionIsolationLevel::RepeatableRead | TransactionIsolationLevel::Snapshot => "repeatable read",
        TransactionIsolationLevel::Serializable => "serializable",
    }
}

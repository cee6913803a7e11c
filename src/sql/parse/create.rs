//! `CREATE TABLE | SOURCE | VIEW | MATERIALIZED VIEW | SINK`; [`super::subscription`] has the rest of them.

use sqlparser::ast::{ColumnOption, Ident};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;

use crate::error::Error;
use crate::sql::dialect::is_word;
use crate::sql::parse::ast::{
    ColumnDefinition, CreateSink, CreateSource, CreateTable, CreateView, FormatClause, Include, OptionValue, Snippet,
    Statement, SubscribeTarget, WatermarkDefinition,
};
use crate::sql::parse::grammar::{Grammar, Parse};

/// What `INCLUDE` can name.
const INCLUDES: [&str; 6] = ["key", "partition", "offset", "timestamp", "headers", "file"];

/// What CREATE makes in Postgres or elsewhere, and not here.
const UNSUPPORTED: [&str; 16] = [
    "index",
    "unique",
    "connection",
    "secret",
    "database",
    "function",
    "sequence",
    "type",
    "role",
    "user",
    "extension",
    "trigger",
    "temporary",
    "temp",
    "unlogged",
    "domain",
];

/// A column list: the columns, the primary keys, the watermarks.
type Elements = (Vec<ColumnDefinition>, Vec<Vec<Ident>>, Vec<WatermarkDefinition>);

impl Grammar<'_> {
    /// What follows CREATE.
    pub fn create(&mut self) -> Parse<Statement> {
        let position = self.position();
        let or_replace = self.words(&["or", "replace"]);
        if self.words(&["materialized", "view"]) {
            let emit_final = self.emit();
            if or_replace {
                let error = Error::unsupported("CREATE OR REPLACE MATERIALIZED VIEW is not supported").at(position);
                return Err(error.hint("Drop the materialized view and create it again.").into());
            }
            return Ok(Statement::CreateMaterializedView(Box::new(CreateView {
                emit_final,
                ..self.create_view(false)?
            })));
        }
        if self.word("view") {
            return Ok(Statement::CreateView(Box::new(self.create_view(or_replace)?)));
        }
        if or_replace {
            return self.unexpected("VIEW");
        }
        if self.word("schema") {
            let if_not_exists = self.if_not_exists();
            let name = self.parser.parse_identifier()?;
            if self.word("authorization") {
                self.identifier()?;
            }
            return Ok(Statement::CreateSchema { name, if_not_exists });
        }
        if self.word("table") {
            return self.create_table();
        }
        if self.word("source") {
            return self.create_source();
        }
        if self.word("sink") {
            return self.create_sink();
        }
        if self.word("subscription") {
            return self.create_subscription();
        }
        for what in UNSUPPORTED {
            if is_word(&self.parser.peek_token_ref().token, what) {
                let message = format!("CREATE {} is not supported", what.to_uppercase());
                return Err(Error::unsupported(message).at(position).into());
            }
        }
        self.unexpected("TABLE, SOURCE, VIEW, MATERIALIZED VIEW, SINK or SUBSCRIPTION")
    }

    fn create_table(&mut self) -> Parse<Statement> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        if is_word(&self.parser.peek_token_ref().token, "as") {
            let error = Error::unsupported("CREATE TABLE AS is not supported").at(self.position());
            return Err(error.hint("Create the table with its columns, then INSERT the query's rows.").into());
        }
        // Only a connector that knows its columns can do without.
        let has_columns = !self.parser.peek_keyword(Keyword::WITH);
        let (columns, primary_keys, watermarks) = if has_columns { self.elements()? } else { Default::default() };
        let (mut append_only, mut includes, mut options) = (false, Vec::new(), Vec::new());
        loop {
            if self.words(&["append", "only"]) {
                append_only = true;
            } else if self.parser.parse_keyword(Keyword::INCLUDE) {
                includes.append(&mut self.list(Self::include)?);
            } else if options.is_empty() && self.parser.parse_keyword(Keyword::WITH) {
                options = self.options()?;
            } else {
                break;
            }
        }
        let format = self.format()?;
        let table = CreateTable {
            name,
            if_not_exists,
            columns,
            primary_keys,
            watermarks,
            append_only,
            includes,
            options,
            format,
        };
        Ok(Statement::CreateTable(Box::new(table)))
    }

    fn create_source(&mut self) -> Parse<Statement> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        let has_columns = self.parser.peek_token_ref().token == Token::LParen;
        let (columns, primary_keys, watermarks) = if has_columns { self.elements()? } else { Default::default() };
        let mut includes = Vec::new();
        while self.parser.parse_keyword(Keyword::INCLUDE) {
            includes.append(&mut self.list(Self::include)?);
        }
        let options = if self.parser.parse_keyword(Keyword::WITH) { self.options()? } else { Vec::new() };
        let format = self.format()?;
        let source = CreateSource { name, if_not_exists, columns, primary_keys, watermarks, includes, options, format };
        Ok(Statement::CreateSource(Box::new(source)))
    }

    fn create_sink(&mut self) -> Parse<Statement> {
        // They were written at the end: see `dialect::options_first`.
        let options = if self.parser.parse_keyword(Keyword::WITH) { self.options()? } else { Vec::new() };
        let emit_final = self.emit();
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        let from = if self.parser.parse_keyword(Keyword::FROM) {
            SubscribeTarget::Relation(self.name()?)
        } else if self.parser.parse_keyword(Keyword::AS) {
            SubscribeTarget::Query(self.parser.parse_query()?)
        } else {
            return self.unexpected("FROM or AS");
        };
        Ok(Statement::CreateSink(Box::new(CreateSink { name, if_not_exists, from, options, emit_final })))
    }

    fn create_view(&mut self, or_replace: bool) -> Parse<CreateView> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        let has_columns = self.parser.peek_token_ref().token == Token::LParen;
        let columns = if has_columns { self.parenthesized(|g| Ok(g.parser.parse_identifier()?))? } else { Vec::new() };
        let options = if self.parser.parse_keyword(Keyword::WITH) { self.options()? } else { Vec::new() };
        self.parser.expect_keyword(Keyword::AS)?;
        let mark = self.mark();
        let query = self.parser.parse_query()?;
        // Not to the last token taken: the wrapping of a window function may have been folded away behind it.
        let end = self.parser.peek_token_ref();
        let text = match end.token == Token::EOF {
            true => self.until(mark, self.end),
            false => self.until(mark, end.span.start),
        };
        self.words(&["with", "data"]);
        Ok(CreateView { name, or_replace, if_not_exists, columns, options, emit_final: false, query, text })
    }

    /// Whether the statement ends with `EMIT ON WINDOW CLOSE` or `EMIT FINAL`; `EMIT CHANGES` is what is done without.
    fn emit(&mut self) -> bool {
        self.emit.take().is_some_and(|emit| !is_word(&emit[1].token, "changes"))
    }

    /// The column list of a table or source.
    fn elements(&mut self) -> Parse<Elements> {
        let mut elements = Elements::default();
        if self.parser.consume_tokens(&[Token::LParen, Token::RParen]) {
            return Ok(elements);
        }
        self.parenthesized(|grammar| grammar.element(&mut elements))?;
        Ok(elements)
    }

    fn element(&mut self, elements: &mut Elements) -> Parse<()> {
        let position = self.position();
        if self.words(&["watermark", "for"]) {
            let column = self.parser.parse_identifier()?;
            self.parser.expect_keyword(Keyword::AS)?;
            elements.2.push(WatermarkDefinition { column, expression: self.expression()? });
            return Ok(());
        }
        let named = is_word(&self.parser.peek_token_ref().token, "constraint")
            && matches!(self.parser.peek_nth_token_ref(2).token, Token::Word(_));
        if named {
            self.parser.advance_token();
            self.parser.parse_identifier()?;
        }
        if self.words(&["primary", "key"]) {
            elements.1.push(self.parenthesized(|g| Ok(g.parser.parse_identifier()?))?);
            return Ok(());
        }
        for constraint in ["unique", "check", "foreign", "exclude", "like"] {
            let next = &self.parser.peek_token_ref().token;
            let after = &self.parser.peek_nth_token_ref(1).token;
            let is_constraint = matches!(after, Token::LParen) || is_word(after, "key") || constraint == "like";
            if is_word(next, constraint) && is_constraint {
                return Err(unsupported_constraint(constraint, position).into());
            }
        }
        self.column(elements)
    }

    fn column(&mut self, elements: &mut Elements) -> Parse<()> {
        let name = self.parser.parse_identifier()?;
        let type_position = self.position();
        let data_type = self.parser.parse_data_type()?;
        let mut column =
            ColumnDefinition { name, data_type, type_position, not_null: false, default: None, computed: None };
        loop {
            let position = self.position();
            if self.words(&["primary", "key"]) {
                elements.1.push(vec![column.name.clone()]);
            } else if self.words(&["not", "null"]) {
                column.not_null = true;
            } else if self.word("null") {
                continue;
            } else if self.parser.parse_keyword(Keyword::AS) {
                column.computed = Some(self.expression()?);
            } else if self.parser.peek_keyword(Keyword::DEFAULT) {
                let mark = self.parser.peek_nth_token(1).span.start;
                let option = self.parser.parse_optional_column_option()?;
                debug_assert!(matches!(option, Some(ColumnOption::Default(_))));
                column.default = Some(self.since(mark));
            } else if self.word("constraint") {
                self.parser.parse_identifier()?;
            } else if let Some(constraint) = ["unique", "check", "references", "generated", "collate"]
                .into_iter()
                .find(|word| is_word(&self.parser.peek_token_ref().token, word))
            {
                return Err(unsupported_constraint(constraint, position).into());
            } else {
                elements.0.push(column);
                return Ok(());
            }
        }
    }

    /// An expression that is kept as text.
    fn expression(&mut self) -> Parse<Snippet> {
        let mark = self.mark();
        self.parser.parse_expr()?;
        Ok(self.since(mark))
    }

    fn include(&mut self) -> Parse<Include> {
        let Some(what) = INCLUDES.into_iter().find(|what| self.word(what)) else {
            return self.unexpected("KEY, PARTITION, OFFSET, TIMESTAMP, HEADERS or FILE");
        };
        let name = if self.parser.parse_keyword(Keyword::AS) { Some(self.parser.parse_identifier()?) } else { None };
        // A key may be read as something else than bytes.
        let typed = what == "key" && name.is_some() && self.begins_type();
        let data_type = if typed { Some(self.parser.parse_data_type()?) } else { None };
        Ok(Include { what, name, data_type })
    }

    /// Whether the next word is a type's name rather than the next clause of a CREATE.
    fn begins_type(&self) -> bool {
        let next = &self.parser.peek_token_ref().token;
        let clause = ["include", "with", "format", "append"].iter().any(|word| is_word(next, word));
        matches!(next, Token::Word(_)) && !clause
    }

    /// `FORMAT f ENCODE e [(key = value, ...)]`.
    fn format(&mut self) -> Parse<Option<FormatClause>> {
        let position = self.position();
        if !self.word("format") {
            return Ok(None);
        }
        let format = self.identifier()?;
        self.expect("encode")?;
        let encode = self.identifier()?;
        let has_options = self.parser.peek_token_ref().token == Token::LParen;
        let options = if has_options { self.options()? } else { Vec::new() };
        Ok(Some(FormatClause { format, encode, options, position }))
    }

    /// `(key = value, ...)`: keys are dotted or quoted, values are strings, numbers or words.
    pub fn options(&mut self) -> Parse<Vec<OptionValue>> {
        let options = self.parenthesized(|grammar| {
            let position = grammar.position();
            let key = grammar.option_key()?;
            grammar.parser.expect_token(&Token::Eq)?;
            let mark = grammar.mark();
            Ok(OptionValue { key, value: grammar.option_value()?, written: grammar.since(mark), position })
        })?;
        for (n, option) in options.iter().enumerate() {
            if options[..n].iter().any(|earlier| earlier.key == option.key) {
                let message = format!("option \"{}\" is given more than once", option.key);
                return Err(Error::syntax(message).at(option.position).into());
            }
        }
        Ok(options)
    }

    fn option_key(&mut self) -> Parse<String> {
        if let Token::SingleQuotedString(key) = &self.parser.peek_token_ref().token {
            let key = key.clone();
            self.parser.advance_token();
            return Ok(key);
        }
        let mut key = String::new();
        loop {
            match &self.parser.peek_token_ref().token {
                Token::Word(word) => key.push_str(&word.value),
                _ => return self.unexpected("an option"),
            }
            self.parser.advance_token();
            if !self.parser.consume_token(&Token::Period) {
                return Ok(key);
            }
            key.push('.');
        }
    }

    pub(super) fn option_value(&mut self) -> Parse<String> {
        let sign = if self.parser.consume_token(&Token::Minus) { "-" } else { "" };
        let token = self.parser.peek_token();
        let value = match &token.token {
            Token::Number(number, _) => format!("{sign}{number}"),
            Token::SingleQuotedString(value) | Token::EscapedStringLiteral(value) if sign.is_empty() => value.clone(),
            Token::DollarQuotedString(value) if sign.is_empty() => value.value.clone(),
            Token::Word(word) if sign.is_empty() && word.quote_style.is_none() => word.value.to_lowercase(),
            _ => return self.unexpected("an option's value"),
        };
        self.parser.advance_token();
        Ok(value)
    }
}

fn unsupported_constraint(constraint: &str, position: usize) -> Error {
    let error = Error::unsupported(format!("{} is not supported in a column list", constraint.to_uppercase()));
    match constraint {
        "generated" => error.hint("Write a computed column of a source as \"name TYPE AS expression\"."),
        _ => error.hint("PRIMARY KEY, NOT NULL, DEFAULT and WATERMARK FOR are supported."),
    }
    .at(position)
}

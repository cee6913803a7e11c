//! `SHOW` of objects, and `DESCRIBE`: queries of the catalog in few words.

use crate::error::Error;
use crate::sql::parse::ast::Statement;
use crate::sql::parse::grammar::{Grammar, Parse, folded};
use crate::sql::parse::parse;

/// What can be listed: the words, and the kind in `ms_catalog.objects`.
const LISTED: [(&[&str], &str); 6] = [
    (&["tables"], "table"),
    (&["sources"], "source"),
    (&["views"], "view"),
    (&["materialized", "views"], "materialized view"),
    (&["sinks"], "sink"),
    (&["subscriptions"], "subscription"),
];

/// What can be shown as it was created.
const CREATED: [(&[&str], &str); 6] = [
    (&["table"], "table"),
    (&["source"], "source"),
    (&["view"], "view"),
    (&["materialized", "view"], "materialized view"),
    (&["sink"], "sink"),
    (&["subscription"], "subscription"),
];

impl Grammar<'_> {
    /// What follows SHOW, if it is about objects.
    pub fn show_objects(&mut self) -> Parse<Option<Statement>> {
        for (words, kind) in LISTED {
            if self.words(words) {
                return self.listed(kind).map(Some);
            }
        }
        if self.word("schemas") {
            let like = self.like("nspname")?;
            return query(&format!("SELECT nspname AS \"Name\" FROM pg_catalog.pg_namespace WHERE {like} ORDER BY 1"))
                .map(Some);
        }
        if self.word("databases") {
            return query("SELECT datname AS \"Name\" FROM pg_catalog.pg_database ORDER BY 1").map(Some);
        }
        if self.word("columns") {
            if !self.word("from") {
                self.expect("in")?;
            }
            return self.describe().map(Some);
        }
        if self.word("create") {
            for (words, kind) in CREATED {
                if self.words(words) {
                    return self.created(kind).map(Some);
                }
            }
            return self.unexpected("TABLE, SOURCE, VIEW, MATERIALIZED VIEW, SINK or SUBSCRIPTION");
        }
        Ok(None)
    }

    /// What follows DESCRIBE: a relation, whose columns are listed.
    pub fn describe(&mut self) -> Parse<Statement> {
        let relation = self.relation_literal()?;
        query(&format!(
            "SELECT attname AS \"Name\", pg_catalog.format_type(atttypid, atttypmod) AS \"Type\", \
             NOT attnotnull AS \"Nullable\" FROM pg_catalog.pg_attribute \
             WHERE attrelid = {relation}::pg_catalog.regclass AND attnum > 0 ORDER BY attnum"
        ))
    }

    fn listed(&mut self, kind: &str) -> Parse<Statement> {
        let schema =
            if self.word("from") || self.word("in") { literal(&self.identifier()?) } else { "current_schema()".into() };
        let like = self.like("name")?;
        query(&format!(
            "SELECT name AS \"Name\" FROM ms_catalog.objects \
             WHERE kind = '{kind}' AND schema_name = {schema} AND name NOT LIKE '%$errors' AND {like} ORDER BY 1"
        ))
    }

    fn created(&mut self, kind: &str) -> Parse<Statement> {
        let relation = self.relation_literal()?;
        query(&format!(
            "SELECT schema_name || '.' || name AS \"Name\", sql AS \"Create\" FROM ms_catalog.objects \
             WHERE id = {relation}::pg_catalog.regclass AND kind = '{kind}'"
        ))
    }

    /// `LIKE 'pattern'` as a condition on a column; none is true.
    fn like(&mut self, column: &str) -> Parse<String> {
        if self.word("like") {
            return Ok(format!("{column} LIKE {}", literal(&self.parser.parse_literal_string()?)));
        }
        Ok("true".into())
    }

    /// A relation's name as a literal that `regclass` takes.
    fn relation_literal(&mut self) -> Parse<String> {
        let name = self.name()?;
        let parts = name.0.iter().filter_map(|part| part.as_ident());
        let quoted: Vec<String> = parts.map(|part| quoted(&folded(part))).collect();
        Ok(literal(&quoted.join(".")))
    }
}

/// A name with quotes, where it would be another one without.
fn quoted(name: &str) -> String {
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let is_plain = begins && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_$".contains(c));
    if is_plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn query(text: &str) -> Parse<Statement> {
    let statement = parse(text)?.pop().map(|parsed| parsed.ast);
    Ok(statement.ok_or_else(|| Error::internal("the query of a SHOW is empty"))?)
}

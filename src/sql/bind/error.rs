//! DataFusion's complaints in Postgres' words, with SQLSTATE and place.

use std::ops::ControlFlow;

use datafusion::common::{Column, DataFusionError, SchemaError};
use sqlparser::ast::{Expr, ObjectName, Spanned, Visit, Visitor};
use sqlparser::tokenizer::Span;

use crate::error::{Error, Kind};
use crate::functions::from_datafusion;
use crate::sql::bind::names::parts;
use crate::sql::bind::output::shown;
use crate::sql::options::nearest;
use crate::sql::parse::grammar::folded;
use crate::sql::parse::text::Text;
use crate::sql::walk;

/// An error of the planner or of our own hooks in it.
pub fn convert(error: DataFusionError) -> Error {
    match error.find_root() {
        DataFusionError::SchemaError(cause, _) => schema_error(cause),
        DataFusionError::Plan(message) => plan_error(message),
        _ => from_datafusion(error),
    }
}

fn schema_error(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => missing_column(field, valid_fields),
        SchemaError::AmbiguousReference { field } => {
            Error::ambiguous(format!("column reference \"{}\" is ambiguous", shown(&field.name)))
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            Error::duplicate_column(format!("column \"{}\" specified more than once", shown(name)))
                .hint("Give the columns different names with AS.")
        }
    }
}

fn missing_column(field: &Column, valid: &[Column]) -> Error {
    let name = shown(&field.name);
    let Some(relation) = &field.relation else {
        let error = Error::undefined_column(format!("column \"{name}\" does not exist"));
        return match nearest(name, valid.iter().map(|c| c.name.as_str())) {
            Some(near) => error.hint(format!("Perhaps you meant to reference the column \"{near}\".")),
            None => error,
        };
    };
    let table = relation.table();
    let of_table = || valid.iter().filter(|c| c.relation.as_ref().is_some_and(|r| r.table() == table));
    if of_table().next().is_none() {
        return Error::undefined_table(format!("missing FROM-clause entry for table \"{table}\""));
    }
    let error = Error::undefined_column(format!("column {table}.{name} does not exist"));
    match nearest(name, of_table().map(|c| c.name.as_str())) {
        Some(near) => error.hint(format!("Perhaps you meant to reference the column \"{table}.{near}\".")),
        None => error,
    }
}

fn plan_error(message: &str) -> Error {
    if let Some(rest) = message.strip_prefix("Invalid function '") {
        let mut quoted = rest.split('\'');
        let name = quoted.next().unwrap_or_default();
        let error = Error::undefined_function(format!("function {name} does not exist"));
        return match quoted.nth(1).filter(|near| nearest(name, [*near]).is_some()) {
            Some(near) => error.hint(format!("Perhaps you meant {near}().")),
            None => error.hint("No function matches the given name."),
        };
    }
    if message.contains("must be in GROUP BY or an aggregate function") {
        let column = message.split("column \"").nth(1).and_then(|rest| rest.split("\" must").next()).unwrap_or("?");
        let message = format!(
            "column \"{}\" must appear in the GROUP BY clause or be used in an aggregate function",
            shown(column)
        );
        return Error::grouping(message);
    }
    if let Some(rest) = message.strip_prefix("HAVING clause references: ") {
        let column = rest.split(" must appear").next().unwrap_or(rest);
        return Error::grouping(format!(
            "column \"{}\" must appear in the GROUP BY clause or be used in an aggregate function",
            shown(column)
        ));
    }
    if message.starts_with("Cannot create filter with non-boolean predicate") {
        return Error::type_mismatch("argument of WHERE must be type boolean")
            .hint("Write a comparison, or cast it to boolean.");
    }
    if message.contains("ggregate functions are not allowed in the WHERE clause") {
        return Error::grouping("aggregate functions are not allowed in WHERE").hint("Consider using HAVING instead.");
    }
    let operators =
        ["Cannot coerce arithmetic expression", "Cannot infer common argument type", "Unsupported operation"];
    if operators.iter().any(|start| message.contains(start)) {
        return Error::undefined_function(format!("operator does not exist: {}", clean(message)))
            .hint("No operator matches the given argument types. You might need to add explicit type casts.");
    }
    if message.contains("No function matches the given name") || message.contains("Failed to coerce arguments") {
        let name = message.split('\'').nth(1).unwrap_or(message);
        return Error::undefined_function(format!("function {name} does not exist"))
            .hint("No function matches the given argument types. You might need to add explicit type casts.");
    }
    if message.contains("require unique expression names") {
        return Error::duplicate_column("the select list has the same column more than once")
            .hint("Name the columns one by one instead of with more than one *.");
    }
    if message.contains("Conflicting types for id") {
        return Error::indeterminate_type("inconsistent types deduced for a parameter")
            .hint("Cast the parameter where it is used.");
    }
    if message.contains("must have the same number of columns") || message.contains("different number of columns") {
        return Error::syntax("each UNION, INTERSECT or EXCEPT query must have the same number of columns");
    }
    Error::type_mismatch(clean(message))
}

/// A message of DataFusion's in our style: one line, lower case at its beginning, no period at its end.
fn clean(message: &str) -> String {
    let line = message.split('\n').next().unwrap_or_default().trim().trim_end_matches('.');
    let mut characters = line.chars();
    match (characters.next(), characters.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().chain(line.chars().skip(1)).collect()
        }
        _ => line.to_string(),
    }
    .replace('\u{1}', "")
}

/// The place that DataFusion noted with an error.
pub fn noted(error: &DataFusionError, text: &Text) -> Option<usize> {
    let start = error.diagnostic()?.span?.start;
    Some(text.chars(sqlparser::tokenizer::Location::new(start.line, start.column)) + 1)
}

/// Finds the place of an error that has none: where the name that its message tells stands in the statement.
pub fn locate<T: Visit>(mut error: Error, tree: &T, text: &Text) -> Error {
    if error.position.is_some() {
        return error;
    }
    let Some(name) = subject(&error) else { return error };
    let mut search = Search { kind: error.kind, name, found: None };
    let _ = walk::read(tree, &mut search);
    error.position = search.found.and_then(|span| text.position(span));
    error
}

/// The name that an error is about.
fn subject(error: &Error) -> Option<String> {
    let name = match error.kind {
        Kind::UndefinedTable | Kind::WrongObjectType | Kind::Ambiguous | Kind::Grouping | Kind::Unsupported => {
            error.message.split('"').nth(1).or_else(|| error.message.strip_prefix("function ")?.split("()").next())?
        }
        Kind::UndefinedColumn => match error.message.strip_prefix("column ")? {
            quoted if quoted.starts_with('"') => quoted.split('"').nth(1)?,
            bare => bare.split(" does not exist").next()?,
        },
        Kind::UndefinedFunction => error.message.strip_prefix("function ")?.split([' ', '(']).next()?,
        _ => return None,
    };
    Some(name.to_string())
}

/// Looks for the first place of a name.
struct Search {
    kind: Kind,
    name: String,
    found: Option<Span>,
}

impl Search {
    fn compare(&mut self, name: &[String], span: Span) -> ControlFlow<()> {
        let whole = name.join(".");
        let is_it = whole == self.name
            || name.last().is_some_and(|last| *last == self.name)
            || self.kind == Kind::UndefinedTable && name.len() > 1 && name[0] == self.name;
        if is_it && span != Span::empty() {
            self.found = Some(span);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

impl Visitor for Search {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        match self.kind {
            Kind::UndefinedTable | Kind::WrongObjectType | Kind::Unsupported => {
                self.compare(&parts(relation), relation.span())
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(ident) => self.compare(&[folded(ident)], ident.span),
            Expr::CompoundIdentifier(idents) => {
                let names: Vec<String> = idents.iter().map(folded).collect();
                self.compare(&names, expr.span())
            }
            Expr::Function(function) => match self.kind {
                Kind::UndefinedFunction | Kind::Unsupported => {
                    self.compare(&parts(&function.name), function.name.span())
                }
                _ => ControlFlow::Continue(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }
}

/// As [`locate`], among the names that a statement lists.
pub fn locate_name(mut error: Error, names: &[ObjectName], text: &Text) -> Error {
    if error.position.is_none()
        && let Some(subject) = subject(&error)
    {
        let named = |name: &&ObjectName| {
            let parts = parts(name);
            parts.join(".") == subject || parts.last() == Some(&subject)
        };
        error.position = names.iter().find(named).and_then(|name| text.position(name.span()));
    }
    error
}

//! DataFusion's complaints in Postgres' words, with SQLSTATE and place.

use std::ops::ControlFlow;

use datafusion::common::{Column, DataFusionError, SchemaError};
use sqlparser::ast::{Expr, ObjectName, Spanned, Visit, Visitor};
use sqlparser::tokenizer::Span;

use crate::error::{Error, Kind};
use crate::functions::define::{known, no_function_in};
use crate::functions::from_datafusion;
use crate::functions::operator::base_name;
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
        SchemaError::DuplicateQualifiedField { qualifier, .. } => {
            Error::duplicate_alias(format!("table name \"{}\" specified more than once", qualifier.table()))
                .hint("Give the tables different names with AS.")
        }
        SchemaError::DuplicateUnqualifiedField { name } => {
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
    if let Some(error) = clause_error(message).or_else(|| type_error(message)) {
        return error;
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

/// What is wrong with a clause.
fn clause_error(message: &str) -> Option<Error> {
    let grouping = |column: &str| {
        let column = shown(column_in(column));
        let message =
            format!("column \"{column}\" must appear in the GROUP BY clause or be used in an aggregate function");
        Error::grouping(message)
    };
    if message.contains("must be in GROUP BY or an aggregate function") {
        return Some(grouping(message.split("column \"").nth(1).and_then(|rest| rest.split("\" must").next())?));
    }
    if let Some(rest) = message.strip_prefix("HAVING clause references: ") {
        return Some(grouping(rest.split(" must appear").next()?));
    }
    if message.contains("ggregate functions are not allowed in the WHERE clause") {
        let error = Error::grouping("aggregate functions are not allowed in WHERE");
        return Some(error.hint("Consider using HAVING instead."));
    }
    let position = |clause: &str, number: &str| {
        Error::invalid_column_reference(format!("{clause} position {number} is not in select list"))
            .hint("A number counts the columns of the select list, from 1.")
    };
    if let Some(rest) = message.strip_prefix("Order by column out of bounds, specified: ") {
        return Some(position("ORDER BY", rest.split(',').next()?));
    }
    if let Some(rest) = message.strip_prefix("Cannot find column with position ") {
        return Some(position("GROUP BY", rest.split(' ').next()?));
    }
    if let Some(table) = message.strip_prefix("Invalid qualifier ") {
        return Some(Error::undefined_table(format!("missing FROM-clause entry for table \"{table}\"")));
    }
    if message.starts_with("SELECT * with no tables specified") {
        return Some(Error::syntax("SELECT * with no tables specified is not valid"));
    }
    let name = message.strip_prefix("Unsupported compound identifier '")?.split('\'').next()?;
    Some(Error::syntax(format!("improper qualified name (too many dotted names): {name}")))
}

/// What is wrong with a type.
fn type_error(message: &str) -> Option<Error> {
    let truth = |form: &str, ty: Option<&str>| {
        let ty = ty.and_then(sql_name).map_or(String::new(), |name| format!(", not type {name}"));
        Error::type_mismatch(format!("argument of {form} must be type boolean{ty}"))
            .hint("Write a comparison, or cast it to boolean.")
    };
    if message.starts_with("Cannot create filter with non-boolean predicate") {
        return Some(truth("WHERE", message.rsplit_once(" returning ").map(|(_, ty)| ty)));
    }
    if message.starts_with("Join condition must be boolean type") {
        return Some(truth("JOIN/ON", message.rsplit_once(" got ").map(|(_, ty)| ty)));
    }
    if let Some(rest) = message.strip_prefix("Unary operator 'NOT' requires a boolean expression") {
        return Some(truth("NOT", rest.rsplit_once(" got ").map(|(_, ty)| ty)));
    }
    if let Some(types) = message.strip_prefix("Cannot infer common argument type for logical boolean operation ") {
        let (form, (left, right)) =
            ["AND", "OR"].into_iter().find_map(|form| Some((form, types.split_once(&format!(" {form} "))?)))?;
        return Some(truth(form, Some(if left == "Boolean" { right } else { left })));
    }
    if let Some(ty) = message.strip_prefix("Expected LIMIT to be an integer or null, but got ") {
        let name = sql_name(ty)?;
        return Some(Error::type_mismatch(format!("argument of LIMIT must be type bigint, not type {name}")));
    }
    if message.starts_with("Unary operator '-' only supports") {
        let error = Error::undefined_function("operator does not exist: - before what is neither number nor interval");
        return Some(error.hint("You might need to add explicit type casts."));
    }
    let operators =
        ["Cannot coerce arithmetic expression", "Cannot infer common argument type", "Unsupported operation"];
    if operators.iter().any(|start| message.contains(start)) {
        return Some(
            Error::undefined_function(format!("operator does not exist: {}", clean(message)))
                .hint("No operator matches the given argument types. You might need to add explicit type casts."),
        );
    }
    no_function_in(message)
}

/// The SQL name of a type that DataFusion wrote.
fn sql_name(ty: &str) -> Option<String> {
    Some(base_name(&known(&ty.trim().parse().ok()?)?))
}

/// The first column in an expression that DataFusion wrote.
fn column_in(expression: &str) -> &str {
    let words = expression.split(|c: char| !(c.is_alphanumeric() || "_$.\u{1}".contains(c)));
    let is_column = |word: &&str| word.contains('.') && !word.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if expression.contains('(') { words.clone().find(is_column).unwrap_or(expression) } else { expression }
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

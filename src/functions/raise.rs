//! Our errors through DataFusion and back: what a function raises reaches the client as it was raised.

use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use datafusion::common::SchemaError;

use crate::error::Error;
use crate::functions::define::no_function_in;
use crate::functions::patterns;

/// An error of ours as DataFusion carries it.
pub fn raise(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The error that a client is to see: ours, if one lies at the bottom, else DataFusion's with the right SQLSTATE.
pub fn from_datafusion(error: DataFusionError) -> Error {
    match ours(&error) {
        Some(error) => error.clone(),
        None => translate(&error),
    }
}

/// Our error in the chain of causes.
fn ours(error: &DataFusionError) -> Option<&Error> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<Error>() {
            return Some(error);
        }
        cause = match error.downcast_ref::<DataFusionError>() {
            Some(DataFusionError::Shared(shared)) => Some(shared.as_ref()),
            Some(DataFusionError::External(external)) => Some(external.as_ref()),
            Some(DataFusionError::Collection(errors)) => errors.first().map(|first| first as &dyn std::error::Error),
            _ => match error.downcast_ref::<ArrowError>() {
                Some(ArrowError::ExternalError(external)) => Some(external.as_ref()),
                _ => error.source(),
            },
        };
    }
    None
}

fn translate(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => translate(inner),
        DataFusionError::Shared(inner) => translate(inner),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => translate(first),
            None => Error::internal("an empty collection of errors"),
        },
        DataFusionError::SchemaError(error, _) => schema_error(error),
        DataFusionError::ArrowError(error, _) => arrow_error(error),
        DataFusionError::SQL(error, _) => Error::syntax(clean(&error.to_string())),
        DataFusionError::Plan(message) => plan_error(message),
        DataFusionError::NotImplemented(message) => Error::unsupported(clean(message)),
        DataFusionError::ResourcesExhausted(message) => Error::out_of_memory(clean(message)),
        DataFusionError::Execution(message) => Error::invalid_parameter(clean(message)),
        DataFusionError::Internal(message) => Error::internal(clean(message)),
        DataFusionError::IoError(error) => Error::io(error.to_string()),
        other => {
            let message = other.strip_backtrace();
            match message.contains("regex parse error") {
                true => patterns::invalid(&message),
                false => Error::internal(clean(&message)),
            }
        }
    }
}

fn schema_error(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, .. } => {
            let name = match &field.relation {
                Some(relation) => format!("{}.{}", relation.table(), field.name),
                None => format!("\"{}\"", field.name),
            };
            Error::undefined_column(format!("column {name} does not exist"))
        }
        SchemaError::AmbiguousReference { field } => {
            Error::ambiguous(format!("column reference \"{}\" is ambiguous", field.name))
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            Error::duplicate_column(format!("column name \"{name}\" is not unique"))
        }
    }
}

fn arrow_error(error: &ArrowError) -> Error {
    match error {
        ArrowError::DivideByZero => Error::division_by_zero("division by zero"),
        ArrowError::ArithmeticOverflow(_) => Error::out_of_range("value out of range"),
        ArrowError::CastError(message) | ArrowError::ParseError(message) => Error::invalid_text(clean(message)),
        ArrowError::InvalidArgumentError(message) => Error::invalid_parameter(clean(message)),
        other => Error::internal(clean(&other.to_string())),
    }
}

/// DataFusion says in words what kind of planning error it is.
fn plan_error(message: &str) -> Error {
    let quoted = || message.split('\'').nth(1).unwrap_or_default().rsplit('.').next().unwrap_or_default().to_string();
    if message.starts_with("table '") && message.contains("not found") {
        return Error::undefined_table(format!("relation \"{}\" does not exist", quoted()));
    }
    if message.starts_with("Invalid function '") || message.contains("not found in the function registry") {
        return Error::undefined_function(format!("function {} does not exist", quoted()));
    }
    if let Some(error) = no_function_in(message) {
        return error;
    }
    if let Some(given) = message.strip_prefix("LIMIT must be >= 0") {
        return Error::invalid_limit("LIMIT must not be negative").detail(negative(given));
    }
    if let Some(given) = message.strip_prefix("OFFSET must be >=0") {
        return Error::invalid_offset("OFFSET must not be negative").detail(negative(given));
    }
    if message.contains("in the SELECT clause must be part of GROUP BY") || message.contains("must be in GROUP BY") {
        return Error::grouping(clean(message));
    }
    if message.contains("common type") || message.contains("Cannot coerce") || message.contains("must be boolean") {
        return Error::type_mismatch(clean(message));
    }
    Error::syntax(clean(message))
}

/// What a negative count was.
fn negative(told: &str) -> String {
    format!("It is {}.", told.split('\'').nth(1).unwrap_or("negative"))
}

/// The message in our style: lower-case, one line, no period.
fn clean(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default().trim().trim_end_matches('.');
    let prefixes = ["Error during planning: ", "Execution error: ", "type_coercion\ncaused by\n", "sql parser error: "];
    let line = prefixes.iter().fold(line, |line, prefix| line.trim_start_matches(prefix));
    let mut chars = line.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(line.chars().skip(1)).collect()
        }
        _ => line.to_string(),
    }
}

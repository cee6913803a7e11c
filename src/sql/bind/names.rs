//! Names to objects: the search path, the system schemas, and what to say when there is no such thing.

use arrow::datatypes::SchemaRef;
use sqlparser::ast::{Ident, ObjectName};
use std::sync::Arc;

use crate::catalog::system::{PG_CATALOG, relations};
use crate::catalog::{Object, PUBLIC};
use crate::error::{Error, Result};
use crate::sql::BindContext;
use crate::sql::bind::system;
use crate::sql::bound::Name;
use crate::sql::options::nearest;
use crate::sql::parse::grammar::folded;

/// The one database.
pub const DATABASE: &str = "millstream";

/// The schemas of the system, which nothing can be created in.
pub const SYSTEM_SCHEMAS: [&str; 3] = ["pg_catalog", "information_schema", "ms_catalog"];

/// What a name means.
pub enum Relation {
    /// A relation of the system: schema, name, columns.
    System(&'static str, &'static str, SchemaRef),
    /// An object of the catalog.
    Object(Arc<Object>),
}

/// The parts of a name, folded.
pub fn parts(name: &ObjectName) -> Vec<String> {
    name.0.iter().map(|part| part.as_ident().map_or_else(|| part.to_string(), folded)).collect()
}

/// The relation that a name of one, two or three parts means.
pub fn resolve(parts: &[&str], context: &BindContext) -> Result<Relation> {
    let found = match parts {
        [name] => search(name, context),
        [schema, name] => within(schema, name, context),
        [database, schema, name] if *database == DATABASE => within(schema, name, context),
        [_, _, _] => {
            let message = format!("cross-database references are not implemented: \"{}\"", parts.join("."));
            return Err(Error::unsupported(message));
        }
        _ => return Err(Error::syntax(format!("improper qualified name: {}", parts.join(".")))),
    };
    found.ok_or_else(|| missing(parts, context))
}

/// The object that a statement names, which must be of the catalog.
pub fn resolve_object(name: &ObjectName, context: &BindContext) -> Result<Arc<Object>> {
    let parts = parts(name);
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match resolve(&parts, context)? {
        Relation::Object(object) => Ok(object),
        Relation::System(schema, name, _) => {
            Err(Error::wrong_object_type(format!("\"{schema}.{name}\" is a relation of the system")))
        }
    }
}

/// Where a new object of this name goes.
pub fn new_name(name: &ObjectName, context: &BindContext) -> Result<Name> {
    let parts = parts(name);
    let (schema, name) = match parts.as_slice() {
        [name] => match search_path(context).find(|schema| !SYSTEM_SCHEMAS.contains(schema)) {
            Some(schema) => (schema.to_string(), name),
            None => {
                return Err(Error::undefined_schema("no schema has been selected to create in")
                    .hint("SET search_path = public, or write the schema before the name."));
            }
        },
        [schema, name] => (schema.clone(), name),
        [database, schema, name] if database == DATABASE => (schema.clone(), name),
        _ => {
            let message = format!("cross-database references are not implemented: \"{}\"", parts.join("."));
            return Err(Error::unsupported(message));
        }
    };
    if SYSTEM_SCHEMAS.contains(&schema.as_str()) {
        return Err(Error::unsupported(format!("schema \"{schema}\" belongs to the system"))
            .hint("Create the object in schema \"public\"."));
    }
    if !context.catalog.has_schema(&schema) {
        return Err(undefined_schema(&schema, context));
    }
    Ok(Name { schema, name: name.clone() })
}

/// 3F000, with the nearest schema.
pub fn undefined_schema(name: &str, context: &BindContext) -> Error {
    let error = Error::undefined_schema(format!("schema \"{name}\" does not exist"));
    match nearest(name, context.catalog.schemas.keys().map(String::as_str).chain([PUBLIC])) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => error.hint(format!("Create it with CREATE SCHEMA {name}.")),
    }
}

fn search(name: &str, context: &BindContext) -> Option<Relation> {
    let first = std::iter::once("pg_catalog");
    first.chain(search_path(context)).find_map(|schema| within(schema, name, context))
}

fn within(schema: &str, name: &str, context: &BindContext) -> Option<Relation> {
    if let Some((schema, name, columns)) = system(schema, name) {
        return Some(Relation::System(schema, name, columns));
    }
    context.catalog.find(schema, name).cloned().map(Relation::Object)
}

/// The search path as it counts: without `"$user"` and the like, of which there are no schemas.
fn search_path(context: &BindContext) -> impl Iterator<Item = &str> {
    context.search_path.iter().map(String::as_str).filter(|schema| !schema.starts_with('$'))
}

/// 42P01, with the nearest name: of the schema that is named, else of all objects, and of the system's where it looks so.
fn missing(parts: &[&str], context: &BindContext) -> Error {
    let error = Error::undefined_table(format!("relation \"{}\" does not exist", parts.join(".")));
    let name = parts.last().copied().unwrap_or_default();
    let schema = parts.len().checked_sub(2).map(|at| parts[at]);
    if let Some(schema) =
        schema.filter(|schema| !SYSTEM_SCHEMAS.contains(schema) && !context.catalog.has_schema(schema))
    {
        let schemas = context.catalog.schemas.keys().map(String::as_str).chain([PUBLIC]).chain(SYSTEM_SCHEMAS);
        return match nearest(schema, schemas) {
            Some(near) => error.hint(format!("Perhaps you meant the schema \"{near}\".")),
            None => error.hint(format!("There is no schema \"{schema}\".")),
        };
    }
    let own = context.catalog.objects().filter(|object| schema.is_none_or(|schema| schema == object.schema));
    let theirs = relations().iter().filter(|relation| match schema {
        Some(schema) => relation.schema == schema,
        None => relation.schema == PG_CATALOG && name.starts_with("pg_"),
    });
    let names = own.map(|object| object.name.as_str()).chain(theirs.map(|relation| relation.name));
    match nearest(name, names) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => error,
    }
}

/// The place of a column in a list of names, or 42703 with the nearest.
pub fn column_index(columns: &[crate::types::Column], column: &Ident, relation: &str) -> Result<usize> {
    let name = folded(column);
    columns.iter().position(|c| c.name == name).ok_or_else(|| {
        let error = Error::undefined_column(format!("column \"{name}\" of relation \"{relation}\" does not exist"));
        match nearest(&name, columns.iter().map(|c| c.name.as_str())) {
            Some(near) => error.hint(format!("Perhaps you meant the column \"{near}\".")),
            None => error,
        }
    })
}

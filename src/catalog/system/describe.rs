//! Definitions as SQL, and names by OID: what the `pg_get_*` functions and casts to `regclass` answer from.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::catalog::PUBLIC;
use crate::catalog::Table;
use crate::catalog::system;
use crate::catalog::system::numbers;
use crate::catalog::system::relations::key_name;
use crate::functions::catalog::Names;
use crate::functions::catalog::quote_identifier;

/// The role that owns everything.
pub const OWNER: &str = "millstream";

/// The names of a catalog snapshot, as the functions of `pg_catalog` ask for them.
#[derive(Debug)]
pub struct CatalogNames(pub Arc<Catalog>);

impl Names for CatalogNames {
    fn relation(&self, oid: u32) -> Option<(String, String)> {
        if let Some(table) = numbers::table_of_index(oid) {
            let object = self.0.get(table)?;
            return Some((object.schema.clone(), key_name(object)));
        }
        if let Some(relation) = system::relations().iter().find(|r| r.oid == oid) {
            return Some((relation.schema.to_string(), relation.name.to_string()));
        }
        let object = self.0.get(crate::ids::ObjectId(oid))?;
        Some((object.schema.clone(), object.name.clone()))
    }

    fn find(&self, schema: &str, name: &str) -> Option<u32> {
        if let Some(relation) = system::find(schema, name) {
            return Some(relation.oid);
        }
        if let Some(object) = self.0.find(schema, name) {
            return Some(object.id.0);
        }
        let object = self.0.find(schema, name.strip_suffix("_pkey")?)?;
        matches!(&object.kind, ObjectKind::Table(table) if !table.primary_key.is_empty())
            .then(|| numbers::primary_key_index(object.id))
    }

    fn schema(&self, oid: u32) -> Option<String> {
        let mut created = self.0.schemas.iter();
        created.find(|(_, id)| id.0 == oid).map(|(name, _)| name.clone())
    }

    fn definition(&self, oid: u32) -> Option<String> {
        if let Some(id) = numbers::table_of_index(oid) {
            return self.table(id, index);
        }
        if let Some(id) = numbers::table_of_constraint(oid) {
            return self.table(id, |_, table| constraint(table));
        }
        match &self.0.get(crate::ids::ObjectId(oid))?.kind {
            ObjectKind::View(view) => Some(query(&view.query)),
            ObjectKind::MaterializedView(view) => Some(query(&view.query)),
            ObjectKind::Table(_) | ObjectKind::Source(_) | ObjectKind::Sink(_) | ObjectKind::Subscription(_) => None,
        }
    }

    fn column(&self, relation: u32, number: usize) -> Option<String> {
        let index = number.checked_sub(1)?;
        if let Some(id) = numbers::table_of_index(relation) {
            return self.table(id, |_, table| {
                table.primary_key.get(index).map_or_else(String::new, |c| quote_identifier(&table.columns[*c].name))
            });
        }
        let object = self.0.get(crate::ids::ObjectId(relation))?;
        object.columns().get(index).map(|column| column.name.clone())
    }
}

impl CatalogNames {
    fn table(&self, id: crate::ids::ObjectId, answer: impl Fn(&Object, &Table) -> String) -> Option<String> {
        let object = self.0.get(id)?;
        match &object.kind {
            ObjectKind::Table(table) => Some(answer(object, table)),
            ObjectKind::Source(_) | ObjectKind::View(_) | ObjectKind::MaterializedView(_) => None,
            ObjectKind::Sink(_) | ObjectKind::Subscription(_) => None,
        }
    }
}

/// A view's query as it is shown, with the semicolon that clients cut off.
pub fn query(query: &str) -> String {
    let text = query.trim().trim_end_matches(';');
    format!(" {text};")
}

/// `CREATE UNIQUE INDEX` of a PRIMARY KEY.
pub fn index(object: &Object, table: &Table) -> String {
    let name = quote_identifier(&key_name(object));
    let schema = if object.schema == PUBLIC { PUBLIC.to_string() } else { quote_identifier(&object.schema) };
    let table_name = quote_identifier(&object.name);
    format!("CREATE UNIQUE INDEX {name} ON {schema}.{table_name} USING btree ({})", key_columns(table))
}

/// `PRIMARY KEY (...)`.
pub fn constraint(table: &Table) -> String {
    format!("PRIMARY KEY ({})", key_columns(table))
}

fn key_columns(table: &Table) -> String {
    let names: Vec<String> = table.primary_key.iter().map(|c| quote_identifier(&table.columns[*c].name)).collect();
    names.join(", ")
}

//! `information_schema`: what the SQL standard says about relations, columns and keys.

use crate::catalog::Catalog;
use crate::catalog::ObjectKind;
use crate::catalog::system;
use crate::catalog::system::SCHEMAS;
use crate::catalog::system::SystemContext;
use crate::catalog::system::describe;
use crate::catalog::system::relations::key_name;
use crate::catalog::system::relations::system_columns;
use crate::catalog::system::relations::tables;
use crate::catalog::system::rows::Rows;
use crate::types::Column;
use crate::types::SqlType;
use crate::types::known;

/// Fills the relation of `information_schema` with this name, if anything does.
pub(super) fn fill(name: &str, catalog: &Catalog, context: &SystemContext, rows: &mut Rows) {
    let database = context.database.as_str();
    match name {
        "schemata" => schemata(catalog, database, rows),
        "tables" => all_tables(catalog, database, rows),
        "columns" => all_columns(catalog, database, rows),
        "views" => views(catalog, database, rows),
        "table_constraints" => table_constraints(catalog, database, rows),
        "key_column_usage" | "constraint_column_usage" => key_columns(catalog, database, name, rows),
        "character_sets" => rows.push([
            ("character_set_name", "UTF8".into()),
            ("character_repertoire", "UCS".into()),
            ("form_of_use", "UTF8".into()),
            ("default_collate_catalog", database.into()),
            ("default_collate_schema", "pg_catalog".into()),
            ("default_collate_name", "default".into()),
        ]),
        _ => {}
    }
}

fn schemata(catalog: &Catalog, database: &str, rows: &mut Rows) {
    let created = catalog.schemas.keys().map(String::as_str);
    for schema in SCHEMAS.iter().copied().chain(["public"]).chain(created) {
        rows.push([
            ("catalog_name", database.into()),
            ("schema_name", schema.into()),
            ("schema_owner", describe::OWNER.into()),
        ]);
    }
}

fn all_tables(catalog: &Catalog, database: &str, rows: &mut Rows) {
    let objects = catalog.relations().map(|object| {
        let kind = match &object.kind {
            ObjectKind::Table(_) => "BASE TABLE",
            ObjectKind::Source(_) => "FOREIGN",
            // The standard knows no materialized views and Postgres leaves them out; tools find ours only when they are views.
            ObjectKind::View(_) | ObjectKind::MaterializedView(_) => "VIEW",
            ObjectKind::Sink(_) | ObjectKind::Subscription(_) => "VIEW",
        };
        (object.schema.as_str(), object.name.as_str(), kind)
    });
    let system = system::relations().iter().map(|relation| (relation.schema, relation.name, "VIEW"));
    for (schema, name, kind) in objects.chain(system) {
        rows.push([
            ("table_catalog", database.into()),
            ("table_schema", schema.into()),
            ("table_name", name.into()),
            ("table_type", kind.into()),
            ("is_insertable_into", yes(kind == "BASE TABLE").into()),
            ("is_typed", "NO".into()),
        ]);
    }
}

fn yes(value: bool) -> &'static str {
    if value { "YES" } else { "NO" }
}

fn all_columns(catalog: &Catalog, database: &str, rows: &mut Rows) {
    for object in catalog.relations() {
        let (defaults, writable): (&[Option<String>], bool) = match &object.kind {
            ObjectKind::Table(table) => (&table.defaults, true),
            ObjectKind::Source(_) | ObjectKind::View(_) => (&[], false),
            ObjectKind::MaterializedView(_) | ObjectKind::Sink(_) | ObjectKind::Subscription(_) => (&[], false),
        };
        for (i, column) in object.columns().iter().enumerate() {
            let default = defaults.get(i).cloned().flatten();
            let place = (database, object.schema.as_str(), object.name.as_str());
            one_column(place, i + 1, column, default, writable, rows);
        }
    }
    for relation in system::relations() {
        for (i, column) in system_columns(relation).enumerate() {
            one_column((database, relation.schema, relation.name), i + 1, &column, None, false, rows);
        }
    }
}

/// Precision in bits or digits, its radix, and scale.
fn precision(ty: &SqlType) -> (Option<i32>, Option<i32>, Option<i32>) {
    match ty {
        SqlType::SmallInt => (Some(16), Some(2), Some(0)),
        SqlType::Integer => (Some(32), Some(2), Some(0)),
        SqlType::BigInt => (Some(64), Some(2), Some(0)),
        SqlType::Real => (Some(24), Some(2), None),
        SqlType::Double => (Some(53), Some(2), None),
        SqlType::Numeric { precision, scale } => (Some((*precision).into()), Some(10), Some((*scale).into())),
        SqlType::Boolean
        | SqlType::Text
        | SqlType::Varchar(_)
        | SqlType::Bytea
        | SqlType::Date
        | SqlType::Time
        | SqlType::Timestamp
        | SqlType::Timestamptz
        | SqlType::Interval
        | SqlType::Oid
        | SqlType::Name
        | SqlType::Char
        | SqlType::Array(_) => (None, None, None),
    }
}

fn one_column(
    (database, schema, relation): (&str, &str, &str),
    number: usize,
    column: &Column,
    default: Option<String>,
    writable: bool,
    rows: &mut Rows,
) {
    let (known, is_array) = known::find(column.ty.oid()).expect("every type of ours is known");
    let (precision, radix, scale) = precision(&column.ty);
    let length = if let SqlType::Varchar(n) = column.ty { i32::try_from(n).ok() } else { None };
    let octets = match column.ty {
        SqlType::Varchar(_) => length.and_then(|n| n.checked_mul(4)),
        SqlType::Text => Some(1 << 30),
        _ => None,
    };
    let datetime = match column.ty {
        SqlType::Date => Some(0),
        SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz | SqlType::Interval => Some(6),
        _ => None,
    };
    let udt = if is_array { format!("_{}", known.name) } else { known.name.to_string() };
    rows.push([
        ("table_catalog", database.into()),
        ("table_schema", schema.into()),
        ("table_name", relation.into()),
        ("column_name", column.name.as_str().into()),
        ("ordinal_position", number.into()),
        ("column_default", default.into()),
        ("is_nullable", yes(column.nullable).into()),
        ("data_type", if is_array { "ARRAY" } else { known.shown }.into()),
        ("character_maximum_length", length.into()),
        ("character_octet_length", octets.into()),
        ("numeric_precision", precision.into()),
        ("numeric_precision_radix", radix.into()),
        ("numeric_scale", scale.into()),
        ("datetime_precision", datetime.into()),
        ("udt_catalog", database.into()),
        ("udt_schema", "pg_catalog".into()),
        ("udt_name", udt.into()),
        ("dtd_identifier", number.to_string().into()),
        ("is_self_referencing", "NO".into()),
        ("is_identity", "NO".into()),
        ("identity_cycle", "NO".into()),
        ("is_generated", "NEVER".into()),
        ("is_updatable", yes(writable).into()),
    ]);
}

fn views(catalog: &Catalog, database: &str, rows: &mut Rows) {
    for object in catalog.objects() {
        let query = match &object.kind {
            ObjectKind::View(view) => &view.query,
            ObjectKind::MaterializedView(view) => &view.query,
            ObjectKind::Table(_) | ObjectKind::Source(_) | ObjectKind::Sink(_) | ObjectKind::Subscription(_) => {
                continue;
            }
        };
        rows.push([
            ("table_catalog", database.into()),
            ("table_schema", object.schema.as_str().into()),
            ("table_name", object.name.as_str().into()),
            ("view_definition", describe::query(query).into()),
            ("check_option", "NONE".into()),
            ("is_updatable", "NO".into()),
            ("is_insertable_into", "NO".into()),
            ("is_trigger_updatable", "NO".into()),
            ("is_trigger_deletable", "NO".into()),
            ("is_trigger_insertable_into", "NO".into()),
        ]);
    }
}

fn table_constraints(catalog: &Catalog, database: &str, rows: &mut Rows) {
    for (object, _) in tables(catalog).filter(|(_, table)| !table.primary_key.is_empty()) {
        rows.push([
            ("constraint_catalog", database.into()),
            ("constraint_schema", object.schema.as_str().into()),
            ("constraint_name", key_name(object).into()),
            ("table_catalog", database.into()),
            ("table_schema", object.schema.as_str().into()),
            ("table_name", object.name.as_str().into()),
            ("constraint_type", "PRIMARY KEY".into()),
            ("is_deferrable", "NO".into()),
            ("initially_deferred", "NO".into()),
            ("enforced", "YES".into()),
        ]);
    }
}

fn key_columns(catalog: &Catalog, database: &str, relation: &str, rows: &mut Rows) {
    for (object, table) in tables(catalog) {
        for (i, column) in table.primary_key.iter().enumerate() {
            let common = [
                ("constraint_catalog", database.into()),
                ("constraint_schema", object.schema.as_str().into()),
                ("constraint_name", key_name(object).into()),
                ("table_catalog", database.into()),
                ("table_schema", object.schema.as_str().into()),
                ("table_name", object.name.as_str().into()),
                ("column_name", table.columns[*column].name.as_str().into()),
            ];
            if relation == "constraint_column_usage" {
                rows.push(common);
            } else {
                let [a, b, c, d, e, f, g] = common;
                rows.push([a, b, c, d, e, f, g, ("ordinal_position", (i + 1).into())]);
            }
        }
    }
}

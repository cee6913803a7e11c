//! The rows that describe relations: `pg_class`, `pg_attribute`, `pg_index`, `pg_constraint` and the views over them.

use crate::catalog::Catalog;
use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::catalog::Table;
use crate::catalog::system::SystemRelation;
use crate::catalog::system::describe;
use crate::catalog::system::numbers;
use crate::catalog::system::relations as system_relations;
use crate::catalog::system::rows::Rows;
use crate::catalog::system::rows::Value;
use crate::types::Column;
use crate::types::SqlType;

/// Fills the relation of `pg_catalog` with this name, if it is one of this file's.
pub(super) fn fill(name: &str, catalog: &Catalog, rows: &mut Rows) {
    match name {
        "pg_class" => classes(catalog, rows),
        "pg_attribute" => attributes(catalog, rows),
        "pg_index" => tables(catalog).for_each(|(object, table)| index(object, table, rows)),
        "pg_constraint" => tables(catalog).for_each(|(object, table)| constraint(catalog, object, table, rows)),
        "pg_attrdef" => tables(catalog).for_each(|(object, table)| defaults(object, table, rows)),
        "pg_tables" => pg_tables(catalog, rows),
        "pg_views" => views(catalog, rows),
        "pg_matviews" => materialized_views(catalog, rows),
        "pg_indexes" => indexes(catalog, rows),
        "pg_rewrite" => rules(catalog, rows),
        "pg_depend" => depends(catalog, rows),
        _ => {}
    }
}

/// `relkind`: a source is shown as a foreign table, which it is: rows that live elsewhere. What the system keeps for other
/// objects is shown as tables, so that lists of views show what was declared.
pub(super) fn kind(object: &Object) -> &'static str {
    match &object.kind {
        _ if object.is_part() => "r",
        ObjectKind::Table(_) => "r",
        ObjectKind::Source(_) => "f",
        ObjectKind::View(_) => "v",
        ObjectKind::MaterializedView(_) => "m",
        // Shown nowhere: what is listed here can be read.
        ObjectKind::Sink(_) | ObjectKind::Subscription(_) => "",
    }
}

/// The name of the index behind a PRIMARY KEY, and of the constraint.
pub(super) fn key_name(object: &Object) -> String {
    format!("{}_pkey", object.name)
}

/// The tables that have a PRIMARY KEY or not, with what is declared.
pub(super) fn tables(catalog: &Catalog) -> impl Iterator<Item = (&Object, &Table)> {
    catalog.objects().filter_map(|object| match &object.kind {
        ObjectKind::Table(table) => Some((object.as_ref(), table)),
        ObjectKind::Source(_) | ObjectKind::View(_) | ObjectKind::MaterializedView(_) => None,
        ObjectKind::Sink(_) | ObjectKind::Subscription(_) => None,
    })
}

/// One row of `pg_class`, before the columns that all rows share.
struct Class<'a> {
    oid: u32,
    name: &'a str,
    schema: u32,
    kind: &'a str,
    columns: usize,
    has_index: bool,
    access: u32,
}

fn classes(catalog: &Catalog, rows: &mut Rows) {
    for object in catalog.relations() {
        let has_index = matches!(&object.kind, ObjectKind::Table(table) if !table.primary_key.is_empty());
        let kind = kind(object);
        let access = if matches!(kind, "r" | "m") { numbers::HEAP } else { 0 };
        let schema = numbers::schema(catalog, &object.schema);
        let columns = object.columns().len();
        class(Class { oid: object.id.0, name: &object.name, schema, kind, columns, has_index, access }, rows);
    }
    for (object, table) in tables(catalog).filter(|(_, table)| !table.primary_key.is_empty()) {
        let schema = numbers::schema(catalog, &object.schema);
        let oid = numbers::primary_key_index(object.id);
        let (name, columns) = (key_name(object), table.primary_key.len());
        class(Class { oid, name: &name, schema, kind: "i", columns, has_index: false, access: numbers::BTREE }, rows);
    }
    for relation in system_relations() {
        let schema = numbers::schema(catalog, relation.schema);
        let columns = relation.columns.fields().len();
        let access = numbers::HEAP;
        class(
            Class { oid: relation.oid, name: relation.name, schema, kind: "r", columns, has_index: false, access },
            rows,
        );
    }
}

fn class(class: Class, rows: &mut Rows) {
    rows.push([
        ("oid", class.oid.into()),
        ("relname", class.name.into()),
        ("relnamespace", class.schema.into()),
        ("reltype", 0.into()),
        ("reloftype", 0.into()),
        ("relowner", numbers::OWNER.into()),
        ("relam", class.access.into()),
        ("relfilenode", class.oid.into()),
        ("reltablespace", 0.into()),
        ("relpages", 0.into()),
        ("reltuples", (-1).into()),
        ("relallvisible", 0.into()),
        ("reltoastrelid", 0.into()),
        ("relhasindex", class.has_index.into()),
        ("relisshared", false.into()),
        ("relpersistence", "p".into()),
        ("relkind", class.kind.into()),
        ("relnatts", class.columns.into()),
        ("relchecks", 0.into()),
        ("relhasrules", false.into()),
        ("relhastriggers", false.into()),
        ("relhassubclass", false.into()),
        ("relrowsecurity", false.into()),
        ("relforcerowsecurity", false.into()),
        ("relispopulated", true.into()),
        ("relreplident", "d".into()),
        ("relispartition", false.into()),
        ("relrewrite", 0.into()),
        ("relfrozenxid", 0.into()),
        ("relminmxid", 0.into()),
    ]);
}

fn attributes(catalog: &Catalog, rows: &mut Rows) {
    for object in catalog.relations() {
        let defaults: &[Option<String>] = match &object.kind {
            ObjectKind::Table(table) => &table.defaults,
            ObjectKind::Source(_) | ObjectKind::View(_) | ObjectKind::MaterializedView(_) => &[],
            ObjectKind::Sink(_) | ObjectKind::Subscription(_) => &[],
        };
        // NOT NULL is a constraint, and only tables have them; that a view's column holds no NULL is a conclusion.
        let constrained = matches!(object.kind, ObjectKind::Table(_) | ObjectKind::Source(_));
        for (i, column) in object.columns().iter().enumerate() {
            let has_default = defaults.get(i).is_some_and(Option::is_some);
            let column = Column { nullable: column.nullable || !constrained, ..column.clone() };
            attribute(object.id.0, i + 1, &column, has_default, rows);
        }
    }
    for (object, table) in tables(catalog) {
        let oid = numbers::primary_key_index(object.id);
        for (i, column) in table.primary_key.iter().enumerate() {
            attribute(oid, i + 1, &table.columns[*column], false, rows);
        }
    }
    for relation in system_relations() {
        for (i, column) in system_columns(relation).enumerate() {
            attribute(relation.oid, i + 1, &column, false, rows);
        }
    }
}

/// The columns of a system relation.
pub(super) fn system_columns(relation: &SystemRelation) -> impl Iterator<Item = Column> {
    relation.columns.fields().iter().map(|field| {
        let ty = SqlType::of_field(field).expect("a system column has a type of ours");
        Column::new(field.name(), ty)
    })
}

fn attribute(relation: u32, number: usize, column: &Column, has_default: bool, rows: &mut Rows) {
    let known = crate::types::known::find(column.ty.oid());
    let (align, storage) =
        known.map_or(('i', 'x'), |(t, is_array)| if is_array { ('i', 'x') } else { (t.align, t.storage) });
    rows.push([
        ("attrelid", relation.into()),
        ("attname", column.name.as_str().into()),
        ("atttypid", column.ty.oid().into()),
        ("attstattarget", (-1).into()),
        ("attlen", column.ty.typlen().into()),
        ("attnum", number.into()),
        ("attndims", i32::from(matches!(column.ty, SqlType::Array(_))).into()),
        ("attcacheoff", (-1).into()),
        ("atttypmod", column.ty.typmod().into()),
        ("attbyval", matches!(column.ty.typlen(), 1..=8).into()),
        ("attstorage", storage.to_string().into()),
        ("attalign", align.to_string().into()),
        ("attcompression", "".into()),
        ("attnotnull", (!column.nullable).into()),
        ("atthasdef", has_default.into()),
        ("atthasmissing", false.into()),
        ("attidentity", "".into()),
        ("attgenerated", "".into()),
        ("attisdropped", false.into()),
        ("attislocal", true.into()),
        ("attinhcount", 0.into()),
        ("attcollation", collation(&column.ty).into()),
    ]);
}

/// The collation of a type's values.
pub(super) fn collation(ty: &SqlType) -> u32 {
    match ty {
        SqlType::Text | SqlType::Varchar(_) => numbers::DEFAULT_COLLATION,
        SqlType::Name => numbers::C_COLLATION,
        SqlType::Array(item) => collation(item),
        SqlType::Boolean
        | SqlType::SmallInt
        | SqlType::Integer
        | SqlType::BigInt
        | SqlType::Real
        | SqlType::Double
        | SqlType::Numeric { .. }
        | SqlType::Bytea
        | SqlType::Date
        | SqlType::Time
        | SqlType::Timestamp
        | SqlType::Timestamptz
        | SqlType::Interval
        | SqlType::Oid
        | SqlType::Char => 0,
    }
}

/// Column numbers as Postgres counts them.
fn numbers_of(columns: &[usize]) -> Value {
    columns.iter().map(|c| c + 1).collect::<Vec<_>>().into()
}

fn index(object: &Object, table: &Table, rows: &mut Rows) {
    if table.primary_key.is_empty() {
        return;
    }
    let count = table.primary_key.len();
    let collations: Vec<u32> = table.primary_key.iter().map(|c| collation(&table.columns[*c].ty)).collect();
    rows.push([
        ("indexrelid", numbers::primary_key_index(object.id).into()),
        ("indrelid", object.id.0.into()),
        ("indnatts", count.into()),
        ("indnkeyatts", count.into()),
        ("indisunique", true.into()),
        ("indnullsnotdistinct", false.into()),
        ("indisprimary", true.into()),
        ("indisexclusion", false.into()),
        ("indimmediate", true.into()),
        ("indisclustered", false.into()),
        ("indisvalid", true.into()),
        ("indcheckxmin", false.into()),
        ("indisready", true.into()),
        ("indislive", true.into()),
        ("indisreplident", false.into()),
        ("indkey", numbers_of(&table.primary_key)),
        ("indcollation", collations.into()),
        ("indclass", vec![0u32; count].into()),
        ("indoption", vec![0; count].into()),
    ]);
}

fn constraint(catalog: &Catalog, object: &Object, table: &Table, rows: &mut Rows) {
    if table.primary_key.is_empty() {
        return;
    }
    rows.push([
        ("oid", numbers::primary_key(object.id).into()),
        ("conname", key_name(object).into()),
        ("connamespace", numbers::schema(catalog, &object.schema).into()),
        ("contype", "p".into()),
        ("condeferrable", false.into()),
        ("condeferred", false.into()),
        ("convalidated", true.into()),
        ("conrelid", object.id.0.into()),
        ("contypid", 0.into()),
        ("conindid", numbers::primary_key_index(object.id).into()),
        ("conparentid", 0.into()),
        ("confrelid", 0.into()),
        ("confupdtype", " ".into()),
        ("confdeltype", " ".into()),
        ("confmatchtype", " ".into()),
        ("conislocal", true.into()),
        ("coninhcount", 0.into()),
        ("connoinherit", true.into()),
        ("conkey", numbers_of(&table.primary_key)),
    ]);
}

fn defaults(object: &Object, table: &Table, rows: &mut Rows) {
    for (i, default) in table.defaults.iter().enumerate() {
        if let Some(default) = default {
            rows.push([
                ("oid", (u64::from(object.id.0) << 11 | (i as u64 + 1)).into()),
                ("adrelid", object.id.0.into()),
                ("adnum", (i + 1).into()),
                ("adbin", default.as_str().into()),
            ]);
        }
    }
}

fn pg_tables(catalog: &Catalog, rows: &mut Rows) {
    for (object, table) in tables(catalog) {
        rows.push([
            ("schemaname", object.schema.as_str().into()),
            ("tablename", object.name.as_str().into()),
            ("tableowner", describe::OWNER.into()),
            ("hasindexes", (!table.primary_key.is_empty()).into()),
            ("hasrules", false.into()),
            ("hastriggers", false.into()),
            ("rowsecurity", false.into()),
        ]);
    }
}

fn views(catalog: &Catalog, rows: &mut Rows) {
    for object in catalog.objects() {
        if let ObjectKind::View(view) = &object.kind {
            rows.push([
                ("schemaname", object.schema.as_str().into()),
                ("viewname", object.name.as_str().into()),
                ("viewowner", describe::OWNER.into()),
                ("definition", describe::query(&view.query).into()),
            ]);
        }
    }
}

fn materialized_views(catalog: &Catalog, rows: &mut Rows) {
    for object in catalog.objects().filter(|object| !object.is_part()) {
        if let ObjectKind::MaterializedView(view) = &object.kind {
            rows.push([
                ("schemaname", object.schema.as_str().into()),
                ("matviewname", object.name.as_str().into()),
                ("matviewowner", describe::OWNER.into()),
                ("hasindexes", false.into()),
                ("ispopulated", true.into()),
                ("definition", describe::query(&view.query).into()),
            ]);
        }
    }
}

fn indexes(catalog: &Catalog, rows: &mut Rows) {
    for (object, table) in tables(catalog).filter(|(_, table)| !table.primary_key.is_empty()) {
        rows.push([
            ("schemaname", object.schema.as_str().into()),
            ("tablename", object.name.as_str().into()),
            ("indexname", key_name(object).into()),
            ("indexdef", describe::index(object, table).into()),
        ]);
    }
}

fn rules(catalog: &Catalog, rows: &mut Rows) {
    for object in catalog.objects().filter(|object| matches!(kind(object), "v" | "m")) {
        rows.push([
            ("oid", object.id.0.into()),
            ("rulename", "_RETURN".into()),
            ("ev_class", object.id.0.into()),
            ("ev_type", "1".into()),
            ("ev_enabled", "O".into()),
            ("is_instead", true.into()),
        ]);
    }
}

/// A view depends on what it reads through its rule, as in Postgres.
fn depends(catalog: &Catalog, rows: &mut Rows) {
    const PG_REWRITE: u32 = 2618;
    const PG_CLASS: u32 = 1259;
    for object in catalog.relations() {
        for read in &object.depends_on {
            rows.push([
                ("classid", PG_REWRITE.into()),
                ("objid", object.id.0.into()),
                ("objsubid", 0.into()),
                ("refclassid", PG_CLASS.into()),
                ("refobjid", read.0.into()),
                ("refobjsubid", 0.into()),
                ("deptype", "n".into()),
            ]);
        }
    }
}

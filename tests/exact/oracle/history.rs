//! Random DML over a world's tables.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::query::Scope;
use super::query::Writer;
use super::schema::Relation;
use super::schema::Table;

/// One thing that happens.
pub enum Step {
    /// A statement of its own.
    Statement(String),
    /// Statements between BEGIN and COMMIT or ROLLBACK.
    Transaction { statements: Vec<String>, commit: bool },
    /// The server is killed and started again.
    Restart,
}

/// What happens next.
pub fn step(random: &mut StdRng, tables: &[Table]) -> Step {
    match random.random_range(0..100) {
        0..4 => Step::Restart,
        4..20 => {
            let count = random.random_range(1..=4);
            let statements = (0..count).map(|_| statement(random, tables)).collect();
            Step::Transaction { statements, commit: random.random_bool(0.7) }
        }
        _ => Step::Statement(statement(random, tables)),
    }
}

fn statement(random: &mut StdRng, tables: &[Table]) -> String {
    let table = tables.choose(random).expect("there are tables").clone();
    let statement = match random.random_range(0..100) {
        0..50 => insert(random, &table),
        50..80 => update(random, &table, tables),
        80..98 => delete(random, &table, tables),
        _ => return format!("TRUNCATE {}", table.relation.name),
    };
    if random.random_bool(0.2) { format!("{statement} RETURNING *") } else { statement }
}

/// Some rows.
pub fn insert(random: &mut StdRng, table: &Table) -> String {
    let count = if random.random_bool(0.2) { random.random_range(5..20) } else { random.random_range(1..4) };
    let mut rows = Vec::new();
    for _ in 0..count {
        let values = (0..table.relation.columns.len()).map(|place| table.value(random, place)).collect::<Vec<_>>();
        rows.push(format!("({})", values.join(", ")));
    }
    let mut conflict = String::new();
    if table.key > 0 {
        conflict = match random.random_range(0..10) {
            0..2 => String::new(),
            2..7 => " ON CONFLICT DO NOTHING".to_string(),
            _ => format!(" ON CONFLICT ({}) DO UPDATE SET {}", table.key_columns(), excluded(random, table)),
        };
    }
    format!("INSERT INTO {} VALUES {}{conflict}", table.relation.name, rows.join(", "))
}

fn excluded(random: &mut StdRng, table: &Table) -> String {
    let column = table.relation.columns[table.key..].choose(random).expect("a column beside the key");
    format!("{} = excluded.{}", column.name, column.name)
}

fn update(random: &mut StdRng, table: &Table, tables: &[Table]) -> String {
    let filter = filter(random, table, tables);
    let mut sets = Vec::new();
    let mut places =
        (table.key.min(table.relation.columns.len() - 1)..table.relation.columns.len()).collect::<Vec<_>>();
    for _ in 0..random.random_range(1..=2.min(places.len())) {
        let place = places.swap_remove(random.random_range(0..places.len()));
        let column = &table.relation.columns[place];
        let scope = scope(&table.relation);
        let mut value = Writer::new(random, &[], 0.01).value(&scope, column.ty, 2);
        if !table.nullable[place] {
            value = format!("coalesce({value}, {})", column.ty.literal(random));
        }
        sets.push(format!("{} = {value}", column.name));
    }
    // A key moves out of the others' way: PostgreSQL checks keys row by row.
    if table.key == 1 && random.random_bool(0.1) {
        let key = &table.relation.columns[0].name;
        sets.push(format!("{key} = {key} + {}", random.random_range(1..20) * 1000));
    }
    format!("UPDATE {} SET {}{filter}", table.relation.name, sets.join(", "))
}

fn delete(random: &mut StdRng, table: &Table, tables: &[Table]) -> String {
    format!("DELETE FROM {}{}", table.relation.name, filter(random, table, tables))
}

fn filter(random: &mut StdRng, table: &Table, tables: &[Table]) -> String {
    if random.random_bool(0.3) {
        let column = &table.relation.columns[0];
        return format!(" WHERE {} = {}", column.name, random.random_range(1..=6));
    }
    let scope = scope(&table.relation);
    let relations = tables.iter().map(|table| table.relation.clone()).collect::<Vec<_>>();
    let within = random.random_bool(0.15);
    let mut writer = Writer::new(random, &relations, 0.0);
    let subquery = if within { writer.subquery(&scope) } else { None };
    let narrow = writer.condition(&scope, 1);
    let mut conditions = vec![narrow];
    conditions.extend(subquery);
    format!(" WHERE {}", conditions.join(" AND "))
}

/// The table's columns under its own name.
fn scope(relation: &Relation) -> Scope {
    relation.columns.iter().map(|column| (format!("{}.{}", relation.name, column.name), column.ty)).collect()
}

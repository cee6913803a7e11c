//! Every relation can be filled, and the truth about a small catalog is told.

use std::collections::BTreeSet;

use arrow::array::Array;
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;

use super::*;
use crate::catalog::MaterializedView;
use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::catalog::PUBLIC;
use crate::catalog::Storage;
use crate::catalog::Table;
use crate::functions::catalog::Names;
use crate::types::Column;
use crate::types::SqlType;

fn catalog() -> Catalog {
    let columns = vec![
        Column { name: "id".into(), ty: SqlType::Integer, nullable: false },
        Column::new("name", SqlType::Varchar(20)),
    ];
    let mut catalog = Catalog::new();
    let object = |id, name: &str, depends_on: &[u32], kind| Object {
        id: ObjectId(id),
        schema: PUBLIC.into(),
        name: name.into(),
        sql: format!("CREATE {name}"),
        depends_on: depends_on.iter().map(|id| ObjectId(*id)).collect::<BTreeSet<_>>(),
        created: 0,
        retain_history_ms: None,
        kind,
    };
    let table = Table {
        columns: columns.clone(),
        defaults: vec![None, Some("'x'".into())],
        primary_key: vec![0],
        append_only: false,
        watermark: None,
        feed: None,
    };
    catalog.insert(object(16384, "t", &[], ObjectKind::Table(table)));
    let view =
        MaterializedView { columns, query: "SELECT * FROM t".into(), storage: Storage::Hashed, plan: String::new() };
    catalog.insert(object(16385, "v", &[16384], ObjectKind::MaterializedView(view)));
    catalog
}

fn read(schema: &str, name: &str) -> RecordBatch {
    let relation = find(schema, name).expect("the relation exists");
    let session = SessionFacts { user: "me".into(), ..SessionFacts::default() };
    rows(&relation, &catalog(), &SystemContext { session: Arc::new(session), ..SystemContext::default() }).unwrap()
}

#[test]
fn every_relation_can_be_read_and_has_an_oid_of_its_own() {
    let mut oids = BTreeSet::new();
    for relation in relations() {
        let batch = read(relation.schema, relation.name);
        assert_eq!(batch.schema(), relation.columns);
        assert!(oids.insert(relation.oid), "{} shares its OID", relation.name);
        assert!(relation.oid < ObjectId::FIRST.0);
        assert!(batch.num_rows() == 0 || !is_always_empty(relation.schema, relation.name));
    }
}

#[test]
fn tables_views_and_the_index_of_the_key_are_in_pg_class() {
    let batch = read("pg_catalog", "pg_class");
    let (oids, names) = (batch["oid"].as_primitive::<Int64Type>().clone(), batch["relname"].as_string::<i32>().clone());
    let kinds = batch["relkind"].as_string::<i32>();
    let of = |name| (0..names.len()).find(|i| names.value(*i) == name).map(|i| (oids.value(i), kinds.value(i)));
    assert_eq!(of("t"), Some((16384, "r")));
    assert_eq!(of("v"), Some((16385, "m")));
    assert_eq!(of("t_pkey"), Some((i64::from(numbers::primary_key_index(ObjectId(16384))), "i")));
    assert_eq!(of("pg_class"), Some((1259, "r")));
}

#[test]
fn definitions_are_found_by_oid() {
    let names = CatalogNames(catalog().into());
    let index = numbers::primary_key_index(ObjectId(16384));
    assert_eq!(names.definition(index).as_deref(), Some("CREATE UNIQUE INDEX t_pkey ON public.t USING btree (id)"));
    assert_eq!(names.definition(numbers::primary_key(ObjectId(16384))).as_deref(), Some("PRIMARY KEY (id)"));
    assert_eq!(names.definition(16385).as_deref(), Some(" SELECT * FROM t;"));
    assert_eq!(names.find("public", "t_pkey"), Some(index));
    assert_eq!(names.relation(1259), Some(("pg_catalog".into(), "pg_class".into())));
}

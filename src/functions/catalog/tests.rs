//! The functions on single rows.

use super::*;

/// A catalog with one table.
#[derive(Debug)]
struct OneTable;

impl Names for OneTable {
    fn relation(&self, oid: u32) -> Option<(String, String)> {
        (oid == 16384).then(|| ("public".to_string(), "Order".to_string()))
    }

    fn find(&self, schema: &str, name: &str) -> Option<u32> {
        (schema == "public" && name == "Order").then_some(16384)
    }

    fn schema(&self, _oid: u32) -> Option<String> {
        None
    }

    fn definition(&self, _oid: u32) -> Option<String> {
        None
    }

    fn column(&self, _relation: u32, _number: usize) -> Option<String> {
        None
    }
}

fn call(search_path: &[&str], name: &str, arguments: &[Value]) -> Result<Value> {
    let context = CatalogContext {
        database: "millstream".into(),
        user: "ann".into(),
        owner: "millstream",
        search_path: search_path.iter().map(|s| s.to_string()).collect(),
        pid: 7,
        version: "PostgreSQL 13.14".into(),
        settings: Arc::new([("TimeZone".to_string(), "UTC".to_string())].into()),
        names: Arc::new(OneTable),
    };
    let all = definitions::definitions().into_iter().chain(session::definitions());
    let function = all.into_iter().find(|f| f.name == name).expect("the function exists");
    (function.body)(&context, arguments)
}

#[test]
fn relations_are_named_as_they_can_be_found() {
    let table = [Value::from(16384i64)];
    assert_eq!(call(&["public"], "regclass_name", &table).unwrap(), Value::from("\"Order\""));
    assert_eq!(call(&["other"], "regclass_name", &table).unwrap(), Value::from("public.\"Order\""));
    assert_eq!(call(&["public"], "regclass_name", &[Value::from(5i64)]).unwrap(), Value::from("5"));
    assert_eq!(call(&["public"], "to_regclass", &[Value::from("\"Order\"")]).unwrap(), Value::from(16384i64));
    assert_eq!(call(&["public"], "to_regclass", &[Value::from("order")]).unwrap(), Value::Int64(None));
    assert!(call(&["public"], "regclass_oid", &[Value::from("order")]).is_err());
    assert_eq!(call(&["public"], "pg_table_is_visible", &table).unwrap(), Value::from(true));
    assert_eq!(call(&["other"], "pg_table_is_visible", &table).unwrap(), Value::from(false));
}

#[test]
fn settings_are_found_without_regard_to_case() {
    assert_eq!(call(&[], "current_setting", &[Value::from("timezone")]).unwrap(), Value::from("UTC"));
    assert!(call(&[], "current_setting", &[Value::from("none")]).is_err());
    let set = |value: &str| call(&[], "set_config", &[Value::from("timezone"), Value::from(value), Value::from(false)]);
    assert_eq!(set("utc").unwrap(), Value::from("UTC"));
    assert!(set("CET").is_err());
    let lenient = [Value::from("none"), Value::from(true)];
    assert!(call(&[], "current_setting", &lenient).unwrap().is_null());
}

#[test]
fn names_are_split_and_quoted() {
    assert_eq!(split_name("A.\"b\"\"C\""), Some(vec!["a".into(), "b\"C".into()]));
    assert_eq!(split_name("a."), None);
    assert_eq!(split_name("\"a"), None);
    assert_eq!(quote_identifier("a_1"), "a_1");
    assert_eq!(quote_identifier("select"), "\"select\"");
    assert_eq!(type_oid("int4[]"), Some(1007));
    assert_eq!(type_oid("numeric(3,1)"), Some(1700));
}

#[test]
fn literals_are_quoted_as_postgres_quotes_them() {
    assert_eq!(call(&[], "quote_literal", &[Value::from("it's")]).unwrap(), Value::from("'it''s'"));
    assert_eq!(call(&[], "quote_literal", &[Value::from("a\\b")]).unwrap(), Value::from("E'a\\\\b'"));
    assert_eq!(call(&[], "quote_nullable", &[Value::Utf8(None)]).unwrap(), Value::from("NULL"));
}

//! Text forms against facts of PostgreSQL 15: `facts.txt` has type, text, and what psql answered (`set timezone = 'Europe/Berlin'`).

use crate::types::SqlType;
use crate::types::binary;
use crate::types::parse::parse;
use crate::types::text::format;
use crate::types::zone::Zone;

fn type_named(name: &str) -> SqlType {
    match name {
        "boolean" => SqlType::Boolean,
        "smallint" => SqlType::SmallInt,
        "integer" => SqlType::Integer,
        "bigint" => SqlType::BigInt,
        "real" => SqlType::Real,
        "double precision" => SqlType::Double,
        "numeric(10,2)" => SqlType::Numeric { precision: 10, scale: 2 },
        "date" => SqlType::Date,
        "time" => SqlType::Time,
        "timestamp" => SqlType::Timestamp,
        "timestamptz" => SqlType::Timestamptz,
        "interval" => SqlType::Interval,
        "bytea" => SqlType::Bytea,
        "int[]" => SqlType::Array(Box::new(SqlType::Integer)),
        "text[]" => SqlType::Array(Box::new(SqlType::Text)),
        other => panic!("no type {other}"),
    }
}

#[test]
fn facts() {
    let zone = Zone::parse("Europe/Berlin").unwrap();
    let mut wrong = Vec::new();
    for fact in include_str!("facts.txt").lines() {
        let mut parts = fact.splitn(3, " | ");
        let [ty, text, expected] = [(); 3].map(|()| parts.next().unwrap());
        let ty = type_named(ty);
        let found = match parse(text, &ty, zone) {
            Ok(value) => {
                let mut out = String::new();
                format(value.as_ref(), &ty, 0, zone, &mut out).unwrap();
                assert_eq!(parse(&out, &ty, zone).unwrap().as_ref(), value.as_ref(), "{out} reads back");
                out
            }
            Err(error) => format!("{} {}", error.kind.sqlstate(), error.message),
        };
        if found != expected {
            wrong.push(format!("{fact}\n  but is {found}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// `wire_facts.txt` has type, text, and in hex what the type's send function gave.
#[test]
fn wire_facts() {
    for fact in include_str!("wire_facts.txt").lines() {
        let mut parts = fact.splitn(3, " | ");
        let [ty, text, expected] = [(); 3].map(|()| parts.next().unwrap());
        let ty = type_named(ty);
        let value = parse(text, &ty, Zone::UTC).unwrap();
        let mut bytes = Vec::new();
        binary::BinaryColumn::new(value.as_ref(), &ty).unwrap().write(0, &mut bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected, "{fact}");
        assert_eq!(binary::parse(&bytes, &ty).unwrap().as_ref(), value.as_ref(), "{fact}");
        assert!(binary::parse(&bytes[..bytes.len() - 1], &ty).is_err() || ty == SqlType::Bytea);
    }
}

#[test]
fn oids_lead_back() {
    for oid in [16, 17, 18, 19, 20, 21, 23, 25, 26, 700, 701, 1082, 1083, 1114, 1184, 1186, 1700] {
        let ty = SqlType::from_oid(oid).unwrap();
        assert_eq!(ty.oid(), oid);
        assert_eq!(SqlType::from_oid(ty.array_oid()), Some(SqlType::Array(Box::new(ty))));
    }
    assert_eq!(SqlType::Numeric { precision: 10, scale: 2 }.typmod(), 655366);
    assert_eq!(SqlType::Varchar(20).typmod(), 24);
}

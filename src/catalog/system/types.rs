//! `pg_type`, and of `pg_proc` what its columns point to.

use crate::catalog::system::numbers;
use crate::catalog::system::rows::Rows;
use crate::types::known;
use crate::types::known::ARRAY_INPUT;
use crate::types::known::ARRAY_RECEIVE;
use crate::types::known::KnownType;
use crate::types::known::TYPES;

/// Fills the relation of `pg_catalog` with this name, if it is one of this file's.
pub(super) fn fill(name: &str, rows: &mut Rows) {
    match name {
        "pg_type" => {
            for known in TYPES {
                scalar(known, rows);
                if known.array != 0 {
                    array(known, rows);
                }
            }
        }
        "pg_proc" => {
            let mut seen = vec![0];
            for (oid, name) in known::functions() {
                if !seen.contains(&oid) {
                    seen.push(oid);
                    function(oid, name, rows);
                }
            }
        }
        _ => {}
    }
}

fn scalar(known: &KnownType, rows: &mut Rows) {
    let collation = match known.name {
        "text" | "varchar" | "bpchar" => numbers::DEFAULT_COLLATION,
        "name" => numbers::C_COLLATION,
        _ => 0,
    };
    rows.push([
        ("oid", known.oid.into()),
        ("typname", known.name.into()),
        ("typnamespace", numbers::PG_CATALOG.into()),
        ("typowner", numbers::OWNER.into()),
        ("typlen", known.length.into()),
        ("typbyval", matches!(known.length, 1..=8).into()),
        ("typtype", if known.category == 'P' { "p" } else { "b" }.into()),
        ("typcategory", known.category.to_string().into()),
        ("typispreferred", known.preferred.into()),
        ("typisdefined", true.into()),
        ("typdelim", ",".into()),
        ("typrelid", 0.into()),
        ("typelem", element(known).into()),
        ("typarray", known.array.into()),
        ("typinput", 0.into()),
        ("typoutput", 0.into()),
        ("typreceive", known.receive.into()),
        ("typsend", 0.into()),
        ("typmodin", 0.into()),
        ("typmodout", 0.into()),
        ("typanalyze", 0.into()),
        ("typalign", known.align.to_string().into()),
        ("typstorage", known.storage.to_string().into()),
        ("typnotnull", false.into()),
        ("typbasetype", 0.into()),
        ("typtypmod", (-1).into()),
        ("typndims", 0.into()),
        ("typcollation", collation.into()),
    ]);
}

/// The item type of the two old vector types.
fn element(known: &KnownType) -> u32 {
    match known.name {
        "int2vector" => 21,
        "oidvector" => 26,
        _ => 0,
    }
}

fn array(known: &KnownType, rows: &mut Rows) {
    rows.push([
        ("oid", known.array.into()),
        ("typname", format!("_{}", known.name).into()),
        ("typnamespace", numbers::PG_CATALOG.into()),
        ("typowner", numbers::OWNER.into()),
        ("typlen", (-1).into()),
        ("typbyval", false.into()),
        ("typtype", "b".into()),
        ("typcategory", "A".into()),
        ("typispreferred", false.into()),
        ("typisdefined", true.into()),
        ("typdelim", ",".into()),
        ("typrelid", 0.into()),
        ("typelem", known.oid.into()),
        ("typarray", 0.into()),
        ("typinput", ARRAY_INPUT.into()),
        ("typoutput", 0.into()),
        ("typreceive", ARRAY_RECEIVE.into()),
        ("typsend", 0.into()),
        ("typmodin", 0.into()),
        ("typmodout", 0.into()),
        ("typanalyze", 0.into()),
        ("typalign", if known.align == 'd' { "d" } else { "i" }.into()),
        ("typstorage", "x".into()),
        ("typnotnull", false.into()),
        ("typbasetype", 0.into()),
        ("typtypmod", (-1).into()),
        ("typndims", 0.into()),
        ("typcollation", 0.into()),
    ]);
}

fn function(oid: u32, name: &str, rows: &mut Rows) {
    const INTERNAL: u32 = 2281;
    rows.push([
        ("oid", oid.into()),
        ("proname", name.into()),
        ("pronamespace", numbers::PG_CATALOG.into()),
        ("proowner", numbers::OWNER.into()),
        ("prolang", 12.into()),
        ("procost", 1.into()),
        ("prorows", 0.into()),
        ("provariadic", 0.into()),
        ("prosupport", 0.into()),
        ("prokind", "f".into()),
        ("prosecdef", false.into()),
        ("proleakproof", false.into()),
        ("proisstrict", true.into()),
        ("proretset", false.into()),
        ("provolatile", "s".into()),
        ("proparallel", "s".into()),
        ("pronargs", 1.into()),
        ("pronargdefaults", 0.into()),
        ("prorettype", 0.into()),
        ("proargtypes", vec![INTERNAL].into()),
        ("prosrc", name.into()),
    ]);
}

//! Rows that do not depend on what users created: schemas, access methods, the database, roles, settings.

use crate::catalog::Catalog;
use crate::catalog::system::SystemContext;
use crate::catalog::system::describe;
use crate::catalog::system::numbers;
use crate::catalog::system::rows::Rows;
use crate::catalog::system::rows::Value;
use crate::catalog::system::session;
use crate::catalog::system::settings::Access;
use crate::catalog::system::settings::Definition;
use crate::catalog::system::settings::SETTINGS;
use crate::catalog::system::settings::SettingKind;

use crate::functions::catalog::RESERVED;

/// The code of UTF8 in `pg_database.encoding`.
const UTF8: i32 = 6;

/// Fills the relation of `pg_catalog` with this name, if it is one of this file's.
pub(super) fn fill(name: &str, catalog: &Catalog, context: &SystemContext, rows: &mut Rows) {
    match name {
        "pg_namespace" => namespaces(catalog, rows),
        "pg_am" => access_methods(rows),
        "pg_database" => database(context, rows),
        "pg_authid" | "pg_roles" => roles(context, name == "pg_roles", rows),
        "pg_user" => users(context, rows),
        "pg_settings" => SETTINGS.iter().for_each(|definition| setting(definition, context, rows)),
        "pg_cursors" => session::cursors(&context.session, rows),
        "pg_prepared_statements" => session::statements(&context.session, rows),
        "pg_get_keywords" => keywords(rows),
        "pg_tablespace" => rows.push([
            ("oid", numbers::TABLESPACE.into()),
            ("spcname", "pg_default".into()),
            ("spcowner", numbers::OWNER.into()),
        ]),
        "pg_collation" => collations(rows),
        "pg_language" => rows.push([
            ("oid", 12.into()),
            ("lanname", "internal".into()),
            ("lanowner", numbers::OWNER.into()),
            ("lanispl", false.into()),
            ("lanpltrusted", false.into()),
            ("lanplcallfoid", 0.into()),
            ("laninline", 0.into()),
            ("lanvalidator", 0.into()),
        ]),
        _ => {}
    }
}

/// The words that cannot be names without quotes.
fn keywords(rows: &mut Rows) {
    for word in RESERVED {
        rows.push([
            ("word", (*word).into()),
            ("catcode", "R".into()),
            ("barelabel", false.into()),
            ("catdesc", "reserved".into()),
            ("baredesc", "requires AS".into()),
        ]);
    }
}

fn namespaces(catalog: &Catalog, rows: &mut Rows) {
    let own = ["pg_catalog", "public", "information_schema", "ms_catalog"];
    for name in own.into_iter().chain(catalog.schemas.keys().map(String::as_str)) {
        rows.push([
            ("oid", numbers::schema(catalog, name).into()),
            ("nspname", name.into()),
            ("nspowner", numbers::OWNER.into()),
        ]);
    }
}

fn access_methods(rows: &mut Rows) {
    for (oid, name, kind) in [(numbers::HEAP, "heap", "t"), (numbers::BTREE, "btree", "i")] {
        rows.push([("oid", oid.into()), ("amname", name.into()), ("amhandler", 0.into()), ("amtype", kind.into())]);
    }
}

fn database(context: &SystemContext, rows: &mut Rows) {
    rows.push([
        ("oid", numbers::DATABASE.into()),
        ("datname", context.database.as_str().into()),
        ("datdba", numbers::OWNER.into()),
        ("encoding", UTF8.into()),
        ("datlocprovider", "c".into()),
        ("datistemplate", false.into()),
        ("datallowconn", true.into()),
        ("datconnlimit", (-1).into()),
        ("datlastsysoid", numbers::DATABASE.into()),
        ("datfrozenxid", 0.into()),
        ("datminmxid", 0.into()),
        ("dattablespace", numbers::TABLESPACE.into()),
        ("datcollate", "C".into()),
        ("datctype", "C.UTF-8".into()),
    ]);
}

/// The owner of everything, and who asks, when that is somebody else.
fn role_names(context: &SystemContext) -> Vec<(u32, &str)> {
    let mut roles = vec![(numbers::OWNER, describe::OWNER)];
    let user = context.session.user.as_str();
    if !user.is_empty() && user != describe::OWNER {
        roles.push((numbers::OWNER + 6, user));
    }
    roles
}

fn roles(context: &SystemContext, shows_password: bool, rows: &mut Rows) {
    for (oid, name) in role_names(context) {
        let password: Value = shows_password.then_some("********").into();
        rows.push([
            ("oid", oid.into()),
            ("rolname", name.into()),
            ("rolsuper", true.into()),
            ("rolinherit", true.into()),
            ("rolcreaterole", true.into()),
            ("rolcreatedb", true.into()),
            ("rolcanlogin", true.into()),
            ("rolreplication", false.into()),
            ("rolbypassrls", true.into()),
            ("rolconnlimit", (-1).into()),
            ("rolpassword", password),
        ]);
    }
}

fn users(context: &SystemContext, rows: &mut Rows) {
    for (oid, name) in role_names(context) {
        rows.push([
            ("usename", name.into()),
            ("usesysid", oid.into()),
            ("usecreatedb", true.into()),
            ("usesuper", true.into()),
            ("userepl", false.into()),
            ("usebypassrls", true.into()),
            ("passwd", "********".into()),
        ]);
    }
}

fn collations(rows: &mut Rows) {
    for (oid, name) in [(numbers::DEFAULT_COLLATION, "default"), (numbers::C_COLLATION, "C")] {
        rows.push([
            ("oid", oid.into()),
            ("collname", name.into()),
            ("collnamespace", numbers::PG_CATALOG.into()),
            ("collowner", numbers::OWNER.into()),
            ("collprovider", if name == "C" { "c" } else { "d" }.into()),
            ("collisdeterministic", true.into()),
            ("collencoding", (-1).into()),
            ("collcollate", (name == "C").then_some("C").into()),
            ("collctype", (name == "C").then_some("C").into()),
        ]);
    }
}

fn setting(definition: &Definition, context: &SystemContext, rows: &mut Rows) {
    let set = context.session.settings.get(definition.name);
    let value = set.map_or(definition.default, String::as_str);
    let kind = match definition.kind {
        SettingKind::Bool => "bool",
        SettingKind::Integer(..) | SettingKind::Milliseconds => "integer",
        SettingKind::Enum(_) => "enum",
        SettingKind::Text | SettingKind::TimeZone | SettingKind::Names => "string",
    };
    let words = if let SettingKind::Enum(words) = definition.kind { Some(words.to_vec()) } else { None };
    let range = match definition.kind {
        SettingKind::Integer(least, most) => Some((least, most)),
        SettingKind::Milliseconds => Some((0, i64::from(i32::MAX))),
        SettingKind::Bool | SettingKind::Enum(_) | SettingKind::Text | SettingKind::TimeZone | SettingKind::Names => {
            None
        }
    };
    rows.push([
        ("name", definition.name.into()),
        ("setting", value.into()),
        ("unit", (definition.kind == SettingKind::Milliseconds).then_some("ms").into()),
        ("category", "Settings".into()),
        ("short_desc", definition.description.into()),
        ("context", if definition.access == Access::Fixed { "internal" } else { "user" }.into()),
        ("vartype", kind.into()),
        ("source", if set.is_some() { "session" } else { "default" }.into()),
        ("min_val", range.map(|(least, _)| least.to_string()).into()),
        ("max_val", range.map(|(_, most)| most.to_string()).into()),
        ("enumvals", words.into()),
        ("boot_val", definition.default.into()),
        ("reset_val", definition.default.into()),
        ("pending_restart", false.into()),
    ]);
}

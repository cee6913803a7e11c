//! Which system relations there are, and their columns: a table to be read, one relation an entry.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};

use crate::catalog::system::INFORMATION_SCHEMA;
use crate::catalog::system::MS_CATALOG;
use crate::catalog::system::PG_CATALOG;
use crate::catalog::system::SystemRelation;
use crate::types::SqlType;

mod pg;

use pg::PG;

/// Relations of `pg_catalog` that describe what we have none of, among those that clients ask for with every table.
pub(super) const ALWAYS_EMPTY: &[&str] = &[
    "pg_auth_members",
    "pg_description",
    "pg_foreign_server",
    "pg_foreign_table",
    "pg_inherits",
    "pg_policy",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_sequence",
    "pg_statistic_ext",
    "pg_trigger",
];

/// Every relation with its columns as Arrow.
pub(super) fn relations() -> Vec<SystemRelation> {
    let schemas = [(PG_CATALOG, PG), (INFORMATION_SCHEMA, INFORMATION), (MS_CATALOG, MS)];
    let all = schemas.into_iter().flat_map(|(schema, list)| list.iter().map(move |entry| (schema, entry)));
    all.map(|(schema, (name, oid, columns))| {
        let fields: Vec<Field> = columns.split(',').map(|column| field(column.trim())).collect();
        SystemRelation { schema, name, oid: *oid, columns: Arc::new(Schema::new(fields)) }
    })
    .collect()
}

fn field(column: &str) -> Field {
    let (name, ty) = column.split_once(' ').expect("a column is written as name and type");
    sql_type(ty).field(name, true)
}

fn sql_type(name: &str) -> SqlType {
    match name {
        "bool" => SqlType::Boolean,
        "int2" => SqlType::SmallInt,
        "int4" => SqlType::Integer,
        "int8" => SqlType::BigInt,
        "float4" => SqlType::Real,
        "float8" => SqlType::Double,
        "oid" => SqlType::Oid,
        "name" => SqlType::Name,
        "char" => SqlType::Char,
        "timestamptz" => SqlType::Timestamptz,
        "text" => SqlType::Text,
        other => {
            let item = other.strip_suffix("[]").expect("every other type is an array");
            SqlType::Array(Box::new(sql_type(item)))
        }
    }
}

/// Those of `information_schema`.
const INFORMATION: &[(&str, u32, &str)] = &[
    (
        "schemata",
        13010,
        "catalog_name text, schema_name text, schema_owner text, default_character_set_catalog text, \
         default_character_set_schema text, default_character_set_name text, sql_path text",
    ),
    (
        "tables",
        13011,
        "table_catalog text, table_schema text, table_name text, table_type text, \
         self_referencing_column_name text, reference_generation text, user_defined_type_catalog text, \
         user_defined_type_schema text, user_defined_type_name text, is_insertable_into text, is_typed text, \
         commit_action text",
    ),
    (
        "columns",
        13012,
        "table_catalog text, table_schema text, table_name text, column_name text, ordinal_position int4, \
         column_default text, is_nullable text, data_type text, character_maximum_length int4, \
         character_octet_length int4, numeric_precision int4, numeric_precision_radix int4, \
         numeric_scale int4, datetime_precision int4, interval_type text, interval_precision int4, \
         character_set_catalog text, character_set_schema text, character_set_name text, \
         collation_catalog text, collation_schema text, collation_name text, domain_catalog text, \
         domain_schema text, domain_name text, udt_catalog text, udt_schema text, udt_name text, \
         scope_catalog text, scope_schema text, scope_name text, maximum_cardinality int4, \
         dtd_identifier text, is_self_referencing text, is_identity text, identity_generation text, \
         identity_start text, identity_increment text, identity_maximum text, identity_minimum text, \
         identity_cycle text, is_generated text, generation_expression text, is_updatable text",
    ),
    (
        "views",
        13013,
        "table_catalog text, table_schema text, table_name text, view_definition text, check_option text, \
         is_updatable text, is_insertable_into text, is_trigger_updatable text, is_trigger_deletable text, \
         is_trigger_insertable_into text",
    ),
    (
        "table_constraints",
        13014,
        "constraint_catalog text, constraint_schema text, constraint_name text, table_catalog text, \
         table_schema text, table_name text, constraint_type text, is_deferrable text, \
         initially_deferred text, enforced text",
    ),
    (
        "key_column_usage",
        13015,
        "constraint_catalog text, constraint_schema text, constraint_name text, table_catalog text, \
         table_schema text, table_name text, column_name text, ordinal_position int4, \
         position_in_unique_constraint int4",
    ),
    (
        "referential_constraints",
        13016,
        "constraint_catalog text, constraint_schema text, constraint_name text, \
         unique_constraint_catalog text, unique_constraint_schema text, unique_constraint_name text, \
         match_option text, update_rule text, delete_rule text",
    ),
    (
        "constraint_column_usage",
        13017,
        "table_catalog text, table_schema text, table_name text, column_name text, constraint_catalog text, \
         constraint_schema text, constraint_name text",
    ),
    (
        "character_sets",
        13018,
        "character_set_catalog text, character_set_schema text, character_set_name text, \
         character_repertoire text, form_of_use text, default_collate_catalog text, \
         default_collate_schema text, default_collate_name text",
    ),
    (
        "role_table_grants",
        13019,
        "grantor text, grantee text, table_catalog text, table_schema text, table_name text, \
         privilege_type text, is_grantable text, with_hierarchy text",
    ),
    (
        "routines",
        13020,
        "specific_catalog text, specific_schema text, specific_name text, routine_catalog text, \
         routine_schema text, routine_name text, routine_type text, data_type text, routine_definition text",
    ),
    (
        "parameters",
        13021,
        "specific_catalog text, specific_schema text, specific_name text, ordinal_position int4, \
         parameter_mode text, parameter_name text, data_type text",
    ),
    (
        "sequences",
        13022,
        "sequence_catalog text, sequence_schema text, sequence_name text, data_type text, \
         numeric_precision int4, numeric_precision_radix int4, numeric_scale int4, start_value text, \
         minimum_value text, maximum_value text, increment text, cycle_option text",
    ),
];

/// Those of `ms_catalog`.
const MS: &[(&str, u32, &str)] = &[
    (
        "objects",
        13510,
        "id oid, schema_name text, name text, kind text, created timestamptz, depends_on oid[], sql text",
    ),
    (
        "sources",
        13511,
        "id oid, schema_name text, name text, connector text, format text, options text, lag int8, trouble text",
    ),
    ("watermarks", 13512, "id oid, schema_name text, name text, partition text, watermark timestamptz, held_by text"),
    (
        "offsets",
        13513,
        "id oid, schema_name text, name text, partition text, start_offset int8, next_offset int8, lag int8",
    ),
    ("epochs", 13514, "epoch int8, committed timestamptz, changes int8, bytes int8, work_ms float8, commit_ms float8"),
    (
        "operators",
        13515,
        "id oid, schema_name text, name text, node int4, inputs int4[], operator text, views int4, since timestamptz, \
         rows_in int8, rows_out int8, busy_ms float8, state_bytes int8",
    ),
    (
        "jobs",
        13516,
        "id oid, schema_name text, name text, job text, begun timestamptz, rows int8, rows_total int8, trouble text",
    ),
    (
        "subscriptions",
        13518,
        "id oid, schema_name text, name text, relation text, epoch int8, acknowledged bool, overtaken bool, \
         retention_ms int8, kept_since timestamptz, kept_bytes int8",
    ),
    ("sinks", 13517, "id oid, schema_name text, name text, connector text, options text, rows_out int8"),
];

//! The types that Postgres clients ask `pg_type` and `format_type` about: those that columns can have, and those that
//! clients load before they look at any column.

/// A row of `pg_type`, and its array type's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownType {
    /// `typname`.
    pub name: &'static str,
    /// What `format_type` shows, without a modifier.
    pub shown: &'static str,
    /// Its OID.
    pub oid: u32,
    /// The OID of its array type; 0: it has none.
    pub array: u32,
    /// Bytes, -1 for variable length.
    pub length: i16,
    /// `typcategory`.
    pub category: char,
    /// `typispreferred`.
    pub preferred: bool,
    /// The OID of its binary input function; 0: it has none.
    pub receive: u32,
    /// The name of that function.
    pub receive_name: &'static str,
    /// `typalign`.
    pub align: char,
    /// `typstorage`.
    pub storage: char,
}

/// The OID of `array_recv`, the binary input function of every array type.
pub const ARRAY_RECEIVE: u32 = 2400;
/// The function that reads the text form of arrays.
pub const ARRAY_INPUT: u32 = 750;

/// The functions that types name, by OID; some more than once.
pub fn functions() -> impl Iterator<Item = (u32, &'static str)> {
    let arrays = [(ARRAY_RECEIVE, "array_recv"), (ARRAY_INPUT, "array_in")];
    arrays.into_iter().chain(TYPES.iter().map(|known| (known.receive, known.receive_name)))
}

/// The type with this OID, or the item type of the array type with this OID (then `true`).
pub fn find(oid: u32) -> Option<(&'static KnownType, bool)> {
    let known = TYPES.iter().find(|t| t.oid == oid || (t.array == oid && oid != 0))?;
    Some((known, known.oid != oid))
}

/// The type with this name, in `pg_type`'s or in SQL's spelling.
pub fn named(name: &str) -> Option<&'static KnownType> {
    let short = match name {
        "int" => "int4",
        "decimal" => "numeric",
        "timestamp" => "timestamp",
        "time" => "time",
        other => other,
    };
    TYPES.iter().find(|t| t.name == short || t.shown == short)
}

/// What `format_type` shows for a type and a modifier (below 0: none).
pub fn format(oid: u32, modifier: i32) -> Option<String> {
    let (known, is_array) = find(oid)?;
    let arguments = match known.name {
        "varchar" | "bpchar" if modifier >= 4 => format!("({})", modifier - 4),
        "numeric" if modifier >= 4 => {
            let packed = modifier - 4;
            format!("({},{})", (packed >> 16) & 0xffff, packed & 0x7ff)
        }
        _ => String::new(),
    };
    let brackets = if is_array { "[]" } else { "" };
    Some(format!("{}{arguments}{brackets}", known.shown))
}

/// One line for each type, in the order of OIDs, pseudo-types last.
#[rustfmt::skip]
pub const TYPES: &[KnownType] = &[
    known("bool", "boolean", 16, 1000, 1, 'B', true, (2436, "boolrecv"), ('c', 'p')),
    known("bytea", "bytea", 17, 1001, -1, 'U', false, (2412, "bytearecv"), ('i', 'x')),
    known("char", "\"char\"", 18, 1002, 1, 'Z', false, (2434, "charrecv"), ('c', 'p')),
    known("name", "name", 19, 1003, 64, 'S', false, (2422, "namerecv"), ('c', 'p')),
    known("int8", "bigint", 20, 1016, 8, 'N', false, (2408, "int8recv"), ('d', 'p')),
    known("int2", "smallint", 21, 1005, 2, 'N', false, (2404, "int2recv"), ('s', 'p')),
    known("int2vector", "int2vector", 22, 1006, -1, 'A', false, (2410, "int2vectorrecv"), ('i', 'p')),
    known("int4", "integer", 23, 1007, 4, 'N', false, (2406, "int4recv"), ('i', 'p')),
    known("regproc", "regproc", 24, 1008, 4, 'N', false, (2444, "regprocrecv"), ('i', 'p')),
    known("text", "text", 25, 1009, -1, 'S', true, (2414, "textrecv"), ('i', 'x')),
    known("oid", "oid", 26, 1028, 4, 'N', true, (2418, "oidrecv"), ('i', 'p')),
    known("tid", "tid", 27, 1010, 6, 'U', false, (2438, "tidrecv"), ('s', 'p')),
    known("xid", "xid", 28, 1011, 4, 'U', false, (2440, "xidrecv"), ('i', 'p')),
    known("cid", "cid", 29, 1012, 4, 'U', false, (2442, "cidrecv"), ('i', 'p')),
    known("oidvector", "oidvector", 30, 1013, -1, 'A', false, (2420, "oidvectorrecv"), ('i', 'p')),
    known("json", "json", 114, 199, -1, 'U', false, (323, "json_recv"), ('i', 'x')),
    known("xml", "xml", 142, 143, -1, 'U', false, (2898, "xml_recv"), ('i', 'x')),
    known("float4", "real", 700, 1021, 4, 'N', false, (2424, "float4recv"), ('i', 'p')),
    known("float8", "double precision", 701, 1022, 8, 'N', true, (2426, "float8recv"), ('d', 'p')),
    known("money", "money", 790, 791, 8, 'N', false, (2492, "cash_recv"), ('d', 'p')),
    known("inet", "inet", 869, 1041, -1, 'I', true, (2496, "inet_recv"), ('i', 'm')),
    known("aclitem", "aclitem", 1033, 1034, 12, 'U', false, (0, ""), ('i', 'p')),
    known("bpchar", "character", 1042, 1014, -1, 'S', false, (2430, "bpcharrecv"), ('i', 'x')),
    known("varchar", "character varying", 1043, 1015, -1, 'S', false, (2432, "varcharrecv"), ('i', 'x')),
    known("date", "date", 1082, 1182, 4, 'D', false, (2468, "date_recv"), ('i', 'p')),
    known("time", "time without time zone", 1083, 1183, 8, 'D', false, (2470, "time_recv"), ('d', 'p')),
    known("timestamp", "timestamp without time zone", 1114, 1115, 8, 'D', false, (2474, "timestamp_recv"), ('d', 'p')),
    known("timestamptz", "timestamp with time zone", 1184, 1185, 8, 'D', true, (2476, "timestamptz_recv"), ('d', 'p')),
    known("interval", "interval", 1186, 1187, 16, 'T', true, (2478, "interval_recv"), ('d', 'p')),
    known("timetz", "time with time zone", 1266, 1270, 12, 'D', false, (2472, "timetz_recv"), ('d', 'p')),
    known("bit", "bit", 1560, 1561, -1, 'V', false, (2456, "bit_recv"), ('i', 'x')),
    known("varbit", "bit varying", 1562, 1563, -1, 'V', true, (2458, "varbit_recv"), ('i', 'x')),
    known("numeric", "numeric", 1700, 1231, -1, 'N', false, (2460, "numeric_recv"), ('i', 'm')),
    known("refcursor", "refcursor", 1790, 2201, -1, 'U', false, (2414, "textrecv"), ('i', 'x')),
    known("regclass", "regclass", 2205, 2210, 4, 'N', false, (2452, "regclassrecv"), ('i', 'p')),
    known("regtype", "regtype", 2206, 2211, 4, 'N', false, (2454, "regtyperecv"), ('i', 'p')),
    known("uuid", "uuid", 2950, 2951, 16, 'U', false, (2961, "uuid_recv"), ('c', 'p')),
    known("jsonb", "jsonb", 3802, 3807, -1, 'U', false, (3805, "jsonb_recv"), ('i', 'x')),
    known("regnamespace", "regnamespace", 4089, 4090, 4, 'N', false, (4087, "regnamespacerecv"), ('i', 'p')),
    known("regrole", "regrole", 4096, 4097, 4, 'N', false, (4094, "regrolerecv"), ('i', 'p')),
    known("pg_node_tree", "pg_node_tree", 194, 0, -1, 'Z', false, (198, "pg_node_tree_recv"), ('i', 'x')),
    known("unknown", "unknown", 705, 0, -2, 'X', false, (2416, "unknownrecv"), ('c', 'p')),
    known("record", "record", 2249, 2287, -1, 'P', false, (2402, "record_recv"), ('d', 'x')),
    known("cstring", "cstring", 2275, 1263, -2, 'P', false, (2500, "cstring_recv"), ('c', 'p')),
    known("any", "\"any\"", 2276, 0, 4, 'P', false, (0, ""), ('i', 'p')),
    known("anyarray", "anyarray", 2277, 0, -1, 'P', false, (2502, "anyarray_recv"), ('d', 'x')),
    known("void", "void", 2278, 0, 4, 'P', false, (3120, "void_recv"), ('i', 'p')),
    known("trigger", "trigger", 2279, 0, 4, 'P', false, (0, ""), ('i', 'p')),
    known("anyelement", "anyelement", 2283, 0, 4, 'P', false, (0, ""), ('i', 'p')),
];

/// A line of [`TYPES`]: name, shown, OID, array, length, category, preferred, receive function, alignment and storage.
#[allow(clippy::too_many_arguments)] // a line of a table
const fn known(
    name: &'static str,
    shown: &'static str,
    oid: u32,
    array: u32,
    length: i16,
    category: char,
    preferred: bool,
    (receive, receive_name): (u32, &'static str),
    (align, storage): (char, char),
) -> KnownType {
    KnownType { name, shown, oid, array, length, category, preferred, receive, receive_name, align, storage }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_shown_as_postgres_shows_them() {
        assert_eq!(format(1043, 24).as_deref(), Some("character varying(20)"));
        assert_eq!(format(1700, 655366).as_deref(), Some("numeric(10,2)"));
        assert_eq!(format(1009, -1).as_deref(), Some("text[]"));
        assert_eq!(format(1184, -1).as_deref(), Some("timestamp with time zone"));
        assert_eq!(format(1, -1), None);
        assert_eq!(named("int").map(|t| t.oid), Some(23));
    }
}

//! Which settings there are: name, kind, default. The values that a session sets are its own (`session::settings`).

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Its name as Postgres writes it; looked up without regard to case.
    pub name: &'static str,
    /// Which values it takes.
    pub kind: SettingKind,
    /// Its value when nobody set it.
    pub default: &'static str,
    /// Whether a session may set it.
    pub access: Access,
    /// Whether clients are told of each change (ParameterStatus).
    pub reported: bool,
    /// What it is for.
    pub description: &'static str,
}

/// The kinds of setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SettingKind {
    /// `on` or `off`.
    Bool,
    /// A whole number within bounds.
    Integer(i64, i64),
    /// A time, kept in milliseconds; 0 is never.
    Milliseconds,
    /// One of these words.
    Enum(&'static [&'static str]),
    /// Any text.
    Text,
    /// A time zone.
    TimeZone,
    /// A list of names.
    Names,
}

/// Who may change a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A session, for itself.
    Session,
    /// Nobody: it tells a fact.
    Fixed,
}

/// What we tell clients that we are; they adapt to it (see `docs`: 13 is what suits most).
pub const SERVER_VERSION: &str = "13.14";

/// What `version()` says: the PostgreSQL that we answer like, and who we are.
pub fn version() -> String {
    let ours = env!("CARGO_PKG_VERSION");
    format!("PostgreSQL {SERVER_VERSION} on x86_64-pc-linux-gnu (Millstream {ours})")
}

/// The setting with this name.
pub fn find(name: &str) -> Option<&'static Definition> {
    SETTINGS.iter().find(|definition| definition.name.eq_ignore_ascii_case(name))
}

const ISOLATION: SettingKind =
    SettingKind::Enum(&["read committed", "repeatable read", "serializable", "read uncommitted"]);
const LEVELS: SettingKind = SettingKind::Enum(&[
    "debug5", "debug4", "debug3", "debug2", "debug1", "debug", "log", "notice", "info", "warning", "error",
]);
const NAME_BYTES: SettingKind = SettingKind::Integer(63, 63);

use Access::Fixed;
use Access::Session;
use SettingKind::Bool;
use SettingKind::Enum;
use SettingKind::Integer;
use SettingKind::Milliseconds;
use SettingKind::Names;
use SettingKind::Text;
use SettingKind::TimeZone;

/// Every setting, by name.
#[rustfmt::skip]
pub const SETTINGS: &[Definition] = &[
    setting("application_name", Text, "", Session, true, "The name that the client gives itself."),
    setting("backslash_quote", Enum(&["safe_encoding", "on", "off"]), "safe_encoding", Session, false, "Accepted for compatibility."),
    setting("bytea_output", Enum(&["hex", "escape"]), "hex", Session, false, "The text form of bytea."),
    setting("check_function_bodies", Bool, "on", Session, false, "Accepted for compatibility."),
    setting("client_encoding", Enum(&["UTF8"]), "UTF8", Session, true, "The encoding of text on the wire."),
    setting("client_min_messages", LEVELS, "notice", Session, false, "The least level of messages sent to the client."),
    setting("DateStyle", Enum(&["ISO, MDY", "ISO, DMY", "ISO, YMD"]), "ISO, MDY", Session, true, "The text form of dates and times."),
    setting("default_table_access_method", Text, "heap", Fixed, false, "How tables are stored."),
    setting("default_tablespace", Text, "", Session, false, "Accepted for compatibility."),
    setting("default_transaction_deferrable", Bool, "off", Session, false, "Accepted for compatibility."),
    setting("default_transaction_isolation", ISOLATION, "read committed", Session, false, "The isolation of new transactions."),
    setting("default_transaction_read_only", Bool, "off", Session, false, "Whether new transactions may only read."),
    setting("extra_float_digits", Integer(-15, 3), "1", Session, false, "Accepted for compatibility: floats are written in full."),
    setting("idle_in_transaction_session_timeout", Milliseconds, "0", Session, false, "Ends a session that idles in a transaction."),
    setting("in_hot_standby", Bool, "off", Fixed, false, "Whether this server is a standby."),
    setting("integer_datetimes", Bool, "on", Fixed, true, "Times are whole microseconds."),
    setting("IntervalStyle", Enum(&["postgres"]), "postgres", Session, true, "The text form of intervals."),
    setting("is_superuser", Bool, "on", Fixed, true, "Whether the session may do everything."),
    setting("jit", Bool, "off", Session, false, "Accepted for compatibility."),
    setting("lc_collate", Text, "C", Fixed, false, "The order of text."),
    setting("lc_ctype", Text, "C.UTF-8", Fixed, false, "The classes of characters."),
    setting("lc_messages", Text, "C", Session, false, "The language of messages."),
    setting("lc_monetary", Text, "C", Session, false, "Accepted for compatibility."),
    setting("lc_numeric", Text, "C", Session, false, "Accepted for compatibility."),
    setting("lc_time", Text, "C", Session, false, "Accepted for compatibility."),
    setting("lock_timeout", Milliseconds, "0", Session, false, "Accepted for compatibility: there are no locks."),
    setting("log_statement", Enum(&["none", "ddl", "mod", "all"]), "none", Session, false, "Accepted for compatibility."),
    setting("max_identifier_length", NAME_BYTES, "63", Fixed, false, "Bytes of a name."),
    setting("max_index_keys", Integer(32, 32), "32", Fixed, false, "Columns of an index."),
    setting("row_security", Bool, "on", Session, false, "Accepted for compatibility."),
    setting("search_path", Names, "public", Session, false, "The schemas that unqualified names are looked for in."),
    setting("server_encoding", Enum(&["UTF8"]), "UTF8", Fixed, true, "The encoding of stored text."),
    setting("server_version", Text, SERVER_VERSION, Fixed, true, "The version of PostgreSQL that this server answers like."),
    setting("server_version_num", Integer(130_014, 130_014), "130014", Fixed, false, "The same as a number."),
    setting("session_replication_role", Enum(&["origin", "replica", "local"]), "origin", Session, false, "Accepted for compatibility."),
    setting("ssl", Bool, "off", Fixed, false, "Whether connections can be encrypted."),
    setting("standard_conforming_strings", Bool, "on", Session, true, "Backslashes in plain strings are ordinary."),
    setting("statement_timeout", Milliseconds, "0", Session, false, "Cancels a statement that takes longer."),
    setting("strict_errors", Bool, "off", Session, false, "Whether reading a view with rows in its errors relation fails."),
    setting("synchronous_commit", Enum(&["on", "off", "local", "remote_write", "remote_apply"]), "on", Session, false, "Whether an acknowledged write is on disk."),
    setting("TimeZone", TimeZone, "UTC", Session, true, "The time zone of timestamptz in text."),
    setting("transaction_isolation", ISOLATION, "read committed", Session, false, "The isolation of the current transaction."),
    setting("transaction_read_only", Bool, "off", Session, false, "Whether the current transaction may only read."),
    setting("work_mem", Text, "4MB", Session, false, "Accepted for compatibility."),
];

const fn setting(
    name: &'static str,
    kind: SettingKind,
    default: &'static str,
    access: Access,
    reported: bool,
    description: &'static str,
) -> Definition {
    Definition { name, kind, default, access, reported, description }
}

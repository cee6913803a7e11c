//! The one error type: what is wrong, where, and what to do, with the SQLSTATE that Postgres would give.

use std::fmt;

/// A result whose error can be shown to a client as it is.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error as a Postgres client sees it: lower-case primary message without a period, optional detail and hint in
/// sentences, and the place in the statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What class of error this is; decides the SQLSTATE.
    pub kind: Kind,
    /// The primary message.
    pub message: String,
    /// More about this occurrence, in sentences.
    pub detail: Option<String>,
    /// What to do about it, in sentences.
    pub hint: Option<String>,
    /// 1-based position in the statement's text, in characters.
    pub position: Option<usize>,
    /// Where in the data that came with the statement (`COPY t, line 3`).
    pub context: Option<Box<str>>,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $state:literal, $make:ident;)*) => {
        /// The classes of error that are told apart, each with its SQLSTATE.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// The five characters that clients switch on.
            pub fn sqlstate(self) -> &'static str {
                match self { $(Kind::$name => $state,)* }
            }
        }

        impl Error {
            $($(#[$doc])* pub fn $make(message: impl Into<String>) -> Error { Error::new(Kind::$name, message) })*
        }
    };
}

kinds! {
    /// Something that Millstream cannot do (yet).
    Unsupported = "0A000", unsupported;
    /// A connection that names no user.
    InvalidAuthorization = "28000", invalid_authorization;
    /// The client broke the wire protocol.
    Protocol = "08P01", protocol;
    /// Two rows for one primary key.
    UniqueViolation = "23505", unique_violation;
    /// NULL for a column that forbids it.
    NotNullViolation = "23502", not_null_violation;
    /// A string does not fit its declared length.
    StringTooLong = "22001", string_too_long;
    /// A number does not fit its type.
    OutOfRange = "22003", out_of_range;
    /// A date or timestamp does not fit its type.
    DatetimeOverflow = "22008", datetime_overflow;
    /// A field of an interval does not fit it.
    IntervalOverflow = "22015", interval_overflow;
    /// A time zone further from UTC than there are.
    ZoneDisplacement = "22009", zone_displacement;
    /// A date or time that cannot be read.
    InvalidDatetime = "22007", invalid_datetime;
    /// Division by zero.
    DivisionByZero = "22012", division_by_zero;
    /// A regular expression that cannot be compiled.
    InvalidRegex = "2201B", invalid_regex;
    /// The square root of a negative number, or a power that has no value.
    InvalidPower = "2201F", invalid_power;
    /// The logarithm of zero or of a negative number.
    InvalidLogarithm = "2201E", invalid_logarithm;
    /// LIMIT of a negative number.
    InvalidLimit = "2201W", invalid_limit;
    /// OFFSET of a negative number.
    InvalidOffset = "2201X", invalid_offset;
    /// A part of a text of negative length.
    InvalidSubstring = "22011", invalid_substring;
    /// A pattern that ends in its escape character.
    InvalidEscape = "22025", invalid_escape;
    /// An argument outside of what a function accepts.
    InvalidParameter = "22023", invalid_parameter;
    /// Text that is no value of the type asked for.
    InvalidText = "22P02", invalid_text;
    /// Text that is not UTF-8.
    InvalidEncoding = "22021", invalid_encoding;
    /// Data of a COPY that are not in the format it says.
    BadCopyFormat = "22P04", bad_copy_format;
    /// Binary data that is no value of the type asked for.
    InvalidBinary = "22P03", invalid_binary;
    /// A statement that needs a transaction, or none, in the wrong place.
    ActiveTransaction = "25001", active_transaction;
    /// A statement after an error in a transaction.
    FailedTransaction = "25P02", failed_transaction;
    /// COMMIT or the like without BEGIN (a warning in Postgres).
    NoTransaction = "25P01", no_transaction;
    /// A transaction in which nothing happened for too long.
    IdleInTransaction = "25P03", idle_in_transaction;
    /// A write in a read-only transaction.
    ReadOnlyTransaction = "25006", read_only_transaction;
    /// A savepoint that does not exist.
    InvalidSavepoint = "3B001", invalid_savepoint;
    /// A prepared statement that does not exist.
    UndefinedStatement = "26000", undefined_statement;
    /// A cursor or portal that exists already.
    DuplicateCursor = "42P03", duplicate_cursor;
    /// A cursor or portal that does not exist.
    UndefinedCursor = "34000", undefined_cursor;
    /// What a scalar subquery returned more than once.
    Cardinality = "21000", cardinality;
    /// Another session changed what this transaction wrote.
    Serialization = "40001", serialization;
    /// Text that does not parse.
    Syntax = "42601", syntax;
    /// Two tables of one name in FROM.
    DuplicateAlias = "42712", duplicate_alias;
    /// A column that does not exist.
    UndefinedColumn = "42703", undefined_column;
    /// A function or operator that does not exist for these arguments.
    UndefinedFunction = "42883", undefined_function;
    /// A table, view or source that does not exist.
    UndefinedTable = "42P01", undefined_table;
    /// Some other object, or a setting, that does not exist.
    UndefinedObject = "42704", undefined_object;
    /// A parameter `$n` that was not given.
    UndefinedParameter = "42P02", undefined_parameter;
    /// A schema that does not exist.
    UndefinedSchema = "3F000", undefined_schema;
    /// A database that does not exist.
    UndefinedDatabase = "3D000", undefined_database;
    /// A name that exists already.
    DuplicateTable = "42P07", duplicate_table;
    /// A schema that exists already.
    DuplicateSchema = "42P06", duplicate_schema;
    /// A column named twice.
    DuplicateColumn = "42701", duplicate_column;
    /// A prepared statement that exists already.
    DuplicateStatement = "42P05", duplicate_statement;
    /// A name that could mean two things.
    Ambiguous = "42702", ambiguous;
    /// Types that do not go together.
    TypeMismatch = "42804", type_mismatch;
    /// A cast that does not exist.
    CannotCoerce = "42846", cannot_coerce;
    /// A column list that names no unique key, or a column that cannot be named there.
    InvalidColumnReference = "42P10", invalid_column_reference;
    /// A parameter whose type cannot be told.
    IndeterminateType = "42P18", indeterminate_type;
    /// A column outside GROUP BY and aggregates.
    Grouping = "42803", grouping;
    /// The object is of another kind than the statement wants.
    WrongObjectType = "42809", wrong_object_type;
    /// A table with more than one primary key.
    InvalidTableDefinition = "42P16", invalid_table_definition;
    /// A table, source or view definition that cannot be.
    InvalidDefinition = "42P17", invalid_definition;
    /// Not yet in the state that the statement needs.
    NotReady = "55000", not_ready;
    /// An epoch whose changes are no longer kept.
    SnapshotTooOld = "72000", snapshot_too_old;
    /// Others depend on what was to be dropped.
    DependentObjects = "2BP01", dependent_objects;
    /// The disk is full.
    DiskFull = "53100", disk_full;
    /// Memory is used up.
    OutOfMemory = "53200", out_of_memory;
    /// Too many clients.
    TooManyConnections = "53300", too_many_connections;
    /// So much is under way that no more of it is begun.
    TooBusy = "53400", too_busy;
    /// A value that no text can hold.
    LimitExceeded = "54000", limit_exceeded;
    /// The statement is larger or deeper than is accepted.
    TooComplex = "54001", too_complex;
    /// Cancelled by the user or a timeout.
    Cancelled = "57014", cancelled;
    /// The server is going down.
    Shutdown = "57P01", shutdown;
    /// A file or device failed.
    Io = "58030", io;
    /// What lies on disk is damaged.
    Corrupted = "XX001", corrupted;
    /// A defect of ours.
    Internal = "XX000", internal;
}

impl Error {
    /// An error of the given kind with its primary message.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), detail: None, hint: None, position: None, context: None }
    }

    /// Adds the DETAIL line.
    pub fn detail(mut self, detail: impl Into<String>) -> Error {
        self.detail = Some(detail.into());
        self
    }

    /// Adds the HINT line.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// Adds where in the data that came with the statement.
    pub fn context(mut self, context: impl Into<Box<str>>) -> Error {
        self.context = Some(context.into());
        self
    }

    /// Adds the place: 1-based, in characters of the statement.
    pub fn at(mut self, position: usize) -> Error {
        self.position = Some(position);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        let kind = match error.kind() {
            std::io::ErrorKind::StorageFull => Kind::DiskFull,
            _ => Kind::Io,
        };
        Error::new(kind, error.to_string())
    }
}

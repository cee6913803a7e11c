//! The syntax tree: `sqlparser`'s for queries and DML, our own for everything else.

use sqlparser::ast::{DataType, Delete, Expr, Ident, Insert, ObjectName, Query, Update};

use crate::sql::bound::{Fetch, SettingStatement, TransactionStatement};

/// A parsed statement.
#[derive(Clone, Debug)]
pub enum Statement {
    /// Nothing but blanks and comments.
    Empty,
    Query(Box<Query>),
    Subscribe(Box<Subscribe>),
    Insert(Box<Insert>),
    Update(Box<Update>),
    Delete(Box<Delete>),
    Truncate(Vec<ObjectName>),
    CreateTable(Box<CreateTable>),
    CreateSource(Box<CreateSource>),
    CreateView(Box<CreateView>),
    CreateMaterializedView(Box<CreateView>),
    CreateSink(Box<CreateSink>),
    CreateSubscription(Box<CreateSubscription>),
    Advance(Advance),
    Drop(Drop),
    CreateSchema {
        name: Ident,
        if_not_exists: bool,
    },
    DropSchema {
        names: Vec<Ident>,
        if_exists: bool,
        cascade: bool,
    },
    Explain {
        query: Box<Query>,
        analyze: bool,
    },
    ExplainView {
        name: ObjectName,
        analyze: bool,
    },
    Transaction(TransactionStatement),
    Setting(SettingStatement),
    Flush,
    /// `statement` is the text after AS.
    Prepare {
        name: String,
        types: Vec<DataType>,
        statement: String,
    },
    Execute {
        name: String,
        arguments: Vec<Expr>,
    },
    Deallocate(Option<String>),
    DiscardAll,
    Declare(Declare),
    Fetch(Fetch),
    /// `None`: all cursors.
    Close(Option<String>),
    CopyTo(Box<Copy>),
    CopyFrom(Box<Copy>),
    Nothing {
        tag: &'static str,
        notice: Option<String>,
    },
}

/// `DECLARE name [BINARY] [SCROLL] CURSOR [WITH HOLD] FOR query`.
#[derive(Clone, Debug)]
pub struct Declare {
    pub name: String,
    pub binary: bool,
    pub hold: bool,
    pub scroll: bool,
    pub query: Box<Statement>,
}

/// `COPY ... TO STDOUT` or `COPY ... FROM STDIN`.
#[derive(Clone, Debug)]
pub struct Copy {
    pub what: Copied,
    pub options: Vec<CopyOption>,
}

/// What COPY copies.
#[derive(Clone, Debug)]
pub enum Copied {
    /// No columns: all of them.
    Table {
        name: ObjectName,
        columns: Vec<Ident>,
    },
    Statement(Box<Statement>),
}

/// An option of COPY.
#[derive(Clone, Debug)]
pub struct CopyOption {
    pub name: String,
    pub value: CopyValue,
    /// 1-based position, in characters of the statement.
    pub position: usize,
}

/// The value of an option of COPY.
#[derive(Clone, Debug)]
pub enum CopyValue {
    None,
    Text(String),
    Columns(Vec<Ident>),
    /// `*`
    All,
}

/// `SUBSCRIBE [TO] relation | (query) [WITH (...)] [AS OF epoch]`.
#[derive(Clone, Debug)]
pub struct Subscribe {
    pub target: SubscribeTarget,
    pub options: Vec<OptionValue>,
    pub as_of: Option<AsOf>,
}

/// Whose changes are meant.
#[derive(Clone, Debug)]
pub enum SubscribeTarget {
    Relation(ObjectName),
    Query(Box<Query>),
}

/// `AS OF epoch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsOf {
    pub epoch: u64,
    /// 1-based position of the number, in characters of the statement.
    pub position: usize,
}

/// `CREATE TABLE`.
#[derive(Clone, Debug)]
pub struct CreateTable {
    pub name: ObjectName,
    pub if_not_exists: bool,
    pub columns: Vec<ColumnDefinition>,
    /// The column lists of PRIMARY KEY clauses; at most one is right.
    pub primary_keys: Vec<Vec<Ident>>,
    pub watermarks: Vec<WatermarkDefinition>,
    pub append_only: bool,
    pub includes: Vec<Include>,
    pub options: Vec<OptionValue>,
    /// FORMAT and ENCODE of a stored source.
    pub format: Option<FormatClause>,
}

/// `CREATE SOURCE`.
#[derive(Clone, Debug)]
pub struct CreateSource {
    pub name: ObjectName,
    pub if_not_exists: bool,
    pub columns: Vec<ColumnDefinition>,
    pub primary_keys: Vec<Vec<Ident>>,
    pub watermarks: Vec<WatermarkDefinition>,
    pub includes: Vec<Include>,
    pub options: Vec<OptionValue>,
    /// FORMAT and ENCODE, folded to lower case, with their position.
    pub format: Option<FormatClause>,
}

/// `FORMAT f ENCODE e [(...)]`, in lower case.
#[derive(Clone, Debug)]
pub struct FormatClause {
    pub format: String,
    pub encode: String,
    /// What follows in parentheses.
    pub options: Vec<OptionValue>,
    /// 1-based position of FORMAT, in characters of the statement.
    pub position: usize,
}

/// A column in the list of a CREATE.
#[derive(Clone, Debug)]
pub struct ColumnDefinition {
    pub name: Ident,
    pub data_type: DataType,
    /// 1-based position of the type, in characters of the statement.
    pub type_position: usize,
    pub not_null: bool,
    pub default: Option<Snippet>,
    /// `c TYPE AS expr`.
    pub computed: Option<Snippet>,
}

/// A piece of the statement's text that is kept as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    pub text: String,
    /// Where it begins in the statement, in characters from 0.
    pub offset: usize,
}

/// `WATERMARK FOR column AS expression`.
#[derive(Clone, Debug)]
pub struct WatermarkDefinition {
    pub column: Ident,
    pub expression: Snippet,
}

/// One item of `INCLUDE`.
#[derive(Clone, Debug)]
pub struct Include {
    /// `key`, `partition`, `offset`, `timestamp`, `headers` or `file`.
    pub what: &'static str,
    pub name: Option<Ident>,
    /// What a key is to be read as.
    pub data_type: Option<DataType>,
}

/// One item of `WITH (...)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionValue {
    pub key: String,
    pub value: String,
    /// The value as it is written.
    pub written: Snippet,
    /// 1-based position of the key, in characters of the statement.
    pub position: usize,
}

/// `CREATE [MATERIALIZED] VIEW`.
#[derive(Clone, Debug)]
pub struct CreateView {
    pub name: ObjectName,
    pub or_replace: bool,
    pub if_not_exists: bool,
    /// Names for the query's columns.
    pub columns: Vec<Ident>,
    pub options: Vec<OptionValue>,
    /// Whether it says `EMIT ON WINDOW CLOSE`.
    pub emit_final: bool,
    pub query: Box<Query>,
    /// The query's text.
    pub text: Snippet,
}

/// `CREATE SINK name FROM relation | AS query WITH (...)`.
#[derive(Clone, Debug)]
pub struct CreateSink {
    pub name: ObjectName,
    pub if_not_exists: bool,
    /// What goes out.
    pub from: SubscribeTarget,
    pub options: Vec<OptionValue>,
    /// Whether it says `EMIT ON WINDOW CLOSE`.
    pub emit_final: bool,
}

/// `CREATE SUBSCRIPTION name FROM relation [WITH (...)]`.
#[derive(Clone, Debug)]
pub struct CreateSubscription {
    pub name: ObjectName,
    pub if_not_exists: bool,
    /// Whose changes.
    pub from: ObjectName,
    pub options: Vec<OptionValue>,
}

/// `ALTER SUBSCRIPTION name ADVANCE TO epoch | LATEST`.
#[derive(Clone, Debug)]
pub struct Advance {
    pub name: ObjectName,
    /// `None`: the last committed epoch.
    pub to: Option<AsOf>,
}

/// `DROP`.
#[derive(Clone, Debug)]
pub struct Drop {
    pub kind: DropKind,
    pub if_exists: bool,
    pub names: Vec<ObjectName>,
    pub cascade: bool,
}

/// What a DROP statement says it drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropKind {
    Table,
    Source,
    View,
    MaterializedView,
    Sink,
    Subscription,
}

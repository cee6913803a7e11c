//! A session: one client's settings, transaction and prepared statements, and the way of its statements to the engine.
//!
//! A statement's life here: [`Session::parse`] splits the text; [`Session::run`] binds a statement to the catalog that its
//! transaction sees and executes it; the [`Outcome`] is rows or a command tag. After an error the caller says
//! [`Session::failed`], at the end of the query [`Session::finish`]. Everything that may wait ends by the session's
//! [`Interrupt`], which others hold too.
//!
//! DDL is a transaction of its own. Inside BEGIN ... COMMIT it is refused; among the statements of one query text it
//! commits what came before it.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::catalog::system::DATABASE;
use crate::catalog::system::SCHEMAS;
use crate::catalog::system::SessionFacts;
use crate::catalog::system::session::CursorFacts;
use crate::catalog::system::session::StatementFacts;
use crate::engine::Engine;
use crate::engine::Parameter;
use crate::error::Error;
use crate::error::Result;
use crate::sql;
use crate::sql::BindContext;
use crate::sql::Parsed;
use crate::sql::bound::Bound;
use crate::types::SqlType;

mod copy;
mod cursor;
mod execute;
pub mod interrupt;
pub mod metrics;
pub mod outcome;
pub mod prepared;
pub mod settings;
mod scroll;
mod transaction;

pub use copy::CopyIn;
pub use interrupt::Cause;
pub use interrupt::Interrupt;
pub use metrics::Metrics;
pub use outcome::Notice;
pub use outcome::Outcome;
pub use outcome::RowStream;
pub use outcome::Severity;
pub use outcome::Tag;
pub use prepared::Prepared;
pub use transaction::Status;

use cursor::Cursors;
use metrics::Counted;
use prepared::Cached;
use settings::Settings;
use transaction::State;

/// Who a session is for.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user's name, as the client gave it.
    pub user: String,
    /// The session's number, shown as its process id.
    pub pid: i32,
}

/// One client's session.
pub struct Session {
    /// The database.
    engine: Engine,
    /// Who it is for.
    identity: Identity,
    /// Its settings.
    settings: Settings,
    /// Its transaction.
    state: State,
    /// Prepared statements by name, those of PREPARE and those of the protocol.
    statements: HashMap<String, Arc<Prepared>>,
    /// Its cursors by name.
    cursors: Cursors,
    /// What the client has not been told yet.
    notices: Vec<Notice>,
    /// The values of reported settings that the client knows.
    told: BTreeMap<&'static str, String>,
    /// The version of the settings when that was compared last.
    told_version: Option<u64>,
    /// Ends whatever waits.
    interrupt: Arc<Interrupt>,
    /// Counts it, and what it does.
    counted: Counted,
}

impl Session {
    /// A session for a client that asked for this database with these settings.
    pub fn new(
        engine: Engine,
        identity: Identity,
        database: &str,
        options: &[(String, String)],
        interrupt: Arc<Interrupt>,
        metrics: Arc<Metrics>,
    ) -> Result<Session> {
        if database != DATABASE {
            return Err(Error::undefined_database(format!("database \"{database}\" does not exist"))
                .hint(format!("The database is \"{DATABASE}\".")));
        }
        let mut settings = Settings::default();
        for (name, value) in options {
            settings.set_startup(name, value)?;
        }
        Ok(Session {
            engine,
            identity,
            settings,
            state: State::None,
            statements: HashMap::new(),
            cursors: Cursors::new(),
            notices: Vec::new(),
            told: BTreeMap::new(),
            told_version: None,
            interrupt,
            counted: Counted::new(metrics),
        })
    }

    /// Splits a text into statements; none for blanks and comments.
    pub fn parse(&self, text: &str) -> Result<Vec<Parsed>> {
        sql::parse(text)
    }

    /// Executes a statement. `alone`: no other statement shares its transaction.
    pub async fn run(&mut self, statement: &Parsed, alone: bool) -> Result<Outcome> {
        let bound = Box::pin(self.bind(statement, &[])).await?;
        if !prepared::parameters(&bound).is_empty() {
            return Err(Error::undefined_parameter("there is no parameter $1").hint(
                "Parameters have values in prepared statements: PREPARE name AS ..., then EXECUTE name (value).",
            ));
        }
        self.execute(&bound, &[], alone).await
    }

    /// Prepares a statement under a name; the empty name is free to be used again.
    pub async fn prepare(&mut self, name: &str, text: &str, given: Vec<Option<SqlType>>) -> Result<Arc<Prepared>> {
        self.prepare_from(name, text, given, false).await
    }

    async fn prepare_from(
        &mut self,
        name: &str,
        text: &str,
        given: Vec<Option<SqlType>>,
        from_sql: bool,
    ) -> Result<Arc<Prepared>> {
        if !name.is_empty() && self.statements.contains_key(name) {
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(Error::duplicate_statement(message));
        }
        self.statements.remove(name);
        let mut statements = sql::parse(text)?;
        if statements.len() > 1 {
            return Err(Error::syntax("cannot insert multiple commands into a prepared statement"));
        }
        let prepared = match statements.pop() {
            None => Prepared::empty(),
            Some(parsed) => {
                let catalog = self.catalog();
                let bound = Arc::new(Box::pin(self.bind(&parsed, &given)).await?);
                let columns = self.columns(&bound);
                let cached = Cached { catalog, settings: self.settings.version(), bound };
                Prepared { from_sql, ..Prepared::new(parsed, given, cached, columns) }
            }
        };
        let prepared = Arc::new(prepared);
        self.statements.insert(name.to_string(), prepared.clone());
        Ok(prepared)
    }

    /// The prepared statement of this name.
    pub fn prepared(&self, name: &str) -> Result<Arc<Prepared>> {
        self.statements.get(name).cloned().ok_or_else(|| match name {
            "" => Error::undefined_statement("unnamed prepared statement does not exist"),
            _ => Error::undefined_statement(format!("prepared statement \"{name}\" does not exist")),
        })
    }

    /// Forgets a prepared statement, if there is one.
    pub fn close(&mut self, name: &str) {
        self.statements.remove(name);
    }

    /// Executes a prepared statement with its parameters.
    pub async fn run_prepared(
        &mut self,
        prepared: &Prepared,
        parameters: &[Parameter],
        alone: bool,
    ) -> Result<Outcome> {
        let Some(parsed) = &prepared.parsed else { return Ok(Outcome::Empty) };
        let (catalog, version) = (self.catalog(), self.settings.version());
        let bound = match prepared.cached(&catalog, version) {
            Some(bound) => self.refuse_after_failure(&bound).map(|()| bound)?,
            None => {
                let bound = Arc::new(Box::pin(self.bind(parsed, &prepared.given)).await?);
                if !matches!(*bound, Bound::Fetch(_)) {
                    prepared.check_columns(&self.columns(&bound))?;
                }
                *prepared.bound.lock() = Some(Cached { catalog, settings: version, bound: bound.clone() });
                bound
            }
        };
        self.execute(&bound, parameters, alone).await
    }

    /// What the client is to be told, once.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Reported settings that changed since the last call; at first all of them.
    pub fn take_reports(&mut self) -> Vec<(&'static str, String)> {
        let mut changed = Vec::new();
        let version = Some(self.settings.version());
        if std::mem::replace(&mut self.told_version, version) == version {
            return changed;
        }
        for (definition, value) in self.settings.all().filter(|(definition, _)| definition.reported) {
            if self.told.get(definition.name).map(String::as_str) != Some(value) {
                changed.push((definition.name, value.to_string()));
            }
        }
        self.told.extend(changed.iter().cloned());
        changed
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Who it is for.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What ends its waits.
    pub fn interrupt(&self) -> &Arc<Interrupt> {
        &self.interrupt
    }

    /// The session as the system relations show it.
    fn facts(&self) -> SessionFacts {
        let changed = self.settings.all().filter(|(definition, value)| definition.default != *value);
        let cursors = self.cursors.iter().map(|(name, cursor)| CursorFacts {
            name: name.clone(),
            sql: cursor.sql.clone(),
            hold: cursor.hold,
            binary: cursor.binary,
            scroll: cursor.scrolls(),
        });
        let mut statements: Vec<StatementFacts> = self
            .statements
            .iter()
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, prepared)| StatementFacts {
                name: name.clone(),
                sql: prepared.parsed.as_ref().map_or_else(String::new, |parsed| parsed.text.clone()),
                parameters: prepared.parameters.clone(),
                from_sql: prepared.from_sql,
            })
            .collect();
        statements.sort_by(|a, b| a.name.cmp(&b.name));
        SessionFacts {
            user: self.identity.user.clone(),
            settings: changed.map(|(definition, value)| (definition.name.to_string(), value.to_string())).collect(),
            cursors: cursors.collect(),
            statements,
        }
    }

    fn notify(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    /// The catalog that the next statement sees.
    fn catalog(&mut self) -> Arc<Catalog> {
        match self.state.open() {
            Some(open) => open.transaction.published().catalog.clone(),
            None => self.engine.published().catalog.clone(),
        }
    }

    /// Resolves a statement; in a failed block only what ends it is let through.
    async fn bind(&mut self, statement: &Parsed, given: &[Option<SqlType>]) -> Result<Bound> {
        let catalog = self.catalog();
        let exists = |schema: &String| catalog.has_schema(schema) || SCHEMAS.contains(&schema.as_str());
        let context = BindContext {
            search_path: self.settings.search_path().into_iter().filter(exists).collect(),
            catalog,
            time_zone: self.settings.get("TimeZone").to_string(),
            user: self.identity.user.clone(),
            pid: self.identity.pid,
            settings: self.settings.to_map(),
            parameter_types: given.to_vec(),
        };
        match self.interrupt.guard(sql::bind_interruptibly(statement, context)).await {
            Ok(bound) => self.refuse_after_failure(&bound).map(|()| bound),
            Err(_) if self.status() == Status::Failed => Err(after_failure()),
            Err(error) => {
                let position = error.position.map(|position| position + statement.offset);
                Err(Error { position, ..error })
            }
        }
    }

    /// In a failed block only what ends it is let through.
    fn refuse_after_failure(&self, bound: &Bound) -> Result<()> {
        match self.status() {
            Status::Failed if !execute::ends_failure(bound) => Err(after_failure()),
            Status::Idle | Status::Block | Status::Failed => Ok(()),
        }
    }

    /// The columns of a statement's rows.
    fn columns(&self, bound: &Bound) -> prepared::Columns {
        match bound {
            Bound::Execute { name, .. } => self.statements.get(name).and_then(|prepared| prepared.columns.clone()),
            Bound::Fetch(fetch) if !fetch.moves => self.cursor_columns(&fetch.cursor),
            other => prepared::columns(other),
        }
    }
}

fn after_failure() -> Error {
    Error::failed_transaction("current transaction is aborted, commands ignored until end of transaction block")
}

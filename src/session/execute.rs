//! Executing a bound statement: each kind goes its way to the engine.

use std::sync::Arc;

use crate::catalog::system::settings::SETTINGS;
use crate::engine::Parameter;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::session::Session;
use crate::session::outcome;
use crate::session::outcome::Notice;
use crate::session::outcome::Outcome;
use crate::session::outcome::Tag;
use crate::session::transaction::State;
use crate::sql::bound::Bound;
use crate::sql::bound::Ddl;
use crate::sql::bound::Dml;
use crate::sql::bound::Query;
use crate::sql::bound::SettingStatement;
use crate::sql::bound::Subscribe;
use crate::sql::bound::TransactionStatement;
use crate::types::Column;
use crate::types::zone::Zone;

/// Whether a statement is let through in a failed block.
pub(super) fn ends_failure(bound: &Bound) -> bool {
    match bound {
        Bound::Transaction(statement) => match statement {
            TransactionStatement::Commit | TransactionStatement::Rollback | TransactionStatement::RollbackTo(_) => true,
            TransactionStatement::Begin { .. }
            | TransactionStatement::Savepoint(_)
            | TransactionStatement::Release(_) => false,
        },
        Bound::Empty => true,
        Bound::Query(_)
        | Bound::Subscribe(_)
        | Bound::Dml(_)
        | Bound::Ddl(_)
        | Bound::Setting(_)
        | Bound::Flush
        | Bound::Advance(_)
        | Bound::Explain { .. }
        | Bound::ExplainView { .. }
        | Bound::Prepare { .. }
        | Bound::Execute { .. }
        | Bound::Deallocate(_)
        | Bound::DiscardAll
        | Bound::Declare { .. }
        | Bound::Fetch(_)
        | Bound::Close(_)
        | Bound::CopyTo { .. }
        | Bound::CopyFrom(_)
        | Bound::Nothing { .. } => false,
    }
}

impl Session {
    /// Executes a bound statement. What most statements do not do is boxed: a future is moved several times before it runs.
    pub(super) async fn execute(&mut self, bound: &Bound, parameters: &[Parameter], alone: bool) -> Result<Outcome> {
        self.counted.0.statement(bound);
        match bound {
            Bound::Empty => Ok(Outcome::Empty),
            Bound::Query(query) => {
                self.share(alone);
                self.read(query, parameters).await
            }
            Bound::Subscribe(subscribe) => Box::pin(self.subscribe(subscribe)).await,
            Bound::Dml(dml) => {
                self.share(alone);
                Box::pin(self.write(dml, parameters)).await
            }
            Bound::Ddl(ddl) => Box::pin(self.ddl(ddl)).await,
            Bound::Transaction(statement) => Box::pin(self.transaction(statement)).await,
            Bound::Setting(setting) => {
                self.share(alone);
                self.setting(setting)
            }
            Bound::Flush => {
                Box::pin(self.outside_block("FLUSH")).await?;
                self.interrupt.guard(Box::pin(self.engine.flush())).await?;
                Ok(Outcome::Command("FLUSH".into()))
            }
            Bound::Advance(advance) => {
                Box::pin(self.outside_block("ALTER SUBSCRIPTION")).await?;
                self.refuse_read_only("ALTER SUBSCRIPTION")?;
                self.interrupt.guard(Box::pin(self.engine.advance(*advance))).await?;
                Ok(Outcome::Command("ALTER SUBSCRIPTION".into()))
            }
            Bound::Explain { query, analyze } => {
                self.share(alone);
                Box::pin(self.explain(query, parameters, *analyze)).await
            }
            Bound::ExplainView { view, analyze } => {
                outcome::table(&["QUERY PLAN"], vec![self.engine.explain_view(*view, *analyze)?])
            }
            Bound::Prepare { name, types, statement } => {
                Box::pin(self.prepare_from(name, statement, types.clone(), true)).await?;
                Ok(Outcome::Command("PREPARE".into()))
            }
            Bound::Execute { name, arguments } => {
                let prepared = self.prepared(name)?;
                let parameters =
                    arguments_of(name, &prepared.parameters, arguments, Zone::parse(self.settings.get("TimeZone"))?)?;
                Box::pin(self.run_prepared(&prepared, &parameters, alone)).await
            }
            Bound::Deallocate(name) => self.deallocate(name.as_deref()),
            Bound::DiscardAll => {
                Box::pin(self.outside_block("DISCARD ALL")).await?;
                self.settings.reset_all();
                self.statements.clear();
                self.cursors.clear();
                Ok(Outcome::Command("DISCARD ALL".into()))
            }
            Bound::Declare { .. } => Box::pin(self.declare(bound, parameters, alone)).await,
            Bound::Fetch(fetch) => {
                self.share(alone);
                Box::pin(self.fetch(fetch)).await
            }
            Bound::Close(name) => self.close_cursors(name.as_deref()),
            Bound::CopyTo { source, options } => Box::pin(self.copy_to(source, options, parameters, alone)).await,
            Bound::CopyFrom(copy) => self.copy_from(copy, alone),
            Bound::Nothing { tag, notice } => {
                self.notices.extend(notice.iter().map(Notice::info));
                Ok(Outcome::Command(tag.to_string()))
            }
        }
    }

    /// A statement beside others shares their transaction.
    pub(super) fn share(&mut self, alone: bool) {
        if !alone {
            self.begin_implicit();
        }
    }

    async fn read(&mut self, query: &Query, parameters: &[Parameter]) -> Result<Outcome> {
        let interrupt = self.interrupt.clone();
        let facts = query.reads_session.then(|| Arc::new(self.facts()));
        let rows = match self.state.open() {
            Some(open) => interrupt.guard(open.transaction.read(query, parameters, facts)).await?,
            None => interrupt.guard(self.engine.read(query, parameters, facts)).await?,
        };
        self.tell_of_errors(&rows.lacking)?;
        Ok(Outcome::Rows {
            columns: query.columns.clone(),
            rows: outcome::stream(rows),
            tag: Tag::Count("SELECT"),
            binary: false,
        })
    }

    /// Says that a read goes over views with rows that could not be computed; under `strict_errors` it fails.
    fn tell_of_errors(&mut self, lacking: &[String]) -> Result<()> {
        let Some(first) = lacking.first() else { return Ok(()) };
        let names = lacking.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let message = format!("rows are missing that could not be computed, of {names}");
        let hint = format!("See them with SELECT * FROM {first}$errors.");
        if self.settings.is_on("strict_errors") {
            return Err(Error::new(Kind::NotReady, message).hint(format!("{hint} SET strict_errors = off to read on.")));
        }
        self.notices.push(Notice::info(format!("{message}: see {first}$errors")));
        Ok(())
    }

    async fn subscribe(&mut self, subscribe: &Subscribe) -> Result<Outcome> {
        let rows = self.interrupt.guard(self.engine.subscribe(subscribe)).await?;
        self.tell_of_errors(&rows.lacking)?;
        let columns = subscribe.columns.as_slice().into();
        Ok(Outcome::Rows { columns, rows: outcome::stream(rows), tag: Tag::Count("SUBSCRIBE"), binary: false })
    }

    async fn write(&mut self, dml: &Dml, parameters: &[Parameter]) -> Result<Outcome> {
        let verb = verb(dml);
        self.refuse_read_only(verb)?;
        let interrupt = self.interrupt.clone();
        let written = match self.state.open() {
            Some(open) => interrupt.guard(open.transaction.write(dml, parameters)).await?,
            None => interrupt.guard(self.engine.write(dml, parameters)).await?,
        };
        let tag = match dml {
            Dml::Insert { .. } => format!("INSERT 0 {}", written.rows),
            Dml::Update { .. } | Dml::Delete { .. } => format!("{verb} {}", written.rows),
            Dml::Truncate { .. } => "TRUNCATE TABLE".to_string(),
        };
        Ok(match (written.returning, returning_columns(dml)) {
            (Some(batch), Some(columns)) => {
                Outcome::Rows { columns, rows: outcome::once(batch), tag: Tag::Fixed(tag), binary: false }
            }
            _ => Outcome::Command(tag),
        })
    }

    /// Refuses what writes in a transaction that is only to read.
    pub(super) fn refuse_read_only(&self, verb: &str) -> Result<()> {
        let default = matches!(self.state, State::None) && self.settings.is_on("default_transaction_read_only");
        if default || self.settings.is_on("transaction_read_only") {
            return Err(Error::read_only_transaction(format!("cannot execute {verb} in a read-only transaction")));
        }
        Ok(())
    }

    async fn ddl(&mut self, ddl: &Ddl) -> Result<Outcome> {
        self.outside_block(ddl_name(ddl)).await?;
        let done = self.engine.ddl(ddl.clone(), self.interrupt.raised()).await?;
        self.notices.extend(done.notices.iter().map(Notice::info));
        Ok(Outcome::Command(done.tag))
    }

    /// For what cannot be part of a transaction: refused in a block, and commits what was implicit.
    async fn outside_block(&mut self, command: &str) -> Result<()> {
        if matches!(self.state, State::Block(_)) {
            let message = format!("{command} cannot run inside a transaction block");
            return Err(Error::active_transaction(message).hint("COMMIT first, or leave BEGIN out."));
        }
        self.finish().await
    }

    async fn explain(&mut self, query: &Query, parameters: &[Parameter], analyze: bool) -> Result<Outcome> {
        let interrupt = self.interrupt.clone();
        let facts = query.reads_session.then(|| Arc::new(self.facts()));
        let lines = match self.state.open() {
            Some(open) => interrupt.guard(open.transaction.explain(query, parameters, facts, analyze)).await?,
            None => interrupt.guard(self.engine.explain(query, parameters, facts, analyze)).await?,
        };
        outcome::table(&["QUERY PLAN"], vec![lines])
    }

    fn setting(&mut self, setting: &SettingStatement) -> Result<Outcome> {
        match setting {
            SettingStatement::Set { name, value, local } => {
                // What is said of a transaction holds for this one only.
                let local = &(*local || name.to_ascii_lowercase().starts_with("transaction_"));
                if *local && matches!(self.state, State::None) {
                    let message = "SET LOCAL can only be used in transaction blocks";
                    self.notices.push(Notice::warning(Kind::NoTransaction, message));
                    self.settings.show(name)?;
                    return Ok(Outcome::Command("SET".into()));
                }
                match value {
                    Some(value) => self.settings.set(name, value, *local)?,
                    None => self.settings.reset(name, *local)?,
                }
                Ok(Outcome::Command("SET".into()))
            }
            SettingStatement::Show(name) => {
                let (name, value) = self.settings.show(name)?;
                let mut answer = outcome::table(&[name], vec![vec![value.to_string()]])?;
                if let Outcome::Rows { tag, .. } = &mut answer {
                    *tag = Tag::Fixed("SHOW".into());
                }
                Ok(answer)
            }
            SettingStatement::ShowAll => {
                let names = SETTINGS.iter().map(|d| d.name.to_string()).collect();
                let values = self.settings.all().map(|(_, value)| value.to_string()).collect();
                let descriptions = SETTINGS.iter().map(|d| d.description.to_string()).collect();
                let mut answer =
                    outcome::table(&["name", "setting", "description"], vec![names, values, descriptions])?;
                if let Outcome::Rows { tag, .. } = &mut answer {
                    *tag = Tag::Fixed("SHOW".into());
                }
                Ok(answer)
            }
            SettingStatement::Reset(name) => {
                match name {
                    Some(name) => self.settings.reset(name, false)?,
                    None => self.settings.reset_all(),
                }
                Ok(Outcome::Command("RESET".into()))
            }
        }
    }

    fn deallocate(&mut self, name: Option<&str>) -> Result<Outcome> {
        match name {
            None => {
                self.statements.clear();
                Ok(Outcome::Command("DEALLOCATE ALL".into()))
            }
            Some(name) => {
                self.prepared(name)?;
                self.close(name);
                Ok(Outcome::Command("DEALLOCATE".into()))
            }
        }
    }
}

/// The values of EXECUTE's arguments, of the types that the statement wants.
fn arguments_of(
    name: &str,
    types: &[crate::types::SqlType],
    arguments: &[crate::sql::bound::Constant],
    zone: Zone,
) -> Result<Vec<Parameter>> {
    if types.len() != arguments.len() {
        let message = format!("wrong number of parameters for prepared statement \"{name}\"");
        let detail = format!("Expected {} parameters but got {}.", types.len(), arguments.len());
        return Err(Error::syntax(message).detail(detail));
    }
    arguments.iter().zip(types).map(|(argument, ty)| crate::sql::bound::constant(argument, ty, zone)).collect()
}

fn verb(dml: &Dml) -> &'static str {
    match dml {
        Dml::Insert { .. } => "INSERT",
        Dml::Update { .. } => "UPDATE",
        Dml::Delete { .. } => "DELETE",
        Dml::Truncate { .. } => "TRUNCATE",
    }
}

fn returning_columns(dml: &Dml) -> Option<Arc<[Column]>> {
    match dml {
        Dml::Insert { returning, .. } | Dml::Update { returning, .. } | Dml::Delete { returning, .. } => {
            returning.as_ref().map(|r| r.columns.as_slice().into())
        }
        Dml::Truncate { .. } => None,
    }
}

fn ddl_name(ddl: &Ddl) -> &'static str {
    match ddl {
        Ddl::CreateTable { .. } => "CREATE TABLE",
        Ddl::CreateSource { .. } => "CREATE SOURCE",
        Ddl::CreateView { .. } => "CREATE VIEW",
        Ddl::CreateMaterializedView { .. } => "CREATE MATERIALIZED VIEW",
        Ddl::CreateSink { .. } => "CREATE SINK",
        Ddl::CreateSubscription { .. } => "CREATE SUBSCRIPTION",
        Ddl::Drop { tag, .. } => tag,
        Ddl::CreateSchema { .. } => "CREATE SCHEMA",
        Ddl::DropSchema { .. } => "DROP SCHEMA",
    }
}

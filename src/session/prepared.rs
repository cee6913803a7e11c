//! Prepared statements: parsed once, bound again only when what exists or what is set has changed.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::catalog::Catalog;
use crate::error::Error;
use crate::error::Result;
use crate::session::outcome::text_columns;
use crate::sql::Parsed;
use crate::sql::bound::Bound;
use crate::sql::bound::Ddl;
use crate::sql::bound::Dml;
use crate::sql::bound::Query;
use crate::sql::bound::SettingStatement;
use crate::sql::bound::SubscribeTarget;
use crate::types::Column;
use crate::types::SqlType;

/// A prepared statement.
#[derive(Debug)]
pub struct Prepared {
    /// The statement; `None`: there is nothing but blanks and comments.
    pub(super) parsed: Option<Parsed>,
    /// The types of `$1`, `$2`, ... that the client gave.
    pub(super) given: Vec<Option<SqlType>>,
    /// The types of `$1`, `$2`, ... as inferred.
    pub parameters: Vec<SqlType>,
    /// The columns of its rows; `None`: it gives none.
    pub columns: Option<Arc<[Column]>>,
    /// Whether PREPARE made it, not the protocol.
    pub(super) from_sql: bool,
    /// The statement as it was bound last.
    pub(super) bound: Mutex<Option<Cached>>,
}

/// A bound statement and what it was bound to.
#[derive(Clone, Debug)]
pub(super) struct Cached {
    /// The catalog snapshot.
    pub(super) catalog: Arc<Catalog>,
    /// The version of the session's settings.
    pub(super) settings: u64,
    /// The result.
    pub(super) bound: Arc<Bound>,
}

impl Prepared {
    /// A statement of nothing.
    pub(super) fn empty() -> Prepared {
        Prepared {
            parsed: None,
            given: Vec::new(),
            parameters: Vec::new(),
            columns: None,
            from_sql: false,
            bound: Mutex::new(None),
        }
    }

    /// A statement with what binding it told.
    pub(super) fn new(parsed: Parsed, given: Vec<Option<SqlType>>, cached: Cached, columns: Columns) -> Prepared {
        Prepared {
            parsed: Some(parsed),
            given,
            parameters: parameters(&cached.bound),
            columns,
            from_sql: false,
            bound: Mutex::new(Some(cached)),
        }
    }

    /// The statement as bound to this catalog and these settings, if it was.
    pub(super) fn cached(&self, catalog: &Arc<Catalog>, settings: u64) -> Option<Arc<Bound>> {
        let cached = self.bound.lock();
        let cached = cached.as_ref()?;
        (Arc::ptr_eq(&cached.catalog, catalog) && cached.settings == settings).then(|| cached.bound.clone())
    }

    /// Refuses a result of other columns than the client was told.
    pub(super) fn check_columns(&self, columns: &Columns) -> Result<()> {
        let types = |columns: &Columns| columns.as_ref().map(|c| c.iter().map(|c| c.ty.clone()).collect::<Vec<_>>());
        match types(&self.columns) == types(columns) {
            true => Ok(()),
            false => {
                Err(Error::unsupported("cached plan must not change result type").hint("Prepare the statement again."))
            }
        }
    }
}

/// The columns of a statement's rows, if it gives rows.
pub(super) type Columns = Option<Arc<[Column]>>;

/// The columns of a bound statement's rows. Those of EXECUTE and FETCH are those of what they name, which the session knows.
pub(super) fn columns(bound: &Bound) -> Columns {
    match bound {
        Bound::Setting(setting) => match setting {
            SettingStatement::Show(name) => {
                let shown = crate::catalog::system::settings::find(name).map_or(name.as_str(), |d| d.name);
                Some(text_columns(&[shown]))
            }
            SettingStatement::ShowAll => Some(text_columns(&["name", "setting", "description"])),
            SettingStatement::Set { .. } | SettingStatement::Reset(_) => None,
        },
        Bound::Explain { .. } | Bound::ExplainView { .. } => Some(text_columns(&["QUERY PLAN"])),
        other => other.columns().map(Arc::from),
    }
}

/// The types of a bound statement's parameters.
pub(super) fn parameters(bound: &Bound) -> Vec<SqlType> {
    let query: Option<&Query> = match bound {
        Bound::Query(query) => Some(query),
        Bound::Declare { query, .. } => return parameters(query),
        Bound::Explain { query, .. } => Some(query),
        Bound::Dml(dml) => match dml {
            Dml::Insert { source, .. } => Some(source),
            Dml::Update { scan, .. } | Dml::Delete { scan, .. } => Some(scan),
            Dml::Truncate { .. } => None,
        },
        Bound::Ddl(ddl) => match ddl {
            Ddl::CreateView { bound, .. }
            | Ddl::CreateMaterializedView { bound, .. }
            | Ddl::CreateSink { bound, .. } => Some(bound),
            Ddl::CreateTable { .. }
            | Ddl::CreateSource { .. }
            | Ddl::CreateSubscription { .. }
            | Ddl::Drop { .. }
            | Ddl::CreateSchema { .. }
            | Ddl::DropSchema { .. } => None,
        },
        Bound::Subscribe(subscribe) => match &subscribe.target {
            SubscribeTarget::Query(query) => Some(query),
            SubscribeTarget::Object(_) | SubscribeTarget::Named(_) => None,
        },
        Bound::Empty
        | Bound::Transaction(_)
        | Bound::Setting(_)
        | Bound::Flush
        | Bound::Advance(_)
        | Bound::ExplainView { .. }
        | Bound::Prepare { .. }
        | Bound::Execute { .. }
        | Bound::Deallocate(_)
        | Bound::DiscardAll
        | Bound::Fetch(_)
        | Bound::Close(_)
        | Bound::CopyTo { .. }
        | Bound::CopyFrom(_)
        | Bound::Nothing { .. } => None,
    };
    query.map_or_else(Vec::new, |query| query.parameters.clone())
}

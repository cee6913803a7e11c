//! A catalog made by statements, and DataFusion beside it with the same tables.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;

use crate::catalog::Catalog;
use crate::catalog::MaterializedView;
use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::catalog::PUBLIC;
use crate::catalog::Table;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::plan;
use crate::plan::Lowered;
use crate::plan::ir::Plan;
use crate::plan::stored;
use crate::sql;
use crate::sql::BindContext;
use crate::sql::bound::Bound;
use crate::sql::bound::Ddl;
use crate::sql::semantics::session_state;
use crate::types::UTC;

/// Tables and views.
pub struct World {
    pub catalog: Catalog,
    pub context: SessionContext,
    runtime: tokio::runtime::Runtime,
}

impl World {
    pub fn new() -> World {
        let context = SessionContext::new_with_state(session_state("UTC").build());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        World { catalog: Catalog::new(), context, runtime }
    }

    /// Runs a CREATE statement; for a view answers its plan.
    pub fn run(&mut self, statement: &str) -> Result<Option<Plan>> {
        let context = BindContext {
            catalog: Arc::new(self.catalog.clone()),
            search_path: vec![PUBLIC.into()],
            time_zone: UTC.into(),
            user: "millstream".into(),
            ..BindContext::default()
        };
        let parsed = sql::parse(statement)?.pop().expect("a statement");
        match sql::bind(&parsed, &context)? {
            Bound::Ddl(Ddl::CreateTable { name, columns, defaults, primary_key, append_only, watermark, .. }) => {
                let table = Table { columns, defaults, primary_key, append_only, watermark, feed: None };
                self.insert(&name.name, ObjectKind::Table(table));
                Ok(None)
            }
            Bound::Ddl(Ddl::CreateMaterializedView { name, query, bound, options, .. }) => {
                let lowered =
                    plan::lower(&bound, &options, self.catalog.next_object, &self.catalog, self.catalog.next_table)?;
                self.catalog.next_table = lowered.next_table;
                let Lowered { plan, storage, .. } = lowered;
                assert_eq!(stored::read(&stored::write(&plan)).unwrap(), plan);
                let view =
                    MaterializedView { columns: bound.columns.to_vec(), query, storage, plan: stored::write(&plan) };
                self.insert(&name.name, ObjectKind::MaterializedView(view));
                Ok(Some(plan))
            }
            other => panic!("{other:?} creates nothing"),
        }
    }

    fn insert(&mut self, name: &str, kind: ObjectKind) {
        let id = self.catalog.next_object;
        let object = Object {
            id,
            schema: PUBLIC.into(),
            name: name.into(),
            sql: String::new(),
            depends_on: BTreeSet::new(),
            created: 0,
            retain_history_ms: None,
            kind,
        };
        self.catalog.insert(object);
    }

    /// Gives DataFusion the rows of a relation.
    pub fn fill(&self, name: &str, rows: RecordBatch) {
        let table = MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap();
        self.context.deregister_table(name).unwrap();
        self.context.register_table(name, Arc::new(table)).unwrap();
    }

    /// DataFusion's own answer.
    pub fn answer(&self, sql: &str) -> Vec<RecordBatch> {
        self.runtime.block_on(async { self.context.sql(sql).await.unwrap().collect().await.unwrap() })
    }

    pub fn id(&self, name: &str) -> ObjectId {
        self.catalog.find(PUBLIC, name).unwrap().id
    }
}

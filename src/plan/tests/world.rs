//! A catalog made by statements, and queries planned over it by plain DataFusion.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;

use crate::catalog::Catalog;
use crate::catalog::MaterializedView;
use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::catalog::PUBLIC;
use crate::catalog::Table;
use crate::catalog::Watermark;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::plan;
use crate::plan::Lowered;
use crate::plan::expr::planning;
use crate::plan::expr::sql_type;
use crate::plan::ir::Plan;
use crate::plan::stored;
use crate::sql::bound::Query;
use crate::sql::bound::RelationRef;
use crate::sql::bound::RelationSource;
use crate::sql::semantics::session_state;
use crate::types::Column;
use crate::types::SqlType;
use crate::types::schema_of;

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
        let statement = statement.trim().trim_end_matches(';');
        if let Some(rest) = statement.strip_prefix("CREATE TABLE ") {
            self.create_table(rest);
            return Ok(None);
        }
        let rest = statement.strip_prefix("CREATE MATERIALIZED VIEW ").expect("a CREATE statement");
        let (name, sql) = rest.split_once(" AS ").expect("CREATE MATERIALIZED VIEW v AS ...");
        let query = self.query(sql)?;
        let lowered = plan::lower(&query, self.catalog.next_object, &self.catalog, self.catalog.next_table)?;
        self.catalog.next_table = lowered.next_table;
        let Lowered { plan, storage, .. } = lowered;
        assert_eq!(stored::read(&stored::write(&plan)).unwrap(), plan);
        let view = MaterializedView { columns: query.columns, query: sql.into(), storage, plan: stored::write(&plan) };
        self.insert(name, ObjectKind::MaterializedView(view));
        Ok(Some(plan))
    }

    /// `name (column type [NOT NULL | PRIMARY KEY], ... [, WATERMARK FOR column]) [APPEND ONLY]`
    fn create_table(&mut self, text: &str) {
        let (name, rest) = text.split_once(" (").unwrap();
        let (body, tail) = rest.rsplit_once(')').unwrap();
        let mut table = Table {
            columns: vec![],
            defaults: vec![],
            primary_key: vec![],
            append_only: tail.contains("APPEND ONLY"),
            watermark: None,
        };
        for item in body.split(", ") {
            let words = item.split(' ').collect::<Vec<_>>();
            if let ["WATERMARK", "FOR", column] = words.as_slice() {
                let column = table.columns.iter().position(|c: &Column| c.name == *column).unwrap();
                table.watermark = Some(Watermark { column, expression: String::new(), idle_timeout_ms: 0 });
                continue;
            }
            if item.ends_with("PRIMARY KEY") {
                table.primary_key.push(table.columns.len());
            }
            let nullable = !item.contains("NOT NULL") && !item.contains("PRIMARY KEY");
            table.columns.push(Column { name: words[0].into(), ty: type_named(words[1]), nullable });
            table.defaults.push(None);
        }
        self.insert(name, ObjectKind::Table(table));
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
            kind,
        };
        let schema = schema_of(object.columns());
        self.fill(name, RecordBatch::new_empty(schema));
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

    /// A query as the binder hands it over: not optimized, its scans those of our relations.
    pub fn query(&self, sql: &str) -> Result<Query> {
        let plan = self.runtime.block_on(self.context.state().create_logical_plan(sql)).map_err(planning)?;
        let plan = plan.transform_up_with_subqueries(|node| {
            let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
            let Some(object) = self.catalog.find(PUBLIC, scan.table_name.table()) else {
                return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
            };
            let relation = RelationRef::Object(object.id);
            scan.source = Arc::new(RelationSource { relation, schema: scan.source.schema() });
            Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
        });
        let plan = plan.map_err(planning)?.data;
        let state = self.context.state();
        let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {}).map_err(planning)?;
        let column = |f: &arrow::datatypes::FieldRef| Ok(Column::new(f.name(), sql_type(f)?));
        let columns = plan.schema().fields().iter().map(column).collect::<Result<_>>()?;
        Ok(Query { plan, columns, reads: BTreeSet::new(), parameters: vec![] })
    }

    pub fn id(&self, name: &str) -> ObjectId {
        self.catalog.find(PUBLIC, name).unwrap().id
    }
}

fn type_named(name: &str) -> SqlType {
    match name {
        "integer" => SqlType::Integer,
        "bigint" => SqlType::BigInt,
        "double" => SqlType::Double,
        "text" => SqlType::Text,
        "boolean" => SqlType::Boolean,
        "timestamp" => SqlType::Timestamp,
        "numeric" => SqlType::Numeric { precision: 18, scale: 2 },
        other => panic!("no type {other}"),
    }
}

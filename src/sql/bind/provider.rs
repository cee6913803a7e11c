//! What DataFusion's planner asks for while it plans: relations from the catalog snapshot, functions from the state.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::catalog::default_table_source::provider_as_source;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, Result, TableReference};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF};

use crate::catalog::system;
use crate::catalog::system::CatalogNames;
use crate::catalog::{Object, ObjectKind};
use crate::error::Error;
use crate::functions;
use crate::functions::catalog::CatalogContext;
use crate::ids::ObjectId;
use crate::sql::BindContext;
use crate::sql::bind::error::{convert, noted};
use crate::sql::bind::names::{Relation, resolve};
use crate::sql::bind::query;
use crate::sql::bind::types::Types;
use crate::sql::bind::windows::WindowPlanner;
use crate::sql::bound::{RelationRef, RelationSource};
use crate::sql::parse::text::Text;
use crate::sql::stack::on_large_stack;
use crate::types::schema_of;

/// How many views may stand on each other.
const VIEW_DEPTH_MAX: usize = 64;

/// The planner's window on the world.
pub struct Provider<'a> {
    /// Catalog, search path, settings.
    pub context: &'a BindContext,
    /// The statement, to place errors in it; there is none inside a view.
    pub text: Option<&'a Text<'a>>,
    /// Functions and options.
    pub state: Arc<SessionState>,
    /// Relations that only this statement has, by name (the target of an UPDATE with its hidden columns).
    pub extra: Vec<(&'static str, Arc<dyn TableSource>)>,
    /// How many views we are in.
    pub view_depth: usize,
    /// The plain views that were put in.
    pub views: RefCell<BTreeSet<ObjectId>>,
    /// What the functions of `pg_catalog` answer from.
    catalog_context: Arc<CatalogContext>,
    relation_planners: Vec<Arc<dyn RelationPlanner>>,
}

impl<'a> Provider<'a> {
    /// A provider with nothing extra.
    pub fn new(context: &'a BindContext, state: Arc<SessionState>, text: Option<&'a Text<'a>>) -> Provider<'a> {
        Provider {
            context,
            text,
            state,
            extra: Vec::new(),
            view_depth: 0,
            views: RefCell::default(),
            catalog_context: Arc::new(catalog_context(context)),
            relation_planners: vec![Arc::new(WindowPlanner)],
        }
    }

    /// An error of DataFusion's planner, placed where it says.
    pub fn fail(&self, error: DataFusionError) -> Error {
        let position = self.text.and_then(|text| noted(&error, text));
        let mut error = convert(error);
        error.position = error.position.or(position);
        error
    }

    /// The source that stands for an object; a plain view's query is planned and put in its place.
    fn source(&self, object: &Object) -> crate::error::Result<Arc<dyn TableSource>> {
        if let ObjectKind::View(view) = &object.kind {
            if self.view_depth >= VIEW_DEPTH_MAX {
                return Err(Error::too_complex(format!("views are nested more than {VIEW_DEPTH_MAX} deep")));
            }
            let (state, depth) = (self.state.clone(), self.view_depth + 1);
            // Its names mean what they meant when it was created.
            let context = BindContext { search_path: view.search_path.clone(), ..self.context.clone() };
            let plan = || {
                let mut inner = Provider::new(&context, state, None);
                inner.view_depth = depth;
                Ok((query::view_plan(&inner, view)?, inner.views.into_inner()))
            };
            let (plan, mut views) = on_large_stack(plan)?;
            self.views.borrow_mut().insert(object.id);
            self.views.borrow_mut().append(&mut views);
            return Ok(Arc::new(ViewSource { schema: Arc::new(plan.schema().as_arrow().clone()), plan }));
        }
        if let ObjectKind::Subscription(_) = object.kind {
            return Err(Error::wrong_object_type(format!("cannot read subscription \"{}\"", object.name))
                .hint(format!("Follow it with SUBSCRIBE {}, or read what it follows.", object.name)));
        }
        if let ObjectKind::Sink(_) = object.kind {
            return Err(Error::wrong_object_type(format!("cannot read sink \"{}\"", object.name))
                .hint("A sink keeps no rows. Create a materialized view of its query."));
        }
        Ok(Arc::new(RelationSource {
            relation: RelationRef::Object(object.id),
            schema: schema_of(object.columns()),
            rows: None,
        }))
    }
}

/// The session and the catalog as the functions of `pg_catalog` see them.
fn catalog_context(context: &BindContext) -> CatalogContext {
    CatalogContext {
        database: system::DATABASE.to_string(),
        user: context.user.clone(),
        owner: system::describe::OWNER,
        search_path: context.search_path.clone(),
        pid: context.pid,
        version: system::settings::version(),
        settings: context.settings.clone(),
        names: Arc::new(CatalogNames(context.catalog.clone())),
    }
}

impl ContextProvider for Provider<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let parts: Vec<&str> = match &name {
            TableReference::Bare { table } => vec![table],
            TableReference::Partial { schema, table } => vec![schema, table],
            TableReference::Full { catalog, schema, table } => vec![catalog, schema, table],
        };
        if let [name] = parts.as_slice()
            && let Some((_, source)) = self.extra.iter().find(|(extra, _)| extra == name)
        {
            return Ok(source.clone());
        }
        let source =
            resolve(&parts, self.context).and_then(|relation| match relation {
                Relation::System(schema, name, columns) => Ok(Arc::new(RelationSource {
                    relation: RelationRef::System(schema, name),
                    schema: columns,
                    rows: None,
                }) as Arc<dyn TableSource>),
                Relation::Object(object) => self.source(&object),
            });
        source.map_err(|error| DataFusionError::External(Box::new(error)))
    }

    fn get_table_function_source(
        &self,
        name: &str,
        _arguments: Vec<datafusion::logical_expr::Expr>,
    ) -> Result<Arc<dyn TableSource>> {
        let error = Error::undefined_function(format!("table function \"{name}\" does not exist"))
            .hint("Functions of FROM are TUMBLE, HOP, CUMULATE and SESSION.");
        Err(DataFusionError::External(Box::new(error)))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relation_planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(Types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        let of_catalog = functions::catalog::find(name, &self.catalog_context).map(Arc::new);
        of_catalog.or_else(|| self.state.scalar_functions().get(name).cloned())
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}

/// A plain view: the planner puts its plan in place of the scan.
#[derive(Debug)]
struct ViewSource {
    /// The columns.
    schema: SchemaRef,
    /// The query.
    plan: LogicalPlan,
}

impl TableSource for ViewSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}

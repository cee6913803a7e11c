//! The relations `<view>$late`: rows that came too late for a window of the view, with the window and `ms_diff`. They are
//! views that the engine makes beside the view, and go with it.

use std::collections::BTreeSet;

use crate::catalog::MaterializedView;
use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::catalog::Storage;
use crate::ids::ObjectId;
use crate::plan::Late;
use crate::plan::ir::Plan;
use crate::plan::stored;

/// What the names of these relations end with.
const SUFFIX: &str = "$late";

/// Whether an object is a relation of late rows: the only materialized views without a query.
pub fn is_late(object: &Object) -> bool {
    matches!(&object.kind, ObjectKind::MaterializedView(view) if view.query.is_empty())
}

/// The relation of a view's late rows, and the plan that keeps it.
pub fn of_view(view: &Object, id: ObjectId, late: Late) -> (Object, Plan) {
    let columns = late.columns.clone();
    let plan = late.plan(id);
    let kind = MaterializedView { columns, query: String::new(), storage: Storage::Log, plan: stored::write(&plan) };
    let object = Object {
        id,
        name: format!("{}{SUFFIX}", view.name),
        depends_on: BTreeSet::from([view.id]),
        kind: ObjectKind::MaterializedView(kind),
        sql: String::new(),
        ..view.clone()
    };
    (object, plan)
}

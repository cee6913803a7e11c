//! SQL functions as Postgres defines them, where DataFusion lacks them or answers otherwise; one file for each family.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::LazyLock;

use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::ScalarUDF;

use crate::functions::operator::Operator;
use crate::functions::operator::Symbol;
use crate::types::SqlType;
use crate::types::cast::Mode;

pub mod accumulators;
pub mod aggregates;
pub mod arithmetic;
pub mod bounded;
pub mod cast;
pub mod catalog;
pub mod columns;
pub mod define;
pub mod math;
pub mod moments;
pub mod now;
pub mod only;
pub mod operator;
pub mod patterns;
pub mod quantified;
pub mod raise;
pub mod strings;
pub mod subqueries;
pub mod temporal;
pub mod to_char;
pub mod window;

pub use raise::from_datafusion;

/// Our scalar functions, to be registered over DataFusion's.
pub fn scalars() -> Vec<Arc<ScalarUDF>> {
    let operators = Symbol::ALL.iter().map(|symbol| Operator::function(*symbol, true));
    let families = [
        math::functions(),
        moments::functions(),
        strings::functions(),
        bounded::functions(),
        patterns::functions(),
        quantified::functions(),
        subqueries::functions(),
        now::functions(),
    ];
    let ours = operators.chain(families.into_iter().flatten()).map(Arc::new);
    ours.chain([Arc::new(window::on_time()), Arc::new(cast::assignment())]).collect()
}

/// Our aggregate functions, to be registered over DataFusion's.
pub fn aggregates() -> Vec<Arc<AggregateUDF>> {
    aggregates::functions().into_iter().chain([only::only()]).map(Arc::new).collect()
}

/// Our function of this name that gives a `ty`: this is how a stored plan finds its functions. `None`: it is DataFusion's, if anyone's.
pub fn scalar(name: &str, ty: &SqlType) -> Option<Arc<ScalarUDF>> {
    static BY_NAME: LazyLock<HashMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
        let named = scalars().into_iter().flat_map(|function| {
            let names = [function.name().to_string()].into_iter().chain(function.aliases().to_vec());
            names.map(|name| (name, function.clone())).collect::<Vec<_>>()
        });
        named.collect()
    });
    match name {
        "cast" => Some(Arc::new(cast::CastTo::function(ty.clone(), Mode::Explicit))),
        "assign" => Some(Arc::new(cast::CastTo::function(ty.clone(), Mode::Assignment))),
        _ => BY_NAME.get(name).cloned(),
    }
}

//! Stored [`Scalar`]s to DataFusion's physical expressions, which evaluate over whole batches. This is all that a restart
//! does with an expression: functions are found by name in a registry that needs no session.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::LazyLock;

use arrow::datatypes::DataType;
use arrow::datatypes::Schema;
use datafusion::common::DataFusionError;
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::Operator as Comparison;
use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions;

use crate::error::Error;
use crate::error::Result;
use crate::functions;
use crate::functions::cast::CastTo;
use crate::functions::cast::is_plain;
use crate::functions::from_datafusion;
use crate::plan::ir::Scalar;
use crate::plan::literal;
use crate::types::Column;
use crate::types::SqlType;
use crate::types::UTC;
use crate::types::cast::Mode;
use crate::types::cast::can_cast;
use crate::types::schema_of;

/// DataFusion's scalar functions. Ours, which take precedence, are in [`functions`].
static THEIRS: LazyLock<HashMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let all = datafusion::functions::all_default_functions()
        .into_iter()
        .chain(datafusion::functions_nested::all_default_nested_functions());
    let named = |function: Arc<ScalarUDF>| {
        let names = std::iter::once(function.name().to_string()).chain(function.aliases().to_vec());
        names.map(|name| (name, function.clone())).collect::<Vec<_>>()
    };
    all.flat_map(named).collect()
});

/// What the functions are told when they run. A view has no session: its time zone is UTC.
static OPTIONS: LazyLock<Arc<ConfigOptions>> = LazyLock::new(|| {
    let mut options = ConfigOptions::default();
    options.execution.time_zone = Some(UTC.into());
    Arc::new(options)
});

/// Whether this very function is what its name stands for in a stored plan, where it gives a `ty`.
pub fn is_function(function: &Arc<ScalarUDF>, ty: &SqlType) -> bool {
    named(function.name(), ty).is_some_and(|known| known == *function)
}

/// The function that a name in a stored plan stands for, where it gives a `ty`.
fn named(name: &str, ty: &SqlType) -> Option<Arc<ScalarUDF>> {
    functions::scalar(name, ty).or_else(|| THEIRS.get(name).cloned())
}

/// The expression ready to be evaluated over batches of these columns. Its values have exactly the Arrow type of its SQL
/// type.
pub fn bind(scalar: &Scalar, input: &[Column]) -> Result<Arc<dyn PhysicalExpr>> {
    Binder { input, schema: Arc::new(schema_of(input).as_ref().clone()) }.bind(scalar)
}

/// The input that expressions are bound to.
struct Binder<'a> {
    /// Its columns.
    input: &'a [Column],
    /// The same for Arrow.
    schema: Arc<Schema>,
}

impl Binder<'_> {
    fn bind(&self, scalar: &Scalar) -> Result<Arc<dyn PhysicalExpr>> {
        match scalar {
            Scalar::Column(i) => {
                let column =
                    self.input.get(*i).ok_or_else(|| Error::corrupted(format!("the plan has no column {i}")))?;
                Ok(Arc::new(expressions::Column::new(&column.name, *i)))
            }
            Scalar::Literal(value) => Ok(expressions::lit(literal::to_value(value)?)),
            Scalar::Cast { input, ty } => self.convert(input, ty),
            Scalar::Call { function, arguments, ty } => {
                let arguments = arguments.iter().map(|a| self.bind(a)).collect::<Result<Vec<_>>>()?;
                self.cast(self.call(function, arguments, ty)?, &ty.arrow())
            }
            Scalar::Case { branches, otherwise, ty } => {
                let ty = ty.arrow();
                let value = |scalar: &Scalar| self.cast(self.bind(scalar)?, &ty);
                let branches = branches.iter().map(|(when, then)| Ok((self.bind(when)?, value(then)?)));
                let branches = branches.collect::<Result<Vec<_>>>()?;
                let otherwise = otherwise.as_ref().map(|s| value(s)).transpose()?;
                expressions::case(None, branches, otherwise).map_err(from_datafusion)
            }
        }
    }

    /// A conversion as Postgres does it.
    fn convert(&self, input: &Scalar, ty: &SqlType) -> Result<Arc<dyn PhysicalExpr>> {
        let bound = self.bind(input)?;
        let from = input.ty(self.input);
        if from == *ty || is_plain(&from, ty) {
            return self.cast(bound, &ty.arrow());
        }
        if !can_cast(&from, ty) {
            return Err(Error::cannot_coerce(format!("cannot cast type {from} to {ty}")));
        }
        self.apply(Arc::new(CastTo::function(ty.clone(), Mode::Explicit)), vec![bound])
    }

    /// Changes the Arrow type unless it is right already.
    fn cast(&self, input: Arc<dyn PhysicalExpr>, to: &DataType) -> Result<Arc<dyn PhysicalExpr>> {
        expressions::cast(input, &self.schema, to.clone()).map_err(from_datafusion)
    }

    /// A call: of an operator by its name, else of a function of the registry.
    fn call(&self, name: &str, arguments: Vec<Arc<dyn PhysicalExpr>>, ty: &SqlType) -> Result<Arc<dyn PhysicalExpr>> {
        let schema = &self.schema;
        let bound = match (name, arguments.as_slice()) {
            ("not", [a]) => expressions::not(a.clone()),
            ("is_null", [a]) => expressions::is_null(a.clone()),
            ("is_not_null", [a]) => expressions::is_not_null(a.clone()),
            ("is_true", [a]) => self.truth(a, Comparison::IsNotDistinctFrom, Some(true)),
            ("is_not_true", [a]) => self.truth(a, Comparison::IsDistinctFrom, Some(true)),
            ("is_false", [a]) => self.truth(a, Comparison::IsNotDistinctFrom, Some(false)),
            ("is_not_false", [a]) => self.truth(a, Comparison::IsDistinctFrom, Some(false)),
            ("is_unknown", [a]) => self.truth(a, Comparison::IsNotDistinctFrom, None),
            ("is_not_unknown", [a]) => self.truth(a, Comparison::IsDistinctFrom, None),
            ("like", [a, b]) => expressions::like(false, false, a.clone(), b.clone(), schema),
            ("ilike", [a, b]) => expressions::like(false, true, a.clone(), b.clone(), schema),
            ("not_like", [a, b]) => expressions::like(true, false, a.clone(), b.clone(), schema),
            ("not_ilike", [a, b]) => expressions::like(true, true, a.clone(), b.clone(), schema),
            ("in", [a, list @ ..]) => expressions::in_list(a.clone(), list.to_vec(), &false, schema),
            ("not_in", [a, list @ ..]) => expressions::in_list(a.clone(), list.to_vec(), &true, schema),
            (name, [a, b]) if operator(name).is_some() => {
                let operator = operator(name).expect("it was just found");
                expressions::binary(a.clone(), operator, b.clone(), schema)
            }
            _ => return self.function(name, arguments, ty),
        };
        bound.map_err(from_datafusion)
    }

    /// `a IS [NOT] TRUE` and its kin.
    fn truth(
        &self,
        argument: &Arc<dyn PhysicalExpr>,
        operator: Comparison,
        value: Option<bool>,
    ) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
        expressions::binary(argument.clone(), operator, expressions::lit(ScalarValue::Boolean(value)), &self.schema)
    }

    /// A function of the registry. Arguments are converted where it takes a type that no SQL type has.
    fn function(
        &self,
        name: &str,
        arguments: Vec<Arc<dyn PhysicalExpr>>,
        ty: &SqlType,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let Some(function) = named(name, ty) else {
            return Err(Error::undefined_function(format!("function {name} does not exist"))
                .hint("It cannot be used in a materialized view."));
        };
        let fields = arguments.iter().map(|a| a.return_field(&self.schema)).collect::<Result<Vec<_>, _>>();
        let wanted = fields_with_udf(&fields.map_err(from_datafusion)?, function.as_ref()).map_err(from_datafusion)?;
        let arguments = arguments.into_iter().zip(&wanted).map(|(a, field)| self.cast(a, field.data_type()));
        let arguments = arguments.collect::<Result<Vec<_>>>()?;
        self.apply(function, arguments)
    }

    fn apply(&self, function: Arc<ScalarUDF>, arguments: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let call = ScalarFunctionExpr::try_new(function, arguments, &self.schema, OPTIONS.clone());
        Ok(Arc::new(call.map_err(from_datafusion)?))
    }
}

/// The binary operators that are DataFusion's own, by their names in stored plans: its comparisons and connectives.
fn operator(name: &str) -> Option<Comparison> {
    Some(match name {
        "=" => Comparison::Eq,
        "<>" => Comparison::NotEq,
        "<" => Comparison::Lt,
        "<=" => Comparison::LtEq,
        ">" => Comparison::Gt,
        ">=" => Comparison::GtEq,
        "and" => Comparison::And,
        "or" => Comparison::Or,
        "is_distinct_from" => Comparison::IsDistinctFrom,
        "is_not_distinct_from" => Comparison::IsNotDistinctFrom,
        "@>" => Comparison::AtArrow,
        "<@" => Comparison::ArrowAt,
        _ => return None,
    })
}

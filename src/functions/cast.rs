//! `CAST` as a function of our own: DataFusion's rounds, overflows and reads text differently.

use std::sync::Arc;

use arrow::datatypes::DataType;
use arrow::datatypes::FieldRef;
use datafusion::common::DFSchema;
use datafusion::common::Result as DfResult;
use datafusion::common::ScalarValue;
use datafusion::common::metadata::FieldMetadata;
use datafusion::logical_expr::Cast;
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::ExprSchemable;
use datafusion::logical_expr::ReturnFieldArgs;
use datafusion::logical_expr::ScalarFunctionArgs;
use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::ScalarUDFImpl;
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::Volatility;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::lit;

use crate::error::Error;
use crate::error::Result;
use crate::functions::columns::array;
use crate::functions::columns::result;
use crate::functions::columns::zone;
use crate::functions::define::function;
use crate::functions::raise::from_datafusion;
use crate::functions::raise::raise;
use crate::types::SqlType;
use crate::types::cast::Mode;
use crate::types::cast::can_cast;
use crate::types::cast::cast;
use crate::types::cast::is_text;
use crate::types::zone::Zone;

/// The conversion to one type.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct CastTo {
    /// The type.
    pub ty: SqlType,
    /// Whether text too long is cut or refused.
    pub mode: Mode,
    signature: Signature,
}

impl CastTo {
    /// The function that converts to `ty`.
    pub fn function(ty: SqlType, mode: Mode) -> ScalarUDF {
        ScalarUDF::from(CastTo { ty, mode, signature: Signature::variadic_any(Volatility::Immutable) })
    }

    /// The conversion behind a function, if it is one.
    pub fn of(function: &ScalarUDF) -> Option<&CastTo> {
        let any: &dyn std::any::Any = function.inner().as_ref();
        any.downcast_ref()
    }
}

impl ScalarUDFImpl for CastTo {
    fn name(&self) -> &str {
        match self.mode {
            Mode::Explicit => "cast",
            Mode::Assignment => "assign",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> DfResult<DataType> {
        Ok(self.ty.arrow())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(self.ty.field(self.name(), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        self.evaluate(&args).map_err(raise)
    }

    fn display_name(&self, args: &[Expr]) -> DfResult<String> {
        Ok(format!("CAST({} AS {})", args[0], self.ty))
    }

    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        let assigned = if self.mode == Mode::Assignment { "ASSIGN" } else { "CAST" };
        Ok(format!("{assigned}({} AS {})", args[0].schema_name(), self.ty))
    }
}

impl CastTo {
    fn evaluate(&self, args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
        let from = match args.arg_fields[0].data_type() {
            DataType::Null => SqlType::Text,
            _ => crate::functions::columns::type_of(args, 0)?,
        };
        let values = cast(&array(&args.args[0])?, &from, &self.ty, zone(args, 1)?, self.mode)?;
        result(values, &args.args)
    }
}

/// `expr`, which is of type `from` (`None`: unknown), as a `to`. Literals are converted at once, in `zone`; what DataFusion converts as
/// Postgres does is left to it; 42846 where there is no such cast.
pub fn cast_expr(expr: Expr, from: Option<&SqlType>, to: &SqlType, zone: Zone, mode: Mode) -> Result<Expr> {
    match (&expr, from) {
        (_, Some(from)) if from == to => return Ok(expr),
        (Expr::Placeholder(placeholder), None) => {
            let mut placeholder = placeholder.clone();
            placeholder.field = Some(Arc::new(to.field("", true)));
            return Ok(Expr::Placeholder(placeholder));
        }
        (Expr::Literal(value, _), _) => {
            let from = from.unwrap_or(&SqlType::Text);
            if !can_cast(from, to) {
                return Err(no_cast(from, to));
            }
            let input = value.to_array().map_err(from_datafusion)?;
            return literal(&cast(&input, from, to, zone, mode)?, to);
        }
        _ => {}
    }
    let from = from.unwrap_or(&SqlType::Text);
    if !can_cast(from, to) {
        return Err(no_cast(from, to));
    }
    if is_plain(from, to) {
        return Ok(Expr::Cast(Cast::new_from_field(Box::new(expr), Arc::new(to.field("", true)))));
    }
    let function = Arc::new(CastTo::function(to.clone(), mode));
    let mut arguments = vec![expr];
    if zone != Zone::UTC && depends_on_zone(from, to) {
        arguments.push(lit(zone.to_string()));
    }
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(function, arguments)))
}

fn depends_on_zone(from: &SqlType, to: &SqlType) -> bool {
    let zoned = |ty: &SqlType| {
        *ty == SqlType::Timestamptz || matches!(ty, SqlType::Array(item) if **item == SqlType::Timestamptz)
    };
    zoned(from) != zoned(to)
}

/// [`cast_expr`] by assignment to a column, the expression's type taken from `schema`.
pub fn assign_expr(expr: Expr, to: &SqlType, schema: &DFSchema, zone: Zone) -> Result<Expr> {
    let from = expr_type(&expr, schema)?;
    if let Some(from) = &from
        && !can_assign(from, to)
    {
        let message = format!("expression is of type {from} but the column is of type {to}");
        return Err(Error::type_mismatch(message).hint("You will need to rewrite or cast the expression."));
    }
    cast_expr(expr, from.as_ref(), to, zone, Mode::Assignment)
}

/// The name of the function that stands around a cell of VALUES on its way into a column: `op_assign(value, NULL::type)`.
/// DataFusion would else cast all cells of a column to a type of its choice; the analyzer puts [`assign_expr`] in its place.
pub const ASSIGN: &str = "op_assign";

/// The function named [`ASSIGN`].
pub fn assignment() -> ScalarUDF {
    let types = |types: &[Option<SqlType>]| {
        let [value, target] = types else { return None };
        let target = target.clone().unwrap_or(SqlType::Text);
        Some((vec![value.clone().unwrap_or(SqlType::Text), target.clone()], target))
    };
    function(ASSIGN, &[], types, |_| Err(Error::internal("an assignment was left unresolved")))
}

/// Whether a value goes into a column of the type without being cast.
pub fn can_assign(from: &SqlType, to: &SqlType) -> bool {
    let from_text = is_text(from) && !is_text(to);
    let by_hand = matches!((from, to), (SqlType::Boolean, SqlType::Integer) | (SqlType::Integer, SqlType::Boolean));
    can_cast(from, to) && !from_text && !by_hand
}

/// The type of an expression; `None` when it is unknown: a bare string, NULL, or a parameter without a type.
pub fn expr_type(expr: &Expr, schema: &DFSchema) -> Result<Option<SqlType>> {
    match expr {
        Expr::Alias(alias) => return expr_type(&alias.expr, schema),
        Expr::Placeholder(placeholder) if placeholder.field.is_none() => return Ok(None),
        Expr::Literal(value, metadata) => {
            let bare = metadata.is_none() && matches!(value, ScalarValue::Utf8(_));
            if bare || matches!(value, ScalarValue::Null) {
                return Ok(None);
            }
        }
        _ => {}
    }
    let (_, field) = expr.to_field(schema).map_err(from_datafusion)?;
    if *field.data_type() == DataType::Null {
        return Ok(None);
    }
    let ty = SqlType::of_field(&field);
    ty.map(Some).ok_or_else(|| Error::unsupported(format!("values of type {} are not supported", field.data_type())))
}

/// A one-row array as a literal that keeps its type: what would be taken for another type is marked.
pub fn literal(array: &arrow::array::ArrayRef, ty: &SqlType) -> Result<Expr> {
    let value = ScalarValue::try_from_array(array, 0).map_err(from_datafusion)?;
    let field = ty.field("", true);
    let metadata = match (field.metadata().is_empty(), ty) {
        (false, _) => Some(FieldMetadata::from(field.metadata())),
        (true, SqlType::Text) => Some(mark("\"text\"")),
        (true, SqlType::BigInt) => Some(mark("\"big_int\"")),
        (true, _) => None,
    };
    Ok(Expr::Literal(value, metadata))
}

/// What marks a literal as of this type, where without it a string is of unknown type and a number an `integer`.
fn mark(ty: &str) -> FieldMetadata {
    FieldMetadata::from(std::collections::HashMap::from([(crate::types::TYPE_KEY.to_string(), ty.to_string())]))
}

fn no_cast(from: &SqlType, to: &SqlType) -> Error {
    Error::cannot_coerce(format!("cannot cast type {from} to {to}"))
}

/// Whether Arrow's conversion never fails and answers as Postgres does.
pub fn is_plain(from: &SqlType, to: &SqlType) -> bool {
    use SqlType::*;
    match (from, to) {
        (SmallInt, Integer | BigInt | Real | Double) | (Integer, BigInt | Real | Double) | (BigInt, Real | Double) => {
            true
        }
        (Real, Double) | (Oid, BigInt) => true,
        (SmallInt, Numeric { precision, scale }) => *precision as i16 - *scale as i16 >= 5,
        (Integer, Numeric { precision, scale }) => *precision as i16 - *scale as i16 >= 10,
        (BigInt | Oid, Numeric { precision, scale }) => *precision as i16 - *scale as i16 >= 19,
        (Numeric { precision: p, scale: s }, Numeric { precision, scale }) => {
            s <= scale && *precision as i16 - *scale as i16 >= *p as i16 - *s as i16
        }
        _ => is_text(from) && is_text(to) && !matches!(to, Varchar(_)),
    }
}

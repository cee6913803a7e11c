//! Binary operators: which one Postgres takes for two types, and what it gives.
//!
//! The planner of SQL makes an [`Operator`] of `a + b` before it knows the types for good; the semantics layer then
//! [`resolve`]s it, casts the operands, and marks it as resolved. What is left at run time works on exactly the types
//! that [`resolve`] asked for. Comparisons do not survive: they become DataFusion's own expressions over operands of one type.

use std::sync::Arc;

use arrow::datatypes::DataType;
use arrow::datatypes::FieldRef;
use datafusion::common::Result as DfResult;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::Expr;
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
use crate::functions::arithmetic;
use crate::functions::raise::raise;
use crate::types::SqlType;
use crate::types::cast::is_integer;
use crate::types::cast::is_number;
use crate::types::cast::is_text;
use crate::types::numeric::PRECISION_MAX;
use crate::types::zone::Zone;

macro_rules! symbols {
    ($($name:ident = $symbol:literal as $function:literal,)*) => {
        /// A binary operator.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Symbol { $($name,)* }

        impl Symbol {
            /// All of them.
            pub const ALL: &[Symbol] = &[$(Symbol::$name,)*];

            /// How it is written.
            pub fn text(self) -> &'static str {
                match self { $(Symbol::$name => $symbol,)* }
            }

            /// Its name as a function.
            pub fn function(self) -> &'static str {
                match self { $(Symbol::$name => $function,)* }
            }
        }
    };
}

symbols! {
    Add = "+" as "op_add",
    Subtract = "-" as "op_subtract",
    Multiply = "*" as "op_multiply",
    Divide = "/" as "op_divide",
    Modulo = "%" as "op_modulo",
    Power = "^" as "op_power",
    Concat = "||" as "op_concat",
    BitAnd = "&" as "op_bit_and",
    BitOr = "|" as "op_bit_or",
    BitXor = "#" as "op_bit_xor",
    ShiftLeft = "<<" as "op_shift_left",
    ShiftRight = ">>" as "op_shift_right",
    Equal = "=" as "op_equal",
    NotEqual = "<>" as "op_not_equal",
    Less = "<" as "op_less",
    LessEqual = "<=" as "op_less_equal",
    Greater = ">" as "op_greater",
    GreaterEqual = ">=" as "op_greater_equal",
    Distinct = "is distinct from" as "op_distinct",
    NotDistinct = "is not distinct from" as "op_not_distinct",
    Matches = "~" as "op_matches",
    MatchesAnyCase = "~*" as "op_matches_any_case",
    MatchesNot = "!~" as "op_matches_not",
    MatchesNotAnyCase = "!~*" as "op_matches_not_any_case",
}

impl Symbol {
    /// Whether it compares: both operands are brought to one type, and DataFusion's own expression takes over.
    pub fn is_comparison(self) -> bool {
        match self {
            Symbol::Equal
            | Symbol::NotEqual
            | Symbol::Less
            | Symbol::LessEqual
            | Symbol::Greater
            | Symbol::GreaterEqual
            | Symbol::Distinct
            | Symbol::NotDistinct => true,
            Symbol::Add
            | Symbol::Subtract
            | Symbol::Multiply
            | Symbol::Divide
            | Symbol::Modulo
            | Symbol::Power
            | Symbol::Concat
            | Symbol::BitAnd
            | Symbol::BitOr
            | Symbol::BitXor
            | Symbol::ShiftLeft
            | Symbol::ShiftRight
            | Symbol::Matches
            | Symbol::MatchesAnyCase
            | Symbol::MatchesNot
            | Symbol::MatchesNotAnyCase => false,
        }
    }
}

/// What an operator wants and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The type that the left operand is cast to.
    pub left: SqlType,
    /// The type that the right operand is cast to.
    pub right: SqlType,
    /// The type of the result.
    pub result: SqlType,
}

impl Resolved {
    fn new(left: SqlType, right: SqlType, result: SqlType) -> Resolved {
        Resolved { left, right, result }
    }

    fn same(ty: SqlType) -> Resolved {
        Resolved { left: ty.clone(), right: ty.clone(), result: ty }
    }
}

/// The operator that Postgres takes. `None`: the type is unknown, as that of a bare string literal, NULL or a parameter.
pub fn resolve(symbol: Symbol, left: Option<&SqlType>, right: Option<&SqlType>) -> Result<Resolved> {
    let found = match symbol {
        Symbol::Add => add(left, right),
        Symbol::Subtract => subtract(left, right),
        Symbol::Multiply => multiply(left, right),
        Symbol::Divide => divide(left, right),
        Symbol::Modulo => numeric_pair(left, right).filter(|r| !matches!(r.result, SqlType::Real | SqlType::Double)),
        Symbol::Power => known_numbers(left, right).then(|| Resolved::same(SqlType::Double)),
        Symbol::Concat => concat(left, right),
        Symbol::BitAnd | Symbol::BitOr | Symbol::BitXor => numeric_pair(left, right).filter(|r| is_integer(&r.result)),
        Symbol::ShiftLeft | Symbol::ShiftRight => {
            let shifted = left.filter(|ty| is_integer(ty) && right.is_none_or(is_integer));
            shifted.map(|ty| Resolved::new(ty.clone(), SqlType::Integer, ty.clone()))
        }
        Symbol::Matches | Symbol::MatchesAnyCase | Symbol::MatchesNot | Symbol::MatchesNotAnyCase => {
            let texts = left.is_none_or(is_text) && right.is_none_or(is_text);
            texts.then(|| Resolved::new(SqlType::Text, SqlType::Text, SqlType::Boolean))
        }
        Symbol::Equal
        | Symbol::NotEqual
        | Symbol::Less
        | Symbol::LessEqual
        | Symbol::Greater
        | Symbol::GreaterEqual
        | Symbol::Distinct
        | Symbol::NotDistinct => {
            let common = common_type(&[left, right]);
            common.map(|ty| Resolved::new(ty.clone(), ty, SqlType::Boolean))
        }
    };
    found.ok_or_else(|| undefined(symbol, left, right))
}

fn undefined(symbol: Symbol, left: Option<&SqlType>, right: Option<&SqlType>) -> Error {
    let name = |ty: Option<&SqlType>| ty.map_or("unknown".to_string(), base_name);
    let operator = format!("{} {} {}", name(left), symbol.text(), name(right));
    if left.is_none() && right.is_none() {
        return Error::new(crate::error::Kind::UndefinedFunction, format!("operator is not unique: {operator}"))
            .hint("Could not choose a best candidate operator. You might need to add explicit type casts.");
    }
    Error::undefined_function(format!("operator does not exist: {operator}"))
        .hint("No operator matches the given name and argument types. You might need to add explicit type casts.")
}

/// The type's name without its arguments, as messages have it.
pub fn base_name(ty: &SqlType) -> String {
    let name = ty.to_string();
    name.split('(').next().unwrap_or_default().to_string()
}

fn known_numbers(left: Option<&SqlType>, right: Option<&SqlType>) -> bool {
    (left.is_some() || right.is_some()) && left.is_none_or(is_number) && right.is_none_or(is_number)
}

/// The operands as numbers of one type; decimals keep their scales, the result has the larger.
fn numeric_pair(left: Option<&SqlType>, right: Option<&SqlType>) -> Option<Resolved> {
    let (left, right) = match (left, right) {
        (Some(left), Some(right)) => (left, right),
        (Some(known), None) | (None, Some(known)) => (known, known),
        (None, None) => return None,
    };
    if !is_number(left) || !is_number(right) {
        return None;
    }
    Some(match (promote(left, right)?, left, right) {
        (SqlType::Numeric { .. }, ..) => {
            let (left, right) = (as_numeric(left), as_numeric(right));
            let scale = scale_of(&left).max(scale_of(&right));
            Resolved::new(left, right, SqlType::Numeric { precision: PRECISION_MAX, scale })
        }
        (ty, ..) => Resolved::same(ty),
    })
}

/// The type that numbers of two types are brought to for arithmetic.
fn promote(left: &SqlType, right: &SqlType) -> Option<SqlType> {
    use SqlType::*;
    Some(match (left, right) {
        (Real, Real) => Real,
        (Double | Real, _) | (_, Double | Real) => Double,
        (Numeric { .. }, _) | (_, Numeric { .. }) => SqlType::NUMERIC,
        (BigInt | Oid, _) | (_, BigInt | Oid) => BigInt,
        (Integer, _) | (_, Integer) => Integer,
        (SmallInt, SmallInt) => SmallInt,
        _ => return None,
    })
}

/// An integer type as the `numeric` that holds it; a `numeric` as it is.
fn as_numeric(ty: &SqlType) -> SqlType {
    let precision = match ty {
        SqlType::SmallInt => 5,
        SqlType::Integer => 10,
        SqlType::Numeric { .. } => return ty.clone(),
        _ => 19,
    };
    SqlType::Numeric { precision, scale: 0 }
}

/// The digits after the point.
pub fn scale_of(ty: &SqlType) -> i8 {
    if let SqlType::Numeric { scale, .. } = ty { *scale } else { 0 }
}

/// Products have at most this many digits after the point, unless an operand has more: the 38 digits are needed in front, too.
const PRODUCT_SCALE_MAX: i8 = 18;

/// Quotients have at least this many digits after the point.
const QUOTIENT_SCALE: i8 = 16;

fn add(left: Option<&SqlType>, right: Option<&SqlType>) -> Option<Resolved> {
    use SqlType::*;
    Some(match (left, right) {
        (Some(Date), Some(SmallInt | Integer)) => Resolved::new(Date, Integer, Date),
        (Some(SmallInt | Integer), Some(Date)) => Resolved::new(Integer, Date, Date),
        (Some(Date), Some(Interval)) => Resolved::new(Timestamp, Interval, Timestamp),
        (Some(Interval), Some(Date)) => Resolved::new(Interval, Timestamp, Timestamp),
        (Some(Date), Some(Time)) => Resolved::new(Timestamp, Interval, Timestamp),
        (Some(Time), Some(Date)) => Resolved::new(Interval, Timestamp, Timestamp),
        (Some(ty @ (Timestamp | Timestamptz | Time | Interval)), Some(Interval) | None) => {
            Resolved::new(ty.clone(), Interval, ty.clone())
        }
        (Some(Interval) | None, Some(ty @ (Timestamp | Timestamptz | Time | Interval))) => {
            Resolved::new(Interval, ty.clone(), ty.clone())
        }
        (Some(Date), None) => Resolved::new(Date, Integer, Date),
        _ => return numeric_pair(left, right),
    })
}

fn subtract(left: Option<&SqlType>, right: Option<&SqlType>) -> Option<Resolved> {
    use SqlType::*;
    Some(match (left, right) {
        (Some(Date), Some(SmallInt | Integer)) => Resolved::new(Date, Integer, Date),
        (Some(Date) | None, Some(Date)) | (Some(Date), None) => Resolved::new(Date, Date, Integer),
        (Some(Date), Some(Interval)) => Resolved::new(Timestamp, Interval, Timestamp),
        (Some(ty @ (Timestamp | Timestamptz | Time)), Some(Interval)) => {
            Resolved::new(ty.clone(), Interval, ty.clone())
        }
        (Some(Interval) | None, Some(Interval)) | (Some(Interval), None) => Resolved::same(Interval),
        (Some(Timestamptz), Some(Timestamp | Date)) | (Some(Timestamp | Date), Some(Timestamptz)) => {
            Resolved::new(Timestamptz, Timestamptz, Interval)
        }
        (Some(Date), Some(Timestamp)) | (Some(Timestamp), Some(Date)) => Resolved::new(Timestamp, Timestamp, Interval),
        (Some(ty @ (Timestamp | Timestamptz | Time)), other) if other.is_none_or(|other| other == ty) => {
            Resolved::new(ty.clone(), ty.clone(), Interval)
        }
        (None, Some(ty @ (Timestamp | Timestamptz | Time))) => Resolved::new(ty.clone(), ty.clone(), Interval),
        _ => return numeric_pair(left, right),
    })
}

fn multiply(left: Option<&SqlType>, right: Option<&SqlType>) -> Option<Resolved> {
    use SqlType::*;
    let factor = |ty: Option<&SqlType>| ty.is_none_or(is_number);
    if left == Some(&Interval) && factor(right) {
        return Some(Resolved::new(Interval, Double, Interval));
    }
    if right == Some(&Interval) && factor(left) {
        return Some(Resolved::new(Double, Interval, Interval));
    }
    let mut resolved = numeric_pair(left, right)?;
    if let Numeric { scale, .. } = &mut resolved.result {
        let exact = scale_of(&resolved.left) as i16 + scale_of(&resolved.right) as i16;
        *scale = (*scale).max(exact.min(PRODUCT_SCALE_MAX as i16) as i8);
    }
    Some(resolved)
}

fn divide(left: Option<&SqlType>, right: Option<&SqlType>) -> Option<Resolved> {
    if left == Some(&SqlType::Interval) && right.is_none_or(is_number) {
        return Some(Resolved::new(SqlType::Interval, SqlType::Double, SqlType::Interval));
    }
    let mut resolved = numeric_pair(left, right)?;
    if let SqlType::Numeric { scale, .. } = &mut resolved.result {
        *scale = (*scale).max(QUOTIENT_SCALE);
    }
    Some(resolved)
}

fn concat(left: Option<&SqlType>, right: Option<&SqlType>) -> Option<Resolved> {
    use SqlType::*;
    match (left, right) {
        (Some(Bytea), Some(Bytea) | None) | (None, Some(Bytea)) => Some(Resolved::same(Bytea)),
        (Some(array @ Array(_)), other) if other.is_none_or(|other| other == array) => {
            Some(Resolved::same(array.clone()))
        }
        (None, Some(array @ Array(_))) => Some(Resolved::same(array.clone())),
        (Some(array @ Array(item)), Some(other)) if item.as_ref() == other => {
            Some(Resolved::new(array.clone(), other.clone(), array.clone()))
        }
        (Some(other), Some(array @ Array(item))) if item.as_ref() == other => {
            Some(Resolved::new(other.clone(), array.clone(), array.clone()))
        }
        _ if left.is_none_or(is_text) || right.is_none_or(is_text) => Some(Resolved::same(Text)),
        _ => None,
    }
}

/// The type that values of these types are brought to, to be compared or to stand in one column; `None` where there is none. Where
/// nothing is known it is `text`.
pub fn common_type(types: &[Option<&SqlType>]) -> Option<SqlType> {
    let mut known = types.iter().flatten();
    let Some(first) = known.next() else { return Some(SqlType::Text) };
    known.try_fold((*first).clone(), |common, ty| common_pair(&common, ty))
}

fn common_pair(left: &SqlType, right: &SqlType) -> Option<SqlType> {
    use SqlType::*;
    if left == right {
        return Some(left.clone());
    }
    if is_text(left) && is_text(right) {
        return Some(Text);
    }
    if is_number(left) && is_number(right) {
        if let Numeric { .. } = promote(left, right)? {
            let (left, right) = (as_numeric(left), as_numeric(right));
            let whole = |ty: &SqlType| {
                if let Numeric { precision, scale } = ty { *precision as i16 - *scale as i16 } else { 0 }
            };
            let scale = scale_of(&left).max(scale_of(&right));
            let precision = (whole(&left).max(whole(&right)) + scale as i16).min(PRECISION_MAX as i16) as u8;
            return Some(Numeric { precision, scale });
        }
        return match (left, right) {
            (Oid, _) | (_, Oid) => Some(BigInt),
            _ => promote(left, right),
        };
    }
    match (left, right) {
        (Date, Timestamp) | (Timestamp, Date) => Some(Timestamp),
        (Date | Timestamp, Timestamptz) | (Timestamptz, Date | Timestamp) => Some(Timestamptz),
        (Array(left), Array(right)) => common_pair(left, right).map(|item| Array(Box::new(item))),
        _ => None,
    }
}

/// A binary operator as a function of two arguments.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Operator {
    /// Which.
    pub symbol: Symbol,
    /// Whether the operands have been cast to what it works on.
    pub resolved: bool,
    /// Anything goes: types are the semantics layer's business.
    signature: Signature,
}

impl Operator {
    /// The function of an operator.
    pub fn function(symbol: Symbol, resolved: bool) -> ScalarUDF {
        ScalarUDF::from(Operator { symbol, resolved, signature: Signature::variadic_any(Volatility::Immutable) })
    }

    /// The operator applied, not yet resolved.
    pub fn expr(symbol: Symbol, left: Expr, right: Expr) -> Expr {
        let function = Arc::new(Operator::function(symbol, false));
        Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![left, right]))
    }

    /// The operator applied to operands that have been cast. What moves a `timestamptz` by days takes the zone as an argument.
    pub fn resolved_expr(symbol: Symbol, mut operands: Vec<Expr>, ty: &SqlType, zone: Zone) -> Expr {
        let function = Arc::new(Operator::function(symbol, true));
        if *ty == SqlType::Timestamptz && zone != Zone::UTC {
            operands.push(lit(zone.to_string()));
        }
        Expr::ScalarFunction(ScalarFunction::new_udf(function, operands))
    }

    /// The operator behind a function, if it is one.
    pub fn of(function: &ScalarUDF) -> Option<&Operator> {
        let any: &dyn std::any::Any = function.inner().as_ref();
        any.downcast_ref()
    }
}

/// The type of an argument as [`resolve`] wants it.
pub fn argument_type(field: &FieldRef, literal: Option<&ScalarValue>) -> Result<Option<SqlType>> {
    match (field.data_type(), literal) {
        (DataType::Null, _) => return Ok(None),
        (DataType::Utf8, Some(_)) if field.metadata().is_empty() => return Ok(None),
        (DataType::Int64, Some(ScalarValue::Int64(Some(value)))) if i32::try_from(*value).is_ok() => {
            return Ok(Some(SqlType::Integer));
        }
        _ => {}
    }
    let ty = SqlType::of_field(field).or_else(|| plan_time_type(field.data_type()));
    ty.map(Some).ok_or_else(|| Error::unsupported(format!("values of type {} are not supported", field.data_type())))
}

/// What a type of DataFusion's that we do not let through will be cast to.
pub fn plan_time_type(ty: &DataType) -> Option<SqlType> {
    Some(match ty {
        DataType::Int8 | DataType::UInt8 | DataType::UInt16 => SqlType::Integer,
        DataType::UInt32 | DataType::UInt64 => SqlType::BigInt,
        DataType::Float16 => SqlType::Real,
        DataType::Utf8View | DataType::LargeUtf8 => SqlType::Text,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => SqlType::Bytea,
        DataType::Timestamp(_, None) | DataType::Date64 => SqlType::Timestamp,
        DataType::Timestamp(_, Some(_)) => SqlType::Timestamptz,
        DataType::Time32(_) | DataType::Time64(_) => SqlType::Time,
        DataType::Interval(_) | DataType::Duration(_) => SqlType::Interval,
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal256(_, scale) => {
            SqlType::Numeric { precision: PRECISION_MAX, scale: (*scale).min(PRECISION_MAX as i8) }
        }
        DataType::Dictionary(_, values) => SqlType::of_arrow(values).or_else(|| plan_time_type(values))?,
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            SqlType::Array(Box::new(SqlType::of_field(item)?))
        }
        DataType::List(item) => SqlType::Array(Box::new(plan_time_type(item.data_type())?)),
        _ => return None,
    })
}

impl ScalarUDFImpl for Operator {
    fn name(&self) -> &str {
        self.symbol.function()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> DfResult<DataType> {
        Err(raise(Error::internal("an operator's type depends on its operands")))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let literal = |at: usize| if self.resolved { None } else { args.scalar_arguments[at] };
        let left = argument_type(&args.arg_fields[0], literal(0)).map_err(raise)?;
        let right = argument_type(&args.arg_fields[1], literal(1)).map_err(raise)?;
        let resolved = resolve(self.symbol, left.as_ref(), right.as_ref()).map_err(raise)?;
        Ok(Arc::new(resolved.result.field(self.name(), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        arithmetic::evaluate(self.symbol, &args).map_err(raise)
    }

    fn display_name(&self, args: &[Expr]) -> DfResult<String> {
        Ok(format!("({} {} {})", args[0], self.symbol.text(), args[1]))
    }
}

//! What can be told of a [`Scalar`] without evaluating it: its type, whether it can be NULL, the columns it reads.

use crate::plan::ir::Literal;
use crate::plan::ir::Scalar;
use crate::types::Column;
use crate::types::SqlType;

/// Functions that are NULL only where an argument is: with arguments that are not NULL, the result is not either.
const STRICT: &[&str] = &[
    "=",
    "<>",
    "<",
    "<=",
    ">",
    ">=",
    "and",
    "or",
    "not",
    "like",
    "ilike",
    "not_like",
    "not_ilike",
    "in",
    "not_in",
    "negate",
    "op_add",
    "op_subtract",
    "op_multiply",
    "op_divide",
    "op_modulo",
    "op_power",
    "op_concat",
    "upper",
    "lower",
    "length",
    "abs",
];

/// Functions that are never NULL.
const TOTAL: &[&str] = &[
    "is_null",
    "is_not_null",
    "is_true",
    "is_not_true",
    "is_false",
    "is_not_false",
    "is_unknown",
    "is_not_unknown",
    "is_distinct_from",
    "is_not_distinct_from",
];

/// Functions that give an answer for any arguments, beside those that are [`TOTAL`].
const SAFE: &[&str] = &["=", "<>", "<", "<=", ">", ">=", "and", "or", "not"];

impl Scalar {
    /// Whether some row can make it fail.
    pub fn can_fail(&self) -> bool {
        match self {
            Scalar::Column(_) | Scalar::Literal(_) => false,
            Scalar::Cast { .. } => true,
            Scalar::Call { function, arguments, .. } => {
                let safe = SAFE.contains(&function.as_str()) || TOTAL.contains(&function.as_str());
                !safe || arguments.iter().any(Scalar::can_fail)
            }
            Scalar::Case { branches, otherwise, .. } => {
                branches.iter().any(|(when, then)| when.can_fail() || then.can_fail())
                    || otherwise.as_ref().is_some_and(|otherwise| otherwise.can_fail())
            }
        }
    }

    /// The constant TRUE.
    pub fn truth() -> Scalar {
        Scalar::boolean(true)
    }

    /// A boolean constant.
    pub fn boolean(value: bool) -> Scalar {
        let text = if value { "t" } else { "f" };
        Scalar::Literal(Literal { ty: SqlType::Boolean, text: Some(text.into()) })
    }

    /// NULL of a type.
    pub fn null(ty: SqlType) -> Scalar {
        Scalar::Literal(Literal { ty, text: None })
    }

    /// A call that answers a boolean.
    pub fn predicate(function: &str, arguments: Vec<Scalar>) -> Scalar {
        Scalar::Call { function: function.into(), arguments, ty: SqlType::Boolean }
    }

    /// Whether one of these columns is NULL; none of none is.
    pub fn any_null(columns: impl IntoIterator<Item = usize>) -> Option<Scalar> {
        Scalar::any_is_null(columns.into_iter().map(Scalar::Column))
    }

    /// Whether one of these values is NULL; none of none is.
    pub fn any_is_null(values: impl IntoIterator<Item = Scalar>) -> Option<Scalar> {
        let is_null = |value| Scalar::predicate("is_null", vec![value]);
        values.into_iter().map(is_null).reduce(|a, b| Scalar::predicate("or", vec![a, b]))
    }

    /// The conjunction of these predicates; none is TRUE.
    pub fn all(predicates: impl IntoIterator<Item = Scalar>) -> Scalar {
        let conjunction = predicates.into_iter().reduce(|a, b| Scalar::predicate("and", vec![a, b]));
        conjunction.unwrap_or_else(Scalar::truth)
    }

    /// Its type over this input.
    pub fn ty(&self, input: &[Column]) -> SqlType {
        match self {
            Scalar::Column(i) => input[*i].ty.clone(),
            Scalar::Literal(literal) => literal.ty.clone(),
            Scalar::Call { ty, .. } | Scalar::Cast { ty, .. } | Scalar::Case { ty, .. } => ty.clone(),
        }
    }

    /// Whether it can be NULL over this input. False is a proof.
    pub fn nullable(&self, input: &[Column]) -> bool {
        match self {
            Scalar::Column(i) => input[*i].nullable,
            Scalar::Literal(literal) => literal.text.is_none(),
            Scalar::Call { function, arguments, .. } => {
                let strict = STRICT.contains(&function.as_str());
                let any = || arguments.iter().any(|a| a.nullable(input));
                let all = || arguments.iter().all(|a| a.nullable(input));
                match function.as_str() {
                    "coalesce" => all(),
                    name => !TOTAL.contains(&name) && (!strict || any()),
                }
            }
            Scalar::Cast { input: inner, .. } => inner.nullable(input),
            Scalar::Case { branches, otherwise, .. } => {
                branches.iter().any(|(_, value)| value.nullable(input))
                    || otherwise.as_ref().is_none_or(|value| value.nullable(input))
            }
        }
    }

    /// The same expression where column `i` is what `of(i)` says.
    pub fn substitute(&self, of: &impl Fn(usize) -> Scalar) -> Scalar {
        let list = |scalars: &[Scalar]| scalars.iter().map(|s| s.substitute(of)).collect();
        match self {
            Scalar::Column(i) => of(*i),
            Scalar::Literal(_) => self.clone(),
            Scalar::Call { function, arguments, ty } => {
                Scalar::Call { function: function.clone(), arguments: list(arguments), ty: ty.clone() }
            }
            Scalar::Cast { input, ty } => Scalar::Cast { input: Box::new(input.substitute(of)), ty: ty.clone() },
            Scalar::Case { branches, otherwise, ty } => Scalar::Case {
                branches: branches.iter().map(|(when, then)| (when.substitute(of), then.substitute(of))).collect(),
                otherwise: otherwise.as_ref().map(|value| Box::new(value.substitute(of))),
                ty: ty.clone(),
            },
        }
    }

    /// The same expression over other columns: column `i` becomes `columns[i]`.
    pub fn over(&self, columns: &[usize]) -> Scalar {
        self.substitute(&|i| Scalar::Column(columns[i]))
    }

    /// Calls `visit` with every column that is read, once for each time it is.
    pub fn visit_columns(&self, visit: &mut impl FnMut(usize)) {
        match self {
            Scalar::Column(i) => visit(*i),
            Scalar::Literal(_) => {}
            Scalar::Call { arguments, .. } => arguments.iter().for_each(|a| a.visit_columns(visit)),
            Scalar::Cast { input, .. } => input.visit_columns(visit),
            Scalar::Case { branches, otherwise, .. } => {
                for (when, then) in branches {
                    when.visit_columns(visit);
                    then.visit_columns(visit);
                }
                if let Some(value) = otherwise {
                    value.visit_columns(visit);
                }
            }
        }
    }
}

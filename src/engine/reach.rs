//! Which keys of a relation the filters of a read leave over: some, those of some ranges, or all.
//!
//! The filters are looked at when the rows are asked for. By then a join has put in what it knows of the keys that it will meet
//! (DataFusion's dynamic filters), and a read of a large table that is joined with few rows looks only those up.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::BinaryExpr;
use datafusion::physical_expr::expressions::CaseExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::expressions::InListExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr_common::physical_expr::snapshot_physical_expr;

use crate::dataflow::relation::RelationCodec;
use crate::error::Result;
use crate::functions::from_datafusion;
use crate::state::codec::ByteRows;
use crate::state::codec::KeyCodec;

/// A read looks up no more keys, or ranges of them.
const KEYS_MAX: usize = 1 << 16;
/// So many values of a column are shown.
const VALUES_SHOWN: usize = 5;

/// The keys that a read may find, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// These.
    Keys(ByteRows),
    /// Those from the first on up to the second, without it; without a second: up to the last.
    Ranges(Vec<(Vec<u8>, Option<Vec<u8>>)>),
}

/// What a value of a column must be.
#[derive(Clone, Debug, PartialEq)]
enum Constraint {
    /// One of these.
    Among(Vec<ScalarValue>),
    /// Between these.
    Between(Bound<ScalarValue>, Bound<ScalarValue>),
}

/// What columns must be for a filter to hold; `None`: it never holds.
type Constraints = Option<HashMap<usize, Constraint>>;

impl Reach {
    /// All keys.
    pub fn all() -> Reach {
        Reach::Ranges(vec![(Vec::new(), None)])
    }

    /// What these filters leave, over columns of the relation in this order; and how that is shown.
    pub fn of<'a>(
        codec: &RelationCodec,
        columns: &[usize],
        filters: impl Iterator<Item = &'a Arc<dyn PhysicalExpr>>,
    ) -> Result<(Reach, String)> {
        let mut constraints = Some(HashMap::new());
        for filter in filters {
            let filter = snapshot_physical_expr(filter.clone()).map_err(from_datafusion)?;
            constraints = both(constraints, constraints_of(&filter));
        }
        let Some(mut constraints) = constraints else { return Ok((Reach::Ranges(Vec::new()), String::new())) };
        let (mut prefixes, mut shown, mut whole) = (vec![Vec::new()], Vec::new(), !codec.key_columns().is_empty());
        let mut between = None;
        for column in codec.key_columns() {
            let field = codec.schema.field(*column);
            let constraint = columns.iter().position(|c| c == column).and_then(|at| constraints.remove(&at));
            let Some(constraint) = constraint.filter(|c| is_ordered(field.data_type()) && c.is_of(field.data_type()))
            else {
                whole = false;
                break;
            };
            shown.push(constraint.shown(field.name()));
            match constraint {
                Constraint::Among(values) => {
                    let codes = encoded(field.data_type(), values)?;
                    if prefixes.len() * codes.len() > KEYS_MAX {
                        let last = codes.last().and_then(|last| successor(last));
                        between = Some((codes.first().cloned().unwrap_or_default(), last));
                    } else {
                        let longer = |prefix: &Vec<u8>| {
                            codes.iter().map(|code| [&prefix[..], code].concat()).collect::<Vec<_>>()
                        };
                        prefixes = prefixes.iter().flat_map(longer).collect();
                        continue;
                    }
                }
                Constraint::Between(least, most) => between = Some(limits(field.data_type(), least, most)?),
            }
            whole = false;
            break;
        }
        let shown = shown.join(" AND ");
        if whole {
            let mut keys = ByteRows::default();
            prefixes.iter().for_each(|key| keys.push(key));
            return Ok((Reach::Keys(keys), shown));
        }
        let range = |prefix: Vec<u8>| match &between {
            None => (prefix.clone(), successor(&prefix)),
            Some((from, to)) => {
                let to = to.as_ref().map(|to| [&prefix[..], to].concat()).or_else(|| successor(&prefix));
                ([&prefix[..], from].concat(), to)
            }
        };
        Ok((Reach::Ranges(prefixes.into_iter().map(range).collect()), shown))
    }
}

impl Constraint {
    fn values(&self) -> Vec<&ScalarValue> {
        match self {
            Constraint::Among(values) => values.iter().collect(),
            Constraint::Between(least, most) => [least, most].into_iter().filter_map(value).collect(),
        }
    }

    fn is_of(&self, ty: &DataType) -> bool {
        self.values().into_iter().all(|value| value.data_type() == *ty)
    }

    /// What both say, or at least one of them.
    fn and(self, other: Constraint) -> Constraint {
        match (self, other) {
            (Constraint::Among(some), Constraint::Among(others)) if others.len() < some.len() => {
                Constraint::Among(others)
            }
            (Constraint::Among(some), _) | (_, Constraint::Among(some)) => Constraint::Among(some),
            (Constraint::Between(a, b), Constraint::Between(c, d)) => {
                Constraint::Between(tighter(a, c, Ordering::Greater), tighter(b, d, Ordering::Less))
            }
        }
    }

    /// What holds if one of them does; `None`: nothing that is known.
    fn or(self, other: Constraint) -> Option<Constraint> {
        match (self, other) {
            (Constraint::Among(some), Constraint::Among(others)) => Some(Constraint::Among([some, others].concat())),
            (Constraint::Among(_) | Constraint::Between(..), _) => None,
        }
    }

    fn shown(&self, name: &str) -> String {
        match self {
            Constraint::Among(values) if values.len() == 1 => format!("{name} = {}", quoted(&values[0])),
            Constraint::Among(values) => {
                let some = values.iter().take(VALUES_SHOWN).map(quoted).collect::<Vec<_>>().join(", ");
                let more = values.len().saturating_sub(VALUES_SHOWN);
                let more = if more > 0 { format!(", and {more} more") } else { String::new() };
                format!("{name} IN ({some}{more})")
            }
            Constraint::Between(least, most) => {
                let bound = |symbol: &str, bound: &Bound<ScalarValue>| match bound {
                    Bound::Included(value) => Some(format!("{name} {symbol}= {}", quoted(value))),
                    Bound::Excluded(value) => Some(format!("{name} {symbol} {}", quoted(value))),
                    Bound::Unbounded => None,
                };
                [bound(">", least), bound("<", most)].into_iter().flatten().collect::<Vec<_>>().join(" AND ")
            }
        }
    }
}

/// A value as it is shown.
pub fn quoted(value: &ScalarValue) -> String {
    let quote = if matches!(value, ScalarValue::Utf8(_)) { "'" } else { "" };
    format!("{quote}{value}{quote}")
}

/// The least key greater than all keys with this prefix.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut successor = prefix[..=last].to_vec();
    successor[last] += 1;
    Some(successor)
}

/// Whether values of a type are equal where their keys are, and ordered as these. (Floats and intervals have values that are equal
/// and not the same.)
pub fn is_ordered(ty: &DataType) -> bool {
    ty.is_integer()
        || matches!(
            ty,
            DataType::Boolean
                | DataType::Utf8
                | DataType::Binary
                | DataType::Date32
                | DataType::Time64(_)
                | DataType::Timestamp(_, _)
                | DataType::Decimal128(_, _)
        )
}

fn value(bound: &Bound<ScalarValue>) -> Option<&ScalarValue> {
    match bound {
        Bound::Included(value) | Bound::Excluded(value) => Some(value),
        Bound::Unbounded => None,
    }
}

/// Of two bounds the one whose value compares so to the other's.
fn tighter(a: Bound<ScalarValue>, b: Bound<ScalarValue>, so: Ordering) -> Bound<ScalarValue> {
    match (value(&a), value(&b)) {
        (None, _) => b,
        (_, None) => a,
        (Some(x), Some(y)) => match x.partial_cmp(y) {
            Some(Ordering::Equal) if matches!(b, Bound::Excluded(_)) => b,
            Some(order) if order == so || order == Ordering::Equal => a,
            Some(_) => b,
            None => a,
        },
    }
}

/// What holds where both filters do.
fn both(a: Constraints, b: Constraints) -> Constraints {
    let (mut all, more) = (a?, b?);
    for (column, constraint) in more {
        let constraint = match all.remove(&column) {
            Some(other) => other.and(constraint),
            None => constraint,
        };
        all.insert(column, constraint);
    }
    Some(all)
}

/// What holds where one of the filters does.
fn either(a: Constraints, b: Constraints) -> Constraints {
    let (mut some, mut others) = match (a, b) {
        (None, one) | (one, None) => return one,
        (Some(some), Some(others)) => (some, others),
    };
    let common = some.drain().filter_map(|(column, constraint)| {
        let constraint = constraint.or(others.remove(&column)?)?;
        Some((column, constraint))
    });
    Some(common.collect())
}

fn constraints_of(filter: &Arc<dyn PhysicalExpr>) -> Constraints {
    if let Some(literal) = filter.downcast_ref::<Literal>() {
        let never = matches!(literal.value(), ScalarValue::Boolean(Some(false) | None));
        return (!never).then(HashMap::new);
    }
    if let Some(binary) = filter.downcast_ref::<BinaryExpr>() {
        return match binary.op() {
            Operator::And => both(constraints_of(binary.left()), constraints_of(binary.right())),
            Operator::Or => either(constraints_of(binary.left()), constraints_of(binary.right())),
            op => Some(comparison(binary.left(), *op, binary.right()).into_iter().collect()),
        };
    }
    if let Some(list) = filter.downcast_ref::<InListExpr>() {
        let column = list.expr().downcast_ref::<Column>().filter(|_| !list.negated());
        let values = list.list().iter().map(constant).collect::<Option<Vec<_>>>();
        let found = column.zip(values).map(|(column, values)| {
            (column.index(), Constraint::Among(values.into_iter().filter(|value| !value.is_null()).collect()))
        });
        return Some(found.into_iter().collect());
    }
    if let Some(case) = filter.downcast_ref::<CaseExpr>() {
        // It holds where the branch does that is taken, which a join of several partitions has one of for each.
        let otherwise = case.else_expr().and_then(constraints_of);
        return case.when_then_expr().iter().fold(otherwise, |some, (_, then)| either(some, constraints_of(then)));
    }
    Some(HashMap::new())
}

/// The constraint of `column op constant`, or the other way round.
fn comparison(
    left: &Arc<dyn PhysicalExpr>,
    op: Operator,
    right: &Arc<dyn PhysicalExpr>,
) -> Option<(usize, Constraint)> {
    let (column, op, value) = match (left.downcast_ref::<Column>(), right.downcast_ref::<Column>()) {
        (Some(column), None) => (column, op, constant(right)?),
        (None, Some(column)) => (column, op.swap()?, constant(left)?),
        (None, None) | (Some(_), Some(_)) => return None,
    };
    let constraint = match op {
        Operator::Eq if value.is_null() => Constraint::Among(Vec::new()),
        Operator::Eq => Constraint::Among(vec![value]),
        _ if value.is_null() => return None,
        Operator::Gt => Constraint::Between(Bound::Excluded(value), Bound::Unbounded),
        Operator::GtEq => Constraint::Between(Bound::Included(value), Bound::Unbounded),
        Operator::Lt => Constraint::Between(Bound::Unbounded, Bound::Excluded(value)),
        Operator::LtEq => Constraint::Between(Bound::Unbounded, Bound::Included(value)),
        _ => return None,
    };
    Some((column.index(), constraint))
}

fn constant(expr: &Arc<dyn PhysicalExpr>) -> Option<ScalarValue> {
    expr.downcast_ref::<Literal>().map(|literal| literal.value().clone())
}

/// The codes of values of a key column, ascending, each once.
fn encoded(ty: &DataType, values: Vec<ScalarValue>) -> Result<Vec<Vec<u8>>> {
    if values.is_empty() {
        return Ok(Vec::new());
    }
    let count = values.len();
    let values = ScalarValue::iter_to_array(values).map_err(from_datafusion)?;
    let codes = KeyCodec::new(vec![ty.clone()]).encode(&[values], count)?;
    let mut codes = codes.iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
    codes.sort_unstable();
    codes.dedup();
    Ok(codes)
}

/// From which code of a key column on, and up to which, without that.
fn limits(ty: &DataType, least: Bound<ScalarValue>, most: Bound<ScalarValue>) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
    let code = |value: ScalarValue| encoded(ty, vec![value]).map(|mut codes| codes.pop().unwrap_or_default());
    let from = match least {
        Bound::Included(value) => code(value)?,
        Bound::Excluded(value) => successor(&code(value)?).unwrap_or_default(),
        Bound::Unbounded => Vec::new(),
    };
    let to = match most {
        Bound::Included(value) => successor(&code(value)?),
        Bound::Excluded(value) => Some(code(value)?),
        Bound::Unbounded => None,
    };
    Ok((from, to))
}

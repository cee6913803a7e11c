//! Types as Postgres sees them: every operator, cast, literal and choice between values is resolved from the leaves up, and what
//! DataFusion would answer otherwise becomes a function of ours.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::Result as DfResult;
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::tree_node::TransformedResult;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::Between;
use datafusion::logical_expr::BinaryExpr;
use datafusion::logical_expr::Case;
use datafusion::logical_expr::Cast;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::ExprSchemable;
use datafusion::logical_expr::Like;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::Operator as DfOperator;
use datafusion::logical_expr::Projection;
use datafusion::logical_expr::Union;
use datafusion::logical_expr::Values;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::optimizer::AnalyzerRule;

use crate::error::Error;
use crate::error::Result;
use crate::functions;
use crate::functions::cast::ASSIGN;
use crate::functions::cast::CastTo;
use crate::functions::cast::assign_expr;
use crate::functions::cast::cast_expr;
use crate::functions::cast::expr_type;
use crate::functions::from_datafusion;
use crate::functions::operator::Operator;
use crate::functions::operator::Symbol;
use crate::functions::operator::common_type;
use crate::functions::operator::plan_time_type;
use crate::functions::operator::resolve;
use crate::functions::quantified::ALL;
use crate::functions::quantified::ANY;
use crate::functions::raise::raise;
use crate::sql::semantics::recursion;
use crate::sql::semantics::unknowns::beside;
use crate::sql::semantics::unknowns::type_beside;
use crate::types::SqlType;
use crate::types::cast::Mode;
use crate::types::cast::is_text;
use crate::types::numeric::PRECISION_MAX;
use crate::types::zone::Zone;

/// The rule that runs before DataFusion's type coercion, which then finds little to do.
#[derive(Debug)]
pub struct Resolve;

impl AnalyzerRule for Resolve {
    fn name(&self) -> &str {
        "resolve"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> DfResult<LogicalPlan> {
        resolve_plan(plan, zone_of(config).map_err(raise)?)
    }
}

fn resolve_plan(plan: LogicalPlan, zone: Zone) -> DfResult<LogicalPlan> {
    let recursive = |plan: LogicalPlan| match plan {
        LogicalPlan::RecursiveQuery(query) => {
            let resolved = recursion::resolved(query, zone, |term| resolve_plan(term, zone))?;
            Ok(Transformed::new(resolved, true, TreeNodeRecursion::Jump))
        }
        plan => Ok(Transformed::no(plan)),
    };
    plan.transform_down_up_with_subqueries(recursive, |plan| resolve_node(plan, zone)).data()
}

/// The session's time zone.
pub fn zone_of(config: &ConfigOptions) -> Result<Zone> {
    config.execution.time_zone.as_deref().map_or(Ok(Zone::UTC), Zone::parse)
}

/// The columns that a node's expressions can name.
pub fn input_schema(plan: &LogicalPlan) -> DfResult<DFSchema> {
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = plan {
        schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
    }
    Ok(schema)
}

fn resolve_node(plan: LogicalPlan, zone: Zone) -> DfResult<Transformed<LogicalPlan>> {
    if matches!(plan, LogicalPlan::Limit(_)) {
        return Ok(Transformed::no(plan));
    }
    let schema = input_schema(&plan)?;
    let resolver = Resolver { schema: &schema, zone };
    if let LogicalPlan::Values(values) = plan {
        return resolver.values(values).map(Transformed::yes).map_err(raise);
    }
    if let LogicalPlan::Union(union) = plan {
        return resolver.union(union).map_err(raise);
    }
    let is_sort = matches!(plan, LogicalPlan::Sort(_));
    let names = NamePreserver::new(&plan);
    let plan = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let mut resolved = expr.transform_up(|expr| resolver.expr(expr).map(Transformed::yes).map_err(raise))?;
        if is_sort && resolver.type_of(&resolved.data).map_err(raise)? == Some(SqlType::Interval) {
            resolved = resolved.update_data(functions::moments::span);
        }
        Ok(resolved.update_data(|expr| name.restore(expr)))
    })?;
    plan.map_data(|plan| plan.recompute_schema())
}

/// The type of an output column; `None` for one whose type its use decides: NULL, or a text literal.
fn output_type(plan: &LogicalPlan, column: usize) -> Option<SqlType> {
    let field = plan.schema().field(column);
    let bare = |expr: &Expr| {
        let expr = if let Expr::Alias(alias) = expr { alias.expr.as_ref() } else { expr };
        matches!(expr, Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Null, None))
    };
    match plan {
        LogicalPlan::Projection(projection) if bare(&projection.expr[column]) => None,
        _ => SqlType::of_field(field).or_else(|| plan_time_type(field.data_type())),
    }
}

/// Resolves expressions over one schema.
struct Resolver<'a> {
    schema: &'a DFSchema,
    zone: Zone,
}

impl Resolver<'_> {
    /// An expression whose parts are resolved.
    fn expr(&self, expr: Expr) -> Result<Expr> {
        match expr {
            Expr::Literal(value, None) => Ok(Expr::Literal(narrow(value), None)),
            Expr::Column(_) => self.known(expr),
            Expr::Cast(cast) => self.cast(cast),
            Expr::BinaryExpr(binary) => self.binary(binary),
            Expr::Negative(operand) => self.negative(*operand),
            Expr::Between(between) => self.between(between),
            Expr::InList(list) => self.in_list(list),
            Expr::Case(case) => self.case(case),
            Expr::Like(like) => self.like(like),
            Expr::SimilarTo(like) => self.similar(like),
            Expr::Not(operand) => Ok(Expr::Not(Box::new(self.boolean("NOT", *operand)?))),
            Expr::ScalarFunction(function) => self.function(function),
            Expr::AggregateFunction(call) if call.params.distinct && call.func.name() == "count" => {
                self.count_distinct(call)
            }
            other => Ok(other),
        }
    }

    /// `count(DISTINCT x)` of intervals, which are equal however they are written.
    fn count_distinct(&self, mut call: AggregateFunction) -> Result<Expr> {
        for arg in &mut call.params.args {
            if self.type_of(arg)? == Some(SqlType::Interval) {
                *arg = functions::moments::span(std::mem::take(arg));
            }
        }
        Ok(Expr::AggregateFunction(call))
    }

    fn type_of(&self, expr: &Expr) -> Result<Option<SqlType>> {
        expr_type(expr, self.schema)
    }

    fn to(&self, expr: Expr, ty: &SqlType) -> Result<Expr> {
        let from = self.type_of(&expr)?;
        cast_expr(expr, from.as_ref(), ty, self.zone, Mode::Explicit)
    }

    /// The expression in a type that SQL has: DataFusion's functions give unsigned integers and string views.
    fn known(&self, expr: Expr) -> Result<Expr> {
        let (_, field) = expr.to_field(self.schema).map_err(from_datafusion)?;
        if *field.data_type() == DataType::Null || SqlType::of_field(&field).is_some() {
            return Ok(expr);
        }
        match plan_time_type(field.data_type()) {
            Some(ty) => Ok(Expr::Cast(Cast::new(Box::new(expr), ty.arrow()))),
            None => Ok(expr),
        }
    }

    /// A truth value; `form` names what wants it in the error.
    fn boolean(&self, form: &str, expr: Expr) -> Result<Expr> {
        match self.type_of(&expr)? {
            None => self.to(expr, &SqlType::Boolean),
            Some(SqlType::Boolean) => Ok(expr),
            Some(ty) => {
                let name = functions::operator::base_name(&ty);
                Err(Error::type_mismatch(format!("argument of {form} must be type boolean, not type {name}")))
            }
        }
    }

    fn cast(&self, cast: Cast) -> Result<Expr> {
        if let DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, Some(zone)) = cast.field.data_type() {
            return self.at_time_zone(*cast.expr, zone);
        }
        let Some(to) = SqlType::of_field(&cast.field) else { return Ok(Expr::Cast(cast)) };
        self.to(*cast.expr, &to)
    }

    /// `AT TIME ZONE`, which DataFusion plans as a cast to nanoseconds.
    fn at_time_zone(&self, operand: Expr, zone: &str) -> Result<Expr> {
        let zone = Zone::parse(zone)?;
        match self.type_of(&operand)? {
            Some(SqlType::Timestamp) => {
                cast_expr(operand, Some(&SqlType::Timestamp), &SqlType::Timestamptz, zone, Mode::Explicit)
            }
            _ => {
                let moment = self.to(operand, &SqlType::Timestamptz)?;
                cast_expr(moment, Some(&SqlType::Timestamptz), &SqlType::Timestamp, zone, Mode::Explicit)
            }
        }
    }

    fn binary(&self, binary: BinaryExpr) -> Result<Expr> {
        let BinaryExpr { left, op, right } = binary;
        match op {
            DfOperator::And | DfOperator::Or => {
                let form = if op == DfOperator::And { "AND" } else { "OR" };
                let (left, right) = (self.boolean(form, *left)?, self.boolean(form, *right)?);
                Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
            }
            _ => match symbol(op) {
                Some(symbol) => self.operator(symbol, *left, *right),
                None => Ok(Expr::BinaryExpr(BinaryExpr { left, op, right })),
            },
        }
    }

    fn operator(&self, symbol: Symbol, left: Expr, right: Expr) -> Result<Expr> {
        let (left, right) = match symbol {
            Symbol::Concat => (left, right),
            _ => (beside(left.clone(), self.type_of(&right)?.as_ref()), beside(right, self.type_of(&left)?.as_ref())),
        };
        let (left_type, right_type) = (self.type_of(&left)?, self.type_of(&right)?);
        let resolved = resolve(symbol, left_type.as_ref(), right_type.as_ref())?;
        let left = cast_expr(left, left_type.as_ref(), &resolved.left, self.zone, Mode::Explicit)?;
        let right = cast_expr(right, right_type.as_ref(), &resolved.right, self.zone, Mode::Explicit)?;
        let Some(op) = comparison(symbol) else {
            let zone = if resolved.left == SqlType::Interval || resolved.right == SqlType::Interval {
                self.zone
            } else {
                Zone::UTC
            };
            return Ok(Operator::resolved_expr(symbol, vec![left, right], &resolved.result, zone));
        };
        let (left, right) = match resolved.left {
            SqlType::Interval => (functions::moments::span(left), functions::moments::span(right)),
            _ => (left, right),
        };
        Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
    }

    fn negative(&self, operand: Expr) -> Result<Expr> {
        let ty = match self.type_of(&operand)? {
            Some(ty) => ty,
            None => SqlType::Double,
        };
        let operand = self.to(operand, &ty)?;
        if let Expr::Literal(value, metadata) = &operand
            && let Ok(negated) = value.arithmetic_negate()
            && ty != SqlType::Interval
        {
            return Ok(Expr::Literal(narrow(negated), metadata.clone()));
        }
        Ok(functions::math::negate(operand))
    }

    /// All in their common type; `form` names the construct in the error.
    fn unify(&self, form: &str, exprs: Vec<Expr>) -> Result<Vec<Expr>> {
        let types = exprs.iter().map(|expr| self.type_of(expr)).collect::<Result<Vec<_>>>()?;
        let common = self.common(form, &types)?;
        let unified = exprs.into_iter().zip(&types);
        unified.map(|(expr, from)| cast_expr(expr, from.as_ref(), &common, self.zone, Mode::Explicit)).collect()
    }

    fn common(&self, form: &str, types: &[Option<SqlType>]) -> Result<SqlType> {
        let references: Vec<_> = types.iter().map(Option::as_ref).collect();
        common_type(&references).ok_or_else(|| {
            let names: Vec<_> = types.iter().flatten().map(functions::operator::base_name).collect();
            let first = &names[0];
            let other = names.iter().find(|name| *name != first).unwrap_or(first);
            Error::type_mismatch(format!("{form} types {first} and {other} cannot be matched"))
        })
    }

    /// `a BETWEEN b AND c`: two comparisons, as each has its own types.
    fn between(&self, between: Between) -> Result<Expr> {
        let Between { expr, negated, low, high } = between;
        let (low_op, high_op, join) = match negated {
            false => (Symbol::GreaterEqual, Symbol::LessEqual, DfOperator::And),
            true => (Symbol::Less, Symbol::Greater, DfOperator::Or),
        };
        let low = self.operator(low_op, expr.as_ref().clone(), *low)?;
        let high = self.operator(high_op, *expr, *high)?;
        Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(low), join, Box::new(high))))
    }

    fn in_list(&self, list: InList) -> Result<Expr> {
        let InList { expr, list, negated } = list;
        let mut operand_first = vec![*expr];
        operand_first.extend(list);
        let types = operand_first.iter().map(|expr| self.type_of(expr)).collect::<Result<Vec<_>>>()?;
        let number = types.into_iter().flatten().find(|ty| matches!(ty, SqlType::Numeric { .. }));
        let operand_first = operand_first.into_iter().map(|expr| beside(expr, number.as_ref())).collect::<Vec<_>>();
        let types = operand_first.iter().map(|expr| self.type_of(expr)).collect::<Result<Vec<_>>>()?;
        let references: Vec<_> = types.iter().map(Option::as_ref).collect();
        let Some(common) = common_type(&references) else {
            let other = references.iter().find(|ty| common_type(&[references[0], **ty]).is_none());
            return Err(resolve(Symbol::Equal, references[0], other.copied().flatten())
                .err()
                .unwrap_or_else(|| Error::type_mismatch("IN types cannot be matched")));
        };
        let casts = operand_first.into_iter().zip(&types);
        let mut unified = casts.map(|(expr, from)| cast_expr(expr, from.as_ref(), &common, self.zone, Mode::Explicit));
        let mut first = unified.next().ok_or_else(|| Error::internal("IN without an operand"))??;
        let mut rest = unified.collect::<Result<Vec<_>>>()?;
        if common == SqlType::Interval {
            first = functions::moments::span(first);
            rest = rest.into_iter().map(functions::moments::span).collect();
        }
        Ok(Expr::InList(InList { expr: Box::new(first), list: rest, negated }))
    }

    fn case(&self, case: Case) -> Result<Expr> {
        let Case { expr, when_then_expr, else_expr } = case;
        let (whens, thens): (Vec<_>, Vec<_>) = when_then_expr.into_iter().map(|(when, then)| (*when, *then)).unzip();
        let whens = match expr {
            Some(operand) => {
                let equals = whens.into_iter().map(|when| self.operator(Symbol::Equal, operand.as_ref().clone(), when));
                equals.collect::<Result<Vec<_>>>()?
            }
            None => whens.into_iter().map(|when| self.boolean("CASE/WHEN", when)).collect::<Result<Vec<_>>>()?,
        };
        let count = thens.len();
        let mut values = thens;
        values.extend(else_expr.map(|otherwise| *otherwise));
        let mut values = self.unify("CASE", values)?;
        let otherwise = values.drain(count..).next().map(Box::new);
        let branches = whens.into_iter().zip(values).map(|(when, then)| (Box::new(when), Box::new(then))).collect();
        Ok(Expr::Case(Case { expr: None, when_then_expr: branches, else_expr: otherwise }))
    }

    fn like(&self, like: Like) -> Result<Expr> {
        let expr = self.text_operand(*like.expr)?;
        let pattern = self.text_operand(*like.pattern)?;
        let plain = like.escape_char.is_none_or(|escape| escape == '\\');
        if plain {
            return Ok(Expr::Like(Like {
                expr: Box::new(expr),
                pattern: Box::new(pattern),
                escape_char: None,
                ..like
            }));
        }
        let matched = functions::patterns::like(expr, pattern, like.escape_char, like.case_insensitive);
        Ok(if like.negated { Expr::Not(Box::new(matched)) } else { matched })
    }

    fn similar(&self, like: Like) -> Result<Expr> {
        let expr = self.text_operand(*like.expr)?;
        let pattern = self.text_operand(*like.pattern)?;
        let matched = functions::patterns::similar(expr, pattern, like.escape_char);
        Ok(if like.negated { Expr::Not(Box::new(matched)) } else { matched })
    }

    fn text_operand(&self, expr: Expr) -> Result<Expr> {
        match self.type_of(&expr)? {
            Some(ty) if is_text(&ty) => Ok(expr),
            None => self.to(expr, &SqlType::Text),
            Some(ty) => {
                let ty = functions::operator::base_name(&ty);
                Err(Error::undefined_function(format!("operator does not exist: {ty} ~~ unknown")).hint(
                    "No operator matches the given name and argument types. You might need to add explicit type casts.",
                ))
            }
        }
    }

    fn function(&self, function: ScalarFunction) -> Result<Expr> {
        if let Some(operator) = Operator::of(&function.func) {
            if operator.resolved {
                return Ok(Expr::ScalarFunction(function));
            }
            let mut operands = function.args.into_iter();
            return match (operands.next(), operands.next()) {
                (Some(left), Some(right)) => self.operator(operator.symbol, left, right),
                _ => Err(Error::internal("an operator without operands")),
            };
        }
        if CastTo::of(&function.func).is_some() {
            return Ok(Expr::ScalarFunction(function));
        }
        let ScalarFunction { func, mut args } = function;
        if func.name() == ASSIGN && args.len() == 2 {
            let target = self.type_of(&args[1])?.unwrap_or(SqlType::Text);
            return assign_expr(args.swap_remove(0), &target, self.schema, self.zone);
        }
        let args = match func.name() {
            "coalesce" | "greatest" | "least" => self.unify(&func.name().to_uppercase(), args)?,
            "nullif" => self.unify("NULLIF", args)?,
            "encode" => self.unknown_as(&SqlType::Bytea, args)?,
            ANY | ALL if args.len() == 3 => self.quantified(args)?,
            "concat" | "concat_ws" => args.into_iter().map(|arg| self.short_boolean(arg)).collect::<Result<_>>()?,
            _ => functions::moments::with_zone(func.name(), args, self.schema, self.zone)?,
        };
        let places = literal_places(func.name(), &args);
        let call = self.known(Expr::ScalarFunction(ScalarFunction { func, args }))?;
        match (places, self.type_of(&call)?) {
            (Some(scale), Some(SqlType::Numeric { .. })) => {
                self.to(call, &SqlType::Numeric { precision: PRECISION_MAX, scale })
            }
            _ => Ok(call),
        }
    }

    /// `x op ANY (array)` and `x op ALL (array)`: operand and items in one type, which one of them may say alone.
    fn quantified(&self, mut args: Vec<Expr>) -> Result<Vec<Expr>> {
        let operand = self.type_of(&args[1])?;
        let ty = match (self.type_of(&args[2])?, operand) {
            (None, operand) => type_beside(operand),
            (Some(SqlType::Array(item)), None) => *item,
            (Some(SqlType::Array(item)), Some(operand)) => match common_type(&[Some(&operand), Some(&item)]) {
                Some(common) => common,
                None => resolve(Symbol::Equal, Some(&operand), Some(&item))?.left,
            },
            (Some(_), _) => {
                return Err(Error::wrong_object_type("op ANY/ALL (array) requires array on right side")
                    .hint("Write ANY (ARRAY[1, 2]), ANY ('{1,2}') or ANY (SELECT ...)."));
            }
        };
        if ty == SqlType::Interval {
            return Err(Error::unsupported("intervals cannot be compared with the items of an array")
                .hint("Write the comparisons one by one, or ANY (SELECT ...)."));
        }
        args[1] = self.to(std::mem::take(&mut args[1]), &ty)?;
        args[2] = self.to(std::mem::take(&mut args[2]), &SqlType::Array(Box::new(ty)))?;
        Ok(args)
    }

    /// The first argument, if nothing else says its type, as one of this type.
    fn unknown_as(&self, ty: &SqlType, mut args: Vec<Expr>) -> Result<Vec<Expr>> {
        if let Some(first) = args.first_mut()
            && self.type_of(first)?.is_none()
        {
            *first = self.to(first.clone(), ty)?;
        }
        Ok(args)
    }

    /// A boolean as `t` or `f`: what `concat` writes, where a cast to text writes the word.
    fn short_boolean(&self, expr: Expr) -> Result<Expr> {
        if self.type_of(&expr)? != Some(SqlType::Boolean) {
            return Ok(expr);
        }
        let letter = |text: &str| Box::new(datafusion::logical_expr::lit(text));
        let no = Expr::Not(Box::new(expr.clone()));
        Ok(Expr::Case(Case::new(None, vec![(Box::new(expr), letter("t")), (Box::new(no), letter("f"))], None)))
    }

    /// UNION: each column in its common type.
    fn union(&self, union: Union) -> Result<Transformed<LogicalPlan>> {
        let width = union.schema.fields().len();
        let types = |at: usize| union.inputs.iter().map(|input| output_type(input, at)).collect::<Vec<_>>();
        let common = (0..width).map(|at| self.common("UNION", &types(at))).collect::<Result<Vec<_>>>()?;
        let agrees = |input: &LogicalPlan| (0..width).all(|at| output_type(input, at).as_ref() == Some(&common[at]));
        if union.inputs.iter().all(|input| agrees(input)) {
            // Its own schema is from before its inputs were resolved.
            let stale = (0..width).any(|at| SqlType::of_field(union.schema.field(at)).as_ref() != Some(&common[at]));
            let union = if stale { Union::try_new(union.inputs).map_err(from_datafusion)? } else { union };
            return Ok(Transformed::new_transformed(LogicalPlan::Union(union), stale));
        }
        let cast_input = |input: &Arc<LogicalPlan>| -> Result<Arc<LogicalPlan>> {
            let columns = input.schema().columns();
            let casts = columns.into_iter().zip(&common).enumerate().map(|(at, (column, ty))| {
                let from = SqlType::of_field(input.schema().field(at));
                let (relation, name) = (column.relation.clone(), column.name.clone());
                let cast = cast_expr(Expr::Column(column), from.as_ref(), ty, self.zone, Mode::Explicit)?;
                Ok(cast.alias_qualified(relation, name))
            });
            let casts = casts.collect::<Result<Vec<_>>>()?;
            let projection = Projection::try_new(casts, input.clone()).map_err(from_datafusion)?;
            Ok(Arc::new(LogicalPlan::Projection(projection)))
        };
        let inputs = union.inputs.iter().map(cast_input).collect::<Result<Vec<_>>>()?;
        let union = Union::try_new(inputs).map_err(from_datafusion)?;
        Ok(Transformed::yes(LogicalPlan::Union(union)))
    }

    /// VALUES: each column in its common type.
    fn values(&self, values: Values) -> Result<LogicalPlan> {
        let resolve_row = |row: Vec<Expr>| -> Result<Vec<Expr>> {
            let resolved =
                row.into_iter().map(|expr| expr.transform_up(|e| self.expr(e).map(Transformed::yes).map_err(raise)));
            resolved.map(|expr| expr.data().map_err(from_datafusion)).collect()
        };
        let rows = values.values.into_iter().map(resolve_row).collect::<Result<Vec<_>>>()?;
        let width = values.schema.fields().len();
        let mut columns: Vec<std::vec::IntoIter<Expr>> = Vec::with_capacity(width);
        let mut fields = Vec::with_capacity(width);
        for at in 0..width {
            let column = rows.iter().filter_map(|row| row.get(at).cloned()).collect();
            let column = self.unify("VALUES", column)?;
            let ty = column.first().map_or(Ok(None), |expr| self.type_of(expr))?.unwrap_or(SqlType::Text);
            let (qualifier, field) = values.schema.qualified_field(at);
            fields.push((qualifier.cloned(), Arc::new(ty.field(field.name(), true))));
            columns.push(column.into_iter());
        }
        let rows = (0..rows.len()).map(|_| columns.iter_mut().filter_map(Iterator::next).collect()).collect();
        let schema = DFSchema::new_with_metadata(fields, Default::default()).map_err(from_datafusion)?;
        Ok(LogicalPlan::Values(Values { schema: Arc::new(schema), values: rows }))
    }
}

/// The digits after the point that `round(x, n)` and `trunc(x, n)` show, where `n` is a literal.
fn literal_places(function: &str, args: &[Expr]) -> Option<i8> {
    match (function, args) {
        ("round" | "trunc", [_, Expr::Literal(ScalarValue::Int32(Some(places)), _)]) => {
            Some((*places).clamp(0, 20) as i8)
        }
        _ => None,
    }
}

/// A number as Postgres types it: an `integer` if it fits, else a `bigint`, else a `numeric`.
fn narrow(value: ScalarValue) -> ScalarValue {
    match value {
        ScalarValue::Int64(Some(number)) => match i32::try_from(number) {
            // The least of all is a `bigint`: in Postgres the sign is not part of the number.
            Ok(i32::MIN) | Err(_) => ScalarValue::Int64(Some(number)),
            Ok(small) => ScalarValue::Int32(Some(small)),
        },
        ScalarValue::UInt64(Some(number)) => ScalarValue::Decimal128(Some(number as i128), 20, 0),
        other => other,
    }
}

/// DataFusion's operator for a comparison.
fn comparison(symbol: Symbol) -> Option<DfOperator> {
    Some(match symbol {
        Symbol::Equal => DfOperator::Eq,
        Symbol::NotEqual => DfOperator::NotEq,
        Symbol::Less => DfOperator::Lt,
        Symbol::LessEqual => DfOperator::LtEq,
        Symbol::Greater => DfOperator::Gt,
        Symbol::GreaterEqual => DfOperator::GtEq,
        Symbol::Distinct => DfOperator::IsDistinctFrom,
        Symbol::NotDistinct => DfOperator::IsNotDistinctFrom,
        _ => return None,
    })
}

/// Our operator for one of DataFusion's.
fn symbol(op: DfOperator) -> Option<Symbol> {
    Some(match op {
        DfOperator::Eq => Symbol::Equal,
        DfOperator::NotEq => Symbol::NotEqual,
        DfOperator::Lt => Symbol::Less,
        DfOperator::LtEq => Symbol::LessEqual,
        DfOperator::Gt => Symbol::Greater,
        DfOperator::GtEq => Symbol::GreaterEqual,
        DfOperator::IsDistinctFrom => Symbol::Distinct,
        DfOperator::IsNotDistinctFrom => Symbol::NotDistinct,
        DfOperator::Plus => Symbol::Add,
        DfOperator::Minus => Symbol::Subtract,
        DfOperator::Multiply => Symbol::Multiply,
        DfOperator::Divide => Symbol::Divide,
        DfOperator::Modulo => Symbol::Modulo,
        DfOperator::StringConcat => Symbol::Concat,
        _ => return None,
    })
}

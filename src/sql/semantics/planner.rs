//! Operators and special forms of SQL as functions of ours, while DataFusion plans them: their types are looked at later.

use datafusion::common::DFSchema;
use datafusion::common::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::planner::PlannerResult;
use datafusion::logical_expr::planner::RawBinaryExpr;
use sqlparser::ast::BinaryOperator;

use crate::functions::moments;
use crate::functions::operator::Operator;
use crate::functions::operator::Symbol;
use crate::functions::strings;

/// Plans binary operators, EXTRACT, SUBSTRING and POSITION.
#[derive(Debug)]
pub struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, raw: RawBinaryExpr, _schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        Ok(match symbol(&raw.op) {
            Some(symbol) => PlannerResult::Planned(Operator::expr(symbol, raw.left, raw.right)),
            None => PlannerResult::Original(raw),
        })
    }

    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(moments::extract(args)))
    }

    fn plan_substring(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(strings::substring_call(args)))
    }

    fn plan_position(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(strings::position_call(args)))
    }
}

fn symbol(op: &BinaryOperator) -> Option<Symbol> {
    Some(match op {
        BinaryOperator::Plus => Symbol::Add,
        BinaryOperator::Minus => Symbol::Subtract,
        BinaryOperator::Multiply => Symbol::Multiply,
        BinaryOperator::Divide => Symbol::Divide,
        BinaryOperator::Modulo => Symbol::Modulo,
        BinaryOperator::PGExp | BinaryOperator::BitwiseXor => Symbol::Power,
        BinaryOperator::StringConcat => Symbol::Concat,
        BinaryOperator::BitwiseAnd => Symbol::BitAnd,
        BinaryOperator::BitwiseOr => Symbol::BitOr,
        BinaryOperator::PGBitwiseXor => Symbol::BitXor,
        BinaryOperator::PGBitwiseShiftLeft => Symbol::ShiftLeft,
        BinaryOperator::PGBitwiseShiftRight => Symbol::ShiftRight,
        BinaryOperator::Eq => Symbol::Equal,
        BinaryOperator::NotEq => Symbol::NotEqual,
        BinaryOperator::Lt => Symbol::Less,
        BinaryOperator::LtEq => Symbol::LessEqual,
        BinaryOperator::Gt => Symbol::Greater,
        BinaryOperator::GtEq => Symbol::GreaterEqual,
        BinaryOperator::PGRegexMatch => Symbol::Matches,
        BinaryOperator::PGRegexIMatch => Symbol::MatchesAnyCase,
        BinaryOperator::PGRegexNotMatch => Symbol::MatchesNot,
        BinaryOperator::PGRegexNotIMatch => Symbol::MatchesNotAnyCase,
        _ => return None,
    })
}

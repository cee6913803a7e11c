//! `x op ANY (array)` and `x op ALL (array)`, with NULL where Postgres says so.

use std::sync::Arc;

use arrow::array::Array;
use arrow::array::AsArray;
use arrow::array::BooleanArray;
use arrow::array::UInt32Array;
use arrow::compute::kernels::cmp;
use arrow::compute::take;
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::ScalarFunctionArgs;
use datafusion::logical_expr::ScalarUDF;

use crate::error::Error;
use crate::error::Result;
use crate::functions::columns::arrays;
use crate::functions::columns::result;
use crate::functions::define::function;
use crate::types::SqlType;
use crate::types::cast::unwrap_arrow;

/// The name of `x op ANY (array)` as a function of the operator's text, `x` and the array.
pub const ANY: &str = "compared_any";

/// The same of `x op ALL (array)`.
pub const ALL: &str = "compared_all";

/// The functions of this file.
pub fn functions() -> Vec<ScalarUDF> {
    vec![function(ANY, &[], types, any), function(ALL, &[], types, all)]
}

/// The types as they are: who resolves types has brought operand and items to one.
fn types(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    let known = types.iter().map(|ty| ty.clone().unwrap_or(SqlType::Text)).collect();
    (types.len() == 3).then_some((known, SqlType::Boolean))
}

fn any(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    compared(args, true)
}

fn all(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    compared(args, false)
}

/// Compares every item with its row's operand at once, then folds the answers of each row: the first that is `decisive` is the row's,
/// else NULL if there is one, else the opposite.
fn compared(args: &ScalarFunctionArgs, decisive: bool) -> Result<ColumnarValue> {
    let columns = arrays(args)?;
    let [op, operands, lists] = columns.as_slice() else {
        return Err(Error::internal("a comparison lacks an operand"));
    };
    let lists = lists.as_list::<i32>();
    let rows = (0..lists.len()).flat_map(|row| std::iter::repeat_n(row as u32, lists.value_length(row) as usize));
    let operands = take(operands, &rows.collect::<UInt32Array>(), None).map_err(unwrap_arrow)?;
    let (first, last) = (lists.value_offsets()[0], lists.value_offsets()[lists.len()]);
    let items = lists.values().slice(first as usize, (last - first) as usize);
    let answers = match op.as_string::<i32>().iter().next().flatten().unwrap_or_default() {
        "=" => cmp::eq(&operands, &items),
        "<>" => cmp::neq(&operands, &items),
        "<" => cmp::lt(&operands, &items),
        "<=" => cmp::lt_eq(&operands, &items),
        ">" => cmp::gt(&operands, &items),
        ">=" => cmp::gt_eq(&operands, &items),
        other => return Err(Error::undefined_function(format!("operator does not exist: {other} with ANY or ALL"))),
    }
    .map_err(unwrap_arrow)?;
    let fold = |row: usize| {
        if lists.is_null(row) {
            return None;
        }
        let start = (lists.value_offsets()[row] - first) as usize;
        let answers = answers.slice(start, lists.value_length(row) as usize);
        let is_decided = answers.iter().flatten().any(|answer| answer == decisive);
        if is_decided { Some(decisive) } else { (answers.null_count() == 0).then_some(!decisive) }
    };
    result(Arc::new((0..lists.len()).map(fold).collect::<BooleanArray>()), &args.args)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int32Array;
    use arrow::array::ListArray;
    use arrow::array::StringArray;
    use arrow::array::types::Int32Type;
    use arrow::datatypes::DataType;
    use arrow::datatypes::Field;

    fn answer(op: &str, quantifier: fn(&ScalarFunctionArgs) -> Result<ColumnarValue>) -> Vec<Option<bool>> {
        let lists: Vec<Option<Vec<Option<i32>>>> =
            vec![Some(vec![]), Some(vec![Some(1), None]), None, Some(vec![Some(2), Some(3)]), Some(vec![Some(1)])];
        // A part of a larger array: its items do not begin at the first.
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(lists).slice(1, 4);
        let operands = Int32Array::from(vec![Some(1), Some(1), Some(2), None]);
        let columns: Vec<arrow::array::ArrayRef> =
            vec![Arc::new(StringArray::from(vec![op; 4])), Arc::new(operands), Arc::new(lists)];
        let fields = columns.iter().map(|column| Arc::new(Field::new("a", column.data_type().clone(), true))).collect();
        let args = ScalarFunctionArgs {
            args: columns.into_iter().map(ColumnarValue::Array).collect(),
            arg_fields: fields,
            number_rows: 4,
            return_field: Arc::new(Field::new("r", DataType::Boolean, true)),
            config_options: Default::default(),
        };
        let ColumnarValue::Array(array) = quantifier(&args).unwrap() else { panic!("columns give a column") };
        array.as_boolean().iter().collect()
    }

    #[test]
    fn nulls_leave_open_what_nothing_decides() {
        assert_eq!(answer("=", any), [Some(true), None, Some(true), None]);
        assert_eq!(answer("<>", any), [None, None, Some(true), None]);
        assert_eq!(answer("<>", all), [Some(false), None, Some(false), None]);
        assert_eq!(answer("<=", all), [None, None, Some(true), None]);
        assert_eq!(answer("<", any), [None, None, Some(true), None]);
    }
}

//! A scalar function in one line: its name, its types, its body.

use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;

use arrow::datatypes::DataType;
use arrow::datatypes::FieldRef;
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::ReturnFieldArgs;
use datafusion::logical_expr::ScalarFunctionArgs;
use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::ScalarUDFImpl;
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::Volatility;
use datafusion::logical_expr::expr::ScalarFunction;

use crate::error::Error;
use crate::error::Result;
use crate::functions::operator::base_name;
use crate::functions::operator::plan_time_type;
use crate::functions::raise::raise;
use crate::types::SqlType;

/// The types that a function wants and gives for arguments of these types (`None`: NULL); `None`: it does not take them.
pub type Types = fn(&[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)>;

/// What a function does.
pub type Body = fn(&ScalarFunctionArgs) -> Result<ColumnarValue>;

/// A function.
#[derive(Debug)]
pub struct Function {
    /// Its name.
    name: &'static str,
    /// Other names.
    aliases: Vec<String>,
    /// Its types.
    types: Types,
    /// What it does.
    body: Body,
    /// User defined: [`Types`] decides.
    signature: Signature,
}

/// An immutable function.
pub fn function(name: &'static str, aliases: &[&str], types: Types, body: Body) -> ScalarUDF {
    let aliases = aliases.iter().map(ToString::to_string).collect();
    ScalarUDF::from(Function { name, aliases, types, body, signature: Signature::user_defined(Volatility::Immutable) })
}

/// A function applied.
pub fn call(function: ScalarUDF, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), args))
}

impl Function {
    fn resolve(&self, types: &[Option<SqlType>]) -> DfResult<(Vec<SqlType>, SqlType)> {
        (self.types)(types).ok_or_else(|| raise(no_function(self.name, types)))
    }
}

/// The error of a function that does not take these types.
pub fn no_function(name: &str, types: &[Option<SqlType>]) -> Error {
    let names: Vec<_> = types.iter().map(|ty| ty.as_ref().map_or("unknown".to_string(), base_name)).collect();
    Error::undefined_function(format!("function {name}({}) does not exist", names.join(", ")))
        .hint("No function matches the given name and argument types. You might need to add explicit type casts.")
}

/// The same out of DataFusion's complaint about a function's arguments, if a message is one.
pub fn no_function_in(message: &str) -> Option<Error> {
    let (name, types) = match message.split_once("' function: coercion from ") {
        Some((before, after)) => (before.rsplit('\'').next()?, after.split(" to the signature").next()?),
        None => {
            let (_, call) = message.split_once("No function matches the given name and argument types '")?;
            call.split('\'').next()?.strip_suffix(')')?.split_once('(')?
        }
    };
    let types = top_level(types).into_iter().filter(|ty| !ty.is_empty()).map(|ty| known(&ty.parse().ok()?));
    Some(no_function(name, &types.collect::<Vec<_>>()))
}

/// The parts of a list between its commas; those within parentheses are no such.
fn top_level(list: &str) -> Vec<&str> {
    let mut depth = 0;
    let between = |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    };
    list.split(between).map(str::trim).collect()
}

/// The SQL type of a type of DataFusion's.
pub fn known(ty: &DataType) -> Option<SqlType> {
    SqlType::of_arrow(ty).or_else(|| plan_time_type(ty))
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        let types: Vec<_> = types.iter().map(known).collect();
        let (arguments, _) = self.resolve(&types)?;
        Ok(arguments.iter().map(SqlType::arrow).collect())
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        let types: Vec<_> = types.iter().map(known).collect();
        Ok(self.resolve(&types)?.1.arrow())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|field| known(field.data_type())).collect();
        Ok(Arc::new(self.resolve(&types)?.1.field(self.name, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        (self.body)(&args).map_err(raise)
    }
}

//! The time of a transaction: `now()`, `current_timestamp`, `current_date` and their kin.
//!
//! They read [`Now`] out of the session's options and never fold into a plan: a view's `now()` is the epoch's, a read's that of its
//! transaction.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::DataType;
use arrow::datatypes::FieldRef;
use datafusion::common::Result as DfResult;
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigEntry;
use datafusion::common::config::ConfigExtension;
use datafusion::common::config::ConfigOptions;
use datafusion::common::config::ExtensionOptions;
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::ReturnFieldArgs;
use datafusion::logical_expr::ScalarFunctionArgs;
use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::ScalarUDFImpl;
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::Volatility;

use crate::error::Error;
use crate::error::Result;
use crate::functions::raise::from_datafusion;
use crate::functions::raise::raise;
use crate::time::Micros;
use crate::types::SqlType;
use crate::types::cast::Mode;
use crate::types::cast::cast;
use crate::types::zone::Zone;

/// The time of the transaction, among the session's options.
#[derive(Clone, Debug, Default)]
pub struct Now {
    /// Microseconds since 1970-01-01 UTC.
    pub micros: Micros,
}

impl ExtensionOptions for Now {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _value: &str) -> DfResult<()> {
        Err(raise(Error::undefined_object(format!("option {key} cannot be set"))))
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}

impl ConfigExtension for Now {
    const PREFIX: &'static str = "now";
}

/// Sets the time that `now()` answers under these options.
pub fn set_now(options: &mut ConfigOptions, now: Micros) {
    options.extensions.insert(Now { micros: now });
}

/// The functions of this file.
pub fn functions() -> Vec<ScalarUDF> {
    let function = |name, aliases: &[&str], ty| {
        let aliases = aliases.iter().map(ToString::to_string).collect();
        ScalarUDF::from(Clock { name, aliases, ty, signature: Signature::nullary(Volatility::Stable) })
    };
    vec![
        function("now", &["current_timestamp", "transaction_timestamp", "statement_timestamp"], SqlType::Timestamptz),
        function("localtimestamp", &[], SqlType::Timestamp),
        function("current_date", &["today"], SqlType::Date),
        function("localtime", &["current_time"], SqlType::Time),
    ]
}

/// A function that tells the time as one type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Clock {
    name: &'static str,
    aliases: Vec<String>,
    /// What it gives, in the session's time zone.
    ty: SqlType,
    signature: Signature,
}

impl ScalarUDFImpl for Clock {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> DfResult<DataType> {
        Ok(self.ty.arrow())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(self.ty.field(self.name, false)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        self.tell(&args.config_options).map_err(raise)
    }
}

impl Clock {
    fn tell(&self, options: &ConfigOptions) -> Result<ColumnarValue> {
        let Some(now) = options.extensions.get::<Now>() else {
            return Err(Error::internal("now() was called without a transaction's time"));
        };
        let moment = ScalarValue::TimestampMicrosecond(Some(now.micros), Some(crate::types::UTC.into()));
        let zone = options.execution.time_zone.as_deref().map_or(Ok(Zone::UTC), Zone::parse)?;
        let moment = moment.to_array().map_err(from_datafusion)?;
        let told = cast(&moment, &SqlType::Timestamptz, &self.ty, zone, Mode::Explicit)?;
        Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&told, 0).map_err(from_datafusion)?))
    }
}

//! `CREATE SUBSCRIPTION` and `ALTER SUBSCRIPTION`.

use sqlparser::ast::ObjectName;

use crate::catalog::{ObjectKind, Subscription};
use crate::error::{Error, Kind, Result};
use crate::ids::{Epoch, ObjectId};
use crate::sql::BindContext;
use crate::sql::bind::names::{new_name, parts, resolve_object};
use crate::sql::bound::{Advance, Ddl};
use crate::sql::options::Options;
use crate::sql::parse::ast as parsed;

/// Binds CREATE SUBSCRIPTION.
pub fn bind_create(context: &BindContext, create: &parsed::CreateSubscription, sql: &str) -> Result<Ddl> {
    let name = new_name(&create.name, context)?;
    let mut options = Options::new(&create.options);
    let retention_ms = options.duration_ms("retention")?;
    options.finish()?;
    let object = resolve_object(&create.from, context)?;
    match &object.kind {
        ObjectKind::Table(_) | ObjectKind::MaterializedView(_) => {}
        ObjectKind::Source(_) | ObjectKind::View(_) | ObjectKind::Sink(_) | ObjectKind::Subscription(_) => {
            let message = format!("{} \"{}\" cannot have subscriptions", object.noun(), object.name);
            return Err(Error::wrong_object_type(message)
                .hint("Tables and materialized views can: create a materialized view of what is to be followed."));
        }
    }
    let subscription = Subscription { of: object.id, retention_ms };
    Ok(Ddl::CreateSubscription { name, if_not_exists: create.if_not_exists, subscription, sql: sql.to_string() })
}

/// Binds ALTER SUBSCRIPTION.
pub fn bind_advance(context: &BindContext, advance: &parsed::Advance) -> Result<Advance> {
    let subscription = resolve_subscription(&advance.name, context)?;
    Ok(Advance { subscription, to: advance.to.as_ref().map(|to| Epoch(to.epoch)) })
}

fn resolve_subscription(name: &ObjectName, context: &BindContext) -> Result<ObjectId> {
    match resolve_object(name, context) {
        Ok(object) if object.subscription().is_some() => Ok(object.id),
        Ok(object) => Err(Error::wrong_object_type(format!("\"{}\" is not a subscription", object.name))
            .hint(format!("It is a {}.", object.noun()))),
        Err(error) if error.kind == Kind::UndefinedTable => {
            Err(Error { message: format!("subscription \"{}\" does not exist", parts(name).join(".")), ..error })
        }
        Err(error) => Err(error),
    }
}

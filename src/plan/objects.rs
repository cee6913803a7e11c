//! What is known of an object that a view reads: its stored columns, and what is proved of its rows.

use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::catalog::Storage;
use crate::error::Error;
use crate::error::Result;
use crate::plan::properties;
use crate::plan::properties::Properties;
use crate::plan::stored;
use crate::types::Column;

/// The stored columns of an object, with what is proved of them.
pub fn object_properties(object: &Object) -> Result<(Vec<Column>, Properties)> {
    let mut columns = object.stored_columns();
    let declared = |append_only| Properties {
        key: match object.storage() {
            Some(Storage::Keyed(key)) => Some(key),
            Some(Storage::Hashed | Storage::Log) | None => None,
        },
        append_only,
        watermarks: object.watermark().map(|w| w.column).into_iter().collect(),
        closing: vec![],
    };
    let properties = match &object.kind {
        ObjectKind::Table(table) => {
            table.primary_key.iter().for_each(|&c| columns[c].nullable = false);
            declared(table.append_only)
        }
        ObjectKind::Source(_) => {
            columns.iter_mut().for_each(|c| c.nullable = true);
            declared(true)
        }
        ObjectKind::MaterializedView(view) => {
            let plan = stored::read(&view.plan)?;
            let last = plan.nodes.last().expect("a stored plan that was read has nodes");
            columns =
                columns.into_iter().zip(&last.columns).map(|(c, l)| Column { nullable: l.nullable, ..c }).collect();
            properties::of(last)
        }
        ObjectKind::View(_) => return Err(Error::internal(format!("view {} was not put in", object.name))),
        ObjectKind::Sink(_) | ObjectKind::Subscription(_) => {
            return Err(Error::internal(format!("{} {} is read", object.noun(), object.name)));
        }
    };
    Ok((columns, properties))
}

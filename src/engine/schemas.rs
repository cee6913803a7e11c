//! `CREATE SCHEMA` and `DROP SCHEMA`.

use crate::engine::DdlOutcome;
use crate::engine::coordinator::Coordinator;
use crate::engine::ddl::is_part;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::ids::ObjectId;

impl Coordinator {
    pub(super) fn create_schema(&mut self, name: String, if_not_exists: bool) -> Result<DdlOutcome> {
        let tag = "CREATE SCHEMA".to_string();
        if self.catalog.has_schema(&name) {
            let message = format!("schema \"{name}\" already exists");
            return match if_not_exists {
                true => Ok(DdlOutcome { tag, notices: vec![format!("{message}, skipping")] }),
                false => Err(Error::duplicate_schema(message)),
            };
        }
        let mut catalog = (*self.catalog).clone();
        catalog.schemas.insert(name, catalog.next_object);
        catalog.next_object = ObjectId(catalog.next_object.0 + 1);
        self.commit_catalog(catalog, &[])?;
        Ok(DdlOutcome { tag, notices: Vec::new() })
    }

    /// With CASCADE what is in the schemas goes with them, and what reads that.
    pub(super) fn drop_schemas(&mut self, names: &[String], cascade: bool, missing: &[String]) -> Result<DdlOutcome> {
        let tag = "DROP SCHEMA".to_string();
        let mut notices =
            missing.iter().map(|name| format!("schema \"{name}\" does not exist, skipping")).collect::<Vec<_>>();
        let inside = self.catalog.objects().filter(|object| names.contains(&object.schema));
        let doomed = self.doomed(&inside.map(|object| object.id).collect::<Vec<_>>());
        let listed = doomed.iter().filter_map(|id| self.catalog.get(*id)).filter(|object| !is_part(object));
        let listed = listed.map(|object| {
            let place = if names.contains(&object.schema) { "is in it" } else { "reads what is in it" };
            (format!("{} {}.{}", object.noun(), object.schema, object.name), place)
        });
        let listed = listed.collect::<Vec<_>>();
        if !listed.is_empty() && !cascade {
            let message = format!("cannot drop schema {} because other objects depend on it", names.join(", "));
            return Err(Error::new(Kind::DependentObjects, message)
                .detail(listed.iter().map(|(called, place)| format!("{called} {place}")).collect::<Vec<_>>().join("\n"))
                .hint("Use DROP ... CASCADE to drop the dependent objects too."));
        }
        notices.extend(listed.iter().map(|(called, _)| format!("drop cascades to {called}")));
        let mut catalog = (*self.catalog).clone();
        catalog.schemas.retain(|name, _| !names.contains(name));
        self.remove(doomed, catalog)?;
        Ok(DdlOutcome { tag, notices })
    }
}

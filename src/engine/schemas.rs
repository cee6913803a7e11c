//! `CREATE SCHEMA` and `DROP SCHEMA`.

use crate::engine::DdlOutcome;
use crate::engine::coordinator::Coordinator;
use crate::engine::records;
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
        records::put_schemas(&mut self.writes, &catalog.schemas)?;
        self.commit_catalog(catalog, &[])?;
        Ok(DdlOutcome { tag, notices: Vec::new() })
    }

    /// With CASCADE what is in the schemas goes first: a crash in between leaves schemas that are empty.
    pub(super) fn drop_schemas(&mut self, names: &[String], cascade: bool, missing: &[String]) -> Result<DdlOutcome> {
        let tag = "DROP SCHEMA".to_string();
        let mut notices =
            missing.iter().map(|name| format!("schema \"{name}\" does not exist, skipping")).collect::<Vec<_>>();
        let inside = self.catalog.objects().filter(|object| names.contains(&object.schema));
        let (ids, called): (Vec<ObjectId>, Vec<String>) =
            inside.map(|object| (object.id, format!("{} {}.{}", object.noun(), object.schema, object.name))).unzip();
        if !ids.is_empty() {
            if !cascade {
                let message = format!("cannot drop schema {} because other objects depend on it", names.join(", "));
                return Err(Error::new(Kind::DependentObjects, message)
                    .detail(called.iter().map(|called| format!("{called} is in it")).collect::<Vec<_>>().join("\n"))
                    .hint("Use DROP ... CASCADE to drop the dependent objects too."));
            }
            notices.extend(called.iter().map(|called| format!("drop cascades to {called}")));
            notices.extend(self.drop_objects(&ids, true, &[], &tag)?.notices);
        }
        let mut catalog = (*self.catalog).clone();
        catalog.schemas.retain(|name, _| !names.contains(name));
        records::put_schemas(&mut self.writes, &catalog.schemas)?;
        self.commit_catalog(catalog, &[])?;
        Ok(DdlOutcome { tag, notices })
    }
}

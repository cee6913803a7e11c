//! `ms_catalog`: objects, sources, watermarks, offsets and the epoch, as they stand.

use crate::catalog::Catalog;
use crate::catalog::Feed;
use crate::catalog::Object;
use crate::catalog::system::SystemContext;
use crate::catalog::system::rows::Rows;
use crate::catalog::system::rows::Value;
use crate::connectors;
use crate::formats::Format;
use crate::ids::ObjectId;

/// Fills the relation of `ms_catalog` with this name.
pub(super) fn fill(name: &str, catalog: &Catalog, context: &SystemContext, rows: &mut Rows) {
    match name {
        "objects" => objects(catalog, rows),
        "sources" => sources(catalog, context, rows),
        "watermarks" => watermarks(catalog, context, rows),
        "offsets" => offsets(catalog, context, rows),
        "jobs" => jobs(catalog, context, rows),
        "epochs" => rows.push([("epoch", context.epoch.into()), ("committed", context.epoch_time.into())]),
        _ => {}
    }
}

fn objects(catalog: &Catalog, rows: &mut Rows) {
    for object in catalog.objects() {
        rows.push([
            ("id", object.id.0.into()),
            ("schema_name", object.schema.as_str().into()),
            ("name", object.name.as_str().into()),
            ("kind", object.noun().into()),
            ("created", object.created.into()),
            ("depends_on", object.depends_on.iter().map(|id| id.0).collect::<Vec<_>>().into()),
            ("sql", object.sql.as_str().into()),
        ]);
    }
}

/// The sources of a catalog, stored ones too.
fn all_sources(catalog: &Catalog) -> impl Iterator<Item = (&Object, &Feed)> {
    catalog.objects().filter_map(|object| Some((object.as_ref(), object.feed()?)))
}

fn sources(catalog: &Catalog, context: &SystemContext, rows: &mut Rows) {
    for (object, source) in all_sources(catalog) {
        let trouble = context.troubles.iter().find(|(id, _)| *id == object.id).map(|(_, text)| text.as_str());
        let hidden = |name: &str| connectors::is_secret(&source.connector, name);
        let shown =
            |(name, value): (&String, &String)| format!("{name} = '{}'", if hidden(name) { "***" } else { value });
        let options: Vec<String> = source.options.iter().map(shown).collect();
        let format = source.format.as_ref().map(Format::to_string);
        rows.push([
            ("id", object.id.0.into()),
            ("schema_name", object.schema.as_str().into()),
            ("name", object.name.as_str().into()),
            ("connector", source.connector.as_str().into()),
            ("format", format.as_deref().into()),
            ("options", options.join(", ").into()),
            ("trouble", trouble.into()),
        ]);
    }
}

/// Schema and name of an object; NULLs for one that was dropped meanwhile.
fn names(catalog: &Catalog, id: ObjectId) -> (Value, Value) {
    let object = catalog.get(id);
    (object.map(|o| o.schema.as_str()).into(), object.map(|o| o.name.as_str()).into())
}

fn watermarks(catalog: &Catalog, context: &SystemContext, rows: &mut Rows) {
    for (id, partition, watermark) in &context.watermarks {
        let (schema, name) = names(catalog, *id);
        rows.push([
            ("id", id.0.into()),
            ("schema_name", schema),
            ("name", name),
            ("partition", partition.clone().into()),
            ("watermark", (*watermark).into()),
        ]);
    }
}

fn jobs(catalog: &Catalog, context: &SystemContext, rows: &mut Rows) {
    for job in &context.jobs {
        let (schema, name) = names(catalog, job.object);
        rows.push([
            ("id", job.object.0.into()),
            ("schema_name", schema),
            ("name", name),
            ("job", "fill".into()),
            ("begun", job.begun.into()),
            ("rows", (job.rows as i64).into()),
            ("rows_total", job.rows_total.map(|total| total as i64).into()),
            ("trouble", job.trouble.clone().into()),
        ]);
    }
}

fn offsets(catalog: &Catalog, context: &SystemContext, rows: &mut Rows) {
    for (object, source) in all_sources(catalog) {
        for (_, partition, next) in context.offsets.iter().filter(|(id, _, _)| *id == object.id) {
            rows.push([
                ("id", object.id.0.into()),
                ("schema_name", object.schema.as_str().into()),
                ("name", object.name.as_str().into()),
                ("partition", partition.as_str().into()),
                ("start_offset", source.start.get(partition).copied().into()),
                ("next_offset", (*next).into()),
            ]);
        }
    }
}

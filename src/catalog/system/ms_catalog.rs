//! `ms_catalog`: objects, sources, sinks, subscriptions, watermarks, offsets, epochs and operators, as they stand.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::catalog::Catalog;
use crate::catalog::Feed;
use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::catalog::system::Holder;
use crate::catalog::system::SystemContext;
use crate::catalog::system::WatermarkFacts;
use crate::catalog::system::rows::Rows;
use crate::catalog::system::rows::Value;
use crate::connectors;
use crate::error::Result;
use crate::formats::Format;
use crate::ids::ObjectId;

/// Fills the relation of `ms_catalog` with this name.
pub(super) fn fill(name: &str, catalog: &Catalog, context: &SystemContext, rows: &mut Rows) -> Result<()> {
    match name {
        "objects" => objects(catalog, rows),
        "sources" => sources(catalog, context, rows),
        "sinks" => sinks(catalog, context, rows),
        "subscriptions" => subscriptions(catalog, context, rows)?,
        "watermarks" => watermarks(catalog, context, rows),
        "offsets" => offsets(catalog, context, rows),
        "epochs" => epochs(context, rows),
        "operators" => operators(catalog, context, rows)?,
        "jobs" => jobs(catalog, context, rows),
        _ => {}
    }
    Ok(())
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
        let format = source.format.as_ref().map(Format::to_string);
        rows.push([
            ("id", object.id.0.into()),
            ("schema_name", object.schema.as_str().into()),
            ("name", object.name.as_str().into()),
            ("connector", source.connector.as_str().into()),
            ("format", format.as_deref().into()),
            ("options", shown(&source.connector, &source.options).into()),
            ("lag", lag(context, object.id).into()),
            ("trouble", trouble.into()),
        ]);
    }
}

/// The options of a connector, without its secrets.
fn shown(connector: &str, options: &BTreeMap<String, String>) -> String {
    let hidden = |name: &str| connectors::is_secret(connector, name);
    let shown = |(name, value): (&String, &String)| format!("{name} = '{}'", if hidden(name) { "***" } else { value });
    options.iter().map(shown).collect::<Vec<_>>().join(", ")
}

fn sinks(catalog: &Catalog, context: &SystemContext, rows: &mut Rows) {
    for object in catalog.objects() {
        let ObjectKind::Sink(sink) = &object.kind else { continue };
        rows.push([
            ("id", object.id.0.into()),
            ("schema_name", object.schema.as_str().into()),
            ("name", object.name.as_str().into()),
            ("connector", sink.connector.as_str().into()),
            ("options", shown(&sink.connector, &sink.options).into()),
            ("rows_out", context.live.as_ref().and_then(|live| live.rows_out(object.id)).into()),
        ]);
    }
}

fn subscriptions(catalog: &Catalog, context: &SystemContext, rows: &mut Rows) -> Result<()> {
    for facts in &context.subscriptions {
        let Some(object) = catalog.get(facts.subscription) else { continue };
        let Some(subscription) = object.subscription() else { continue };
        let live = context.live.as_ref().map(|live| live.kept(subscription.of, facts.epoch)).transpose()?;
        let kept = live.unwrap_or_default();
        let relation = catalog.get(subscription.of).map(|of| format!("{}.{}", of.schema, of.name));
        rows.push([
            ("id", object.id.0.into()),
            ("schema_name", object.schema.as_str().into()),
            ("name", object.name.as_str().into()),
            ("relation", relation.into()),
            ("epoch", facts.epoch.0.into()),
            ("acknowledged", facts.acknowledged.into()),
            ("overtaken", facts.overtaken.into()),
            ("retention_ms", subscription.retention_ms.into()),
            ("kept_since", kept.since.into()),
            ("kept_bytes", kept.bytes.into()),
        ]);
    }
    Ok(())
}

/// Messages of a source that are there and not yet taken in, where all of its partitions tell.
fn lag(context: &SystemContext, id: ObjectId) -> Option<i64> {
    let partitions = context.offsets.iter().filter(|(source, _, _)| *source == id).count();
    let lags = context.lags().filter(|(source, _, _)| *source == id).map(|(_, _, lag)| lag).collect::<Vec<_>>();
    (partitions > 0 && lags.len() == partitions).then(|| lags.iter().sum())
}

/// The last epochs, none after the one that is read; at least that one.
fn epochs(context: &SystemContext, rows: &mut Rows) {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let known = context.live.as_ref().map(|live| live.epochs()).unwrap_or_default();
    for epoch in known.iter().filter(|epoch| epoch.epoch <= context.epoch) {
        rows.push([
            ("epoch", epoch.epoch.into()),
            ("committed", epoch.time.into()),
            ("changes", epoch.changes.into()),
            ("bytes", epoch.bytes.into()),
            ("work_ms", ms(epoch.work).into()),
            ("commit_ms", ms(epoch.commit).into()),
        ]);
    }
    if known.iter().all(|epoch| epoch.epoch != context.epoch) {
        rows.push([("epoch", context.epoch.into()), ("committed", context.epoch_time.into())]);
    }
}

fn operators(catalog: &Catalog, context: &SystemContext, rows: &mut Rows) -> Result<()> {
    let Some(live) = &context.live else { return Ok(()) };
    for operator in live.operators(catalog)? {
        let (schema, name) = names(catalog, operator.view);
        rows.push([
            ("id", operator.view.0.into()),
            ("schema_name", schema),
            ("name", name),
            ("node", operator.node.into()),
            ("inputs", operator.inputs.into()),
            ("operator", operator.operator.into()),
            ("views", operator.views.into()),
            ("since", operator.since.into()),
            ("rows_in", operator.rows_in.into()),
            ("rows_out", operator.rows_out.into()),
            ("busy_ms", (operator.busy.as_secs_f64() * 1e3).into()),
            ("state_bytes", operator.state_bytes.into()),
        ]);
    }
    Ok(())
}

/// Schema and name of an object; NULLs for one that was dropped meanwhile.
fn names(catalog: &Catalog, id: ObjectId) -> (Value, Value) {
    let object = catalog.get(id);
    (object.map(|o| o.schema.as_str()).into(), object.map(|o| o.name.as_str()).into())
}

fn watermarks(catalog: &Catalog, context: &SystemContext, rows: &mut Rows) {
    for WatermarkFacts { object: id, partition, watermark, held_by } in &context.watermarks {
        let (schema, name) = names(catalog, *id);
        let held_by = held_by.as_ref().and_then(|holder| match holder {
            Holder::Object(id) => catalog.get(*id).map(|object| format!("{}.{}", object.schema, object.name)),
            Holder::Partition(partition) => Some(format!("partition {partition}")),
        });
        rows.push([
            ("id", id.0.into()),
            ("schema_name", schema),
            ("name", name),
            ("partition", partition.clone().into()),
            ("watermark", (*watermark).into()),
            ("held_by", held_by.into()),
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
            let lag = context.lags().find(|(id, name, _)| *id == object.id && name == partition);
            rows.push([
                ("id", object.id.0.into()),
                ("schema_name", object.schema.as_str().into()),
                ("name", object.name.as_str().into()),
                ("partition", partition.as_str().into()),
                ("start_offset", source.start.get(partition).copied().into()),
                ("next_offset", (*next).into()),
                ("lag", lag.map(|(_, _, lag)| lag).into()),
            ]);
        }
    }
}

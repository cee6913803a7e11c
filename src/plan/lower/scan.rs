//! Where rows come from: table scans and constant rows.

use datafusion::common::DFSchema;
use datafusion::logical_expr::EmptyRelation;
use datafusion::logical_expr::TableScan;
use datafusion::logical_expr::logical_plan::Values;

use crate::error::Error;
use crate::error::Result;
use crate::plan::expr::lower_expr;
use crate::plan::ir::Scalar;
use crate::plan::lower::Lowering;
use crate::plan::lower::Relation;
use crate::plan::lower::cast;
use crate::plan::lower::schema_columns;
use crate::plan::lower::window::EventTime;
use crate::plan::objects::object_properties;
use crate::sql::bound::RelationRef;
use crate::sql::bound::RelationSource;
use crate::types::Column;
use crate::types::WATERMARK_COLUMN;

impl Lowering<'_> {
    /// The scan's filters stay in the plan above it, since a [`RelationSource`] promises nothing.
    pub(super) fn scan(&mut self, scan: &TableScan) -> Result<Relation> {
        let source = RelationSource::of(&scan.source)
            .ok_or_else(|| Error::internal(format!("{} is not a relation of ours", scan.table_name)))?;
        let id = match &source.relation {
            RelationRef::Object(id) => *id,
            RelationRef::Given => return Err(Error::internal("the rows of a statement are not kept")),
            RelationRef::System(schema, name) => {
                return Err(Error::unsupported(format!("a materialized view over {schema}.{name} is not supported"))
                    .hint("System relations can be queried, but not maintained."));
            }
        };
        let object = self.catalog.get(id).ok_or_else(|| Error::internal(format!("object {id} is gone")))?;
        let columns = match &scan.projection {
            Some(projection) => projection.clone(),
            None => (0..source.schema.fields().len()).collect(),
        };
        let (stored, known) = object_properties(object)?;
        let selected = if columns.is_empty() { vec![0] } else { columns.clone() };
        let mut selected = selected;
        let event = object.watermark().and_then(|w| selected.iter().position(|&c| c == w.column));
        let event = event.filter(|_| self.windowed).map(|time| EventTime { time, watermark: selected.len() });
        let hidden = stored.iter().position(|column| column.name == WATERMARK_COLUMN);
        selected.extend(hidden.filter(|_| event.is_some()));
        let output = selected.iter().map(|&c| stored[c].clone()).collect();
        let properties = known.select(&selected);
        let node = self.builder.input(id, selected, output, properties);
        if let Some(event) = event {
            self.event_times.insert(node, event);
        }
        Ok(Relation { node, columns: (0..columns.len()).collect() })
    }

    /// `VALUES`: rows of constants, or else one projection for each row.
    pub(super) fn values(&mut self, values: &Values) -> Result<Relation> {
        let mut columns = schema_columns(&values.schema)?;
        let mut rows = vec![];
        let nothing = DFSchema::empty();
        for row in &values.values {
            let row = row.iter().zip(&columns).map(|(e, column)| Ok(cast(lower_expr(e, &nothing)?, &column.ty, &[])));
            rows.push(row.collect::<Result<Vec<_>>>()?);
        }
        let width = columns.len();
        for (i, column) in columns.iter_mut().enumerate() {
            column.nullable = rows.iter().any(|row| row[i].nullable(&[]));
        }
        let constant = |s: &Scalar| if let Scalar::Literal(literal) = s { Some(literal.clone()) } else { None };
        let literals = rows.iter().map(|row| row.iter().map(constant).collect()).collect::<Option<Vec<Vec<_>>>>();
        let node = match literals {
            Some(literals) => self.builder.values(literals, columns),
            None => {
                let one = self.builder.one_row();
                let mut nodes = vec![];
                for row in rows {
                    let names = columns.iter().map(|c| c.name.clone());
                    nodes.push(self.builder.project(one, row.into_iter().zip(names).collect())?);
                }
                self.builder.union(nodes)
            }
        };
        Ok(Relation { node, columns: (0..width).collect() })
    }

    /// No FROM: one row without columns; or no rows.
    pub(super) fn empty(&mut self, relation: &EmptyRelation) -> Result<Relation> {
        let columns = schema_columns(&relation.schema)?;
        if relation.produce_one_row {
            return Ok(Relation { node: self.builder.one_row(), columns: vec![] });
        }
        let width = columns.len();
        let columns = if columns.is_empty() { self.unread_column() } else { columns };
        Ok(Relation { node: self.builder.values(vec![], columns), columns: (0..width).collect() })
    }

    /// The one column of an edge of which no column is read.
    fn unread_column(&mut self) -> Vec<Column> {
        let one = self.builder.one_row();
        self.builder.columns(one).to_vec()
    }
}

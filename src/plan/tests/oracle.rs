//! Plans evaluated naively over random tables full of NULLs and repetitions must answer what DataFusion answers, and what
//! was proved of each node must be true of its rows.

use std::collections::BTreeMap;
use std::collections::HashMap;

use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::BooleanArray;
use arrow::array::RecordBatch;
use datafusion::common::ScalarValue;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::plan::bind::bind;
use crate::plan::explain::explain;
use crate::plan::ir::AggregateCall;
use crate::plan::ir::AggregateFunction;
use crate::plan::ir::Node;
use crate::plan::ir::Op;
use crate::plan::ir::Plan;
use crate::plan::ir::Scalar;
use crate::plan::literal;
use crate::plan::tests::world::World;
use crate::types::Column;
use crate::types::schema_of;

type Row = Vec<ScalarValue>;
/// Rows with weights, none of them 0.
type Rows = HashMap<Row, i64>;

fn batch(columns: &[Column], rows: &[Row]) -> RecordBatch {
    let array = |i: usize| -> ArrayRef {
        match rows.is_empty() {
            true => arrow::array::new_empty_array(&columns[i].ty.arrow()),
            false => ScalarValue::iter_to_array(rows.iter().map(|row| row[i].clone())).unwrap(),
        }
    };
    RecordBatch::try_new(schema_of(columns), (0..columns.len()).map(array).collect()).unwrap()
}

fn row_of(arrays: &[ArrayRef], i: usize) -> Row {
    arrays.iter().map(|a| ScalarValue::try_from_array(a, i).unwrap()).collect()
}

fn evaluate(scalar: &Scalar, columns: &[Column], rows: &[Row]) -> ArrayRef {
    let value = bind(scalar, columns).unwrap().evaluate(&batch(columns, rows)).unwrap();
    let array = value.into_array(rows.len()).unwrap();
    assert_eq!(*array.data_type(), scalar.ty(columns).arrow(), "{scalar:?}");
    array
}

fn add(rows: &mut Rows, row: Row, weight: i64) {
    let sum = rows.entry(row.clone()).or_insert(0);
    *sum += weight;
    if *sum == 0 {
        rows.remove(&row);
    }
}

/// The content of every node of a plan.
fn run(plan: &Plan, inputs: &HashMap<u32, Vec<Row>>) -> Rows {
    let mut contents: Vec<Rows> = vec![];
    for node in &plan.nodes {
        let below = |port: usize| &contents[node.inputs[port].0 as usize];
        let columns = |port: usize| plan.nodes[node.inputs[port].0 as usize].columns.as_slice();
        let mut out = Rows::new();
        match &node.op {
            Op::Input { object, columns } => {
                for row in &inputs[&object.0] {
                    add(&mut out, columns.iter().map(|&c| row[c].clone()).collect(), 1);
                }
            }
            // No row fails here.
            Op::Errors { .. } => {}
            Op::Values { rows } => {
                for row in rows {
                    add(&mut out, row.iter().map(|l| literal::to_value(l).unwrap()).collect(), 1);
                }
            }
            Op::Project { expressions } => {
                let (rows, weights): (Vec<_>, Vec<_>) = below(0).clone().into_iter().unzip();
                let arrays = expressions.iter().map(|e| evaluate(e, columns(0), &rows)).collect::<Vec<_>>();
                weights.iter().enumerate().for_each(|(i, w)| add(&mut out, row_of(&arrays, i), *w));
            }
            Op::Filter { predicate } => {
                let (rows, weights): (Vec<_>, Vec<_>) = below(0).clone().into_iter().unzip();
                let kept = evaluate(predicate, columns(0), &rows);
                let kept = kept.as_any().downcast_ref::<BooleanArray>().unwrap();
                let chosen = (0..rows.len()).filter(|&i| kept.is_valid(i) && kept.value(i));
                chosen.for_each(|i| add(&mut out, rows[i].clone(), weights[i]));
            }
            Op::Union => {
                for port in 0..node.inputs.len() {
                    below(port).iter().for_each(|(row, w)| add(&mut out, row.clone(), *w));
                }
            }
            Op::Repeat { times } => {
                for (row, weight) in below(0).clone() {
                    let ScalarValue::Int64(Some(times)) = row[*times] else { panic!("rows are repeated by a bigint") };
                    add(&mut out, row, weight * times);
                }
            }
            Op::Window { .. } | Op::Changes | Op::Final { .. } | Op::Session { .. } => {
                panic!("no query here has windows")
            }
            Op::Negate => below(0).iter().for_each(|(row, w)| add(&mut out, row.clone(), -w)),
            Op::Arrange { .. } | Op::Materialize { .. } | Op::Sink { .. } => out = below(0).clone(),
            Op::Join => join(plan, node, below(0), below(1), &mut out),
            Op::Anti => anti(plan, node, below(0), below(1), &mut out),
            Op::Aggregate { group, calls, .. } => aggregate(group, calls, below(0), &mut out),
        }
        check(node, &out);
        contents.push(out);
    }
    contents.pop().unwrap()
}

/// The key of a row by which one input of a node is arranged; `None` if it is left out.
fn key_of(plan: &Plan, node: &Node, port: usize, row: &Row) -> Option<Row> {
    let Op::Arrange { key, null_safe, .. } = &plan.nodes[node.inputs[port].0 as usize].op else { panic!() };
    let key = key.iter().map(|&c| row[c].clone()).collect::<Vec<_>>();
    (*null_safe || key.iter().all(|v| !v.is_null())).then_some(key)
}

fn anti(plan: &Plan, node: &Node, left: &Rows, right: &Rows, out: &mut Rows) {
    for (l, weight) in left {
        let Some(key) = key_of(plan, node, 0, l) else { continue };
        let met = right.keys().filter(|r| key_of(plan, node, 1, r).as_ref() == Some(&key)).count();
        assert!(met <= 1, "the right side of an anti join has each key once");
        if met == 0 {
            add(out, l.clone(), *weight);
        }
    }
}

fn join(plan: &Plan, node: &Node, left: &Rows, right: &Rows, out: &mut Rows) {
    for (l, lw) in left {
        for (r, rw) in right {
            if let (Some(lk), Some(rk)) = (key_of(plan, node, 0, l), key_of(plan, node, 1, r))
                && lk == rk
            {
                add(out, [l.clone(), r.clone()].concat(), lw * rw);
            }
        }
    }
}

fn aggregate(group: &[usize], calls: &[AggregateCall], input: &Rows, out: &mut Rows) {
    let mut groups: HashMap<Row, Vec<(&Row, i64)>> = HashMap::new();
    if group.is_empty() {
        groups.insert(vec![], vec![]);
    }
    for (row, weight) in input {
        assert!(*weight > 0, "aggregates see collections");
        groups.entry(group.iter().map(|&c| row[c].clone()).collect()).or_default().push((row, *weight));
    }
    for (key, rows) in groups {
        let values = calls.iter().map(|c| call(c, &rows)).collect::<Vec<_>>();
        add(out, [key, values].concat(), 1);
    }
}

/// One aggregate over integers (or booleans).
fn call(call: &AggregateCall, rows: &[(&Row, i64)]) -> ScalarValue {
    let passed = |row: &Row| call.filter.is_none_or(|f| row[f] == ScalarValue::Boolean(Some(true)));
    let mut values: BTreeMap<i64, i64> = BTreeMap::new();
    for (row, weight) in rows.iter().filter(|(row, _)| passed(row)) {
        let value = call.argument.map_or(Some(0), |c| match &row[c] {
            ScalarValue::Boolean(b) => b.map(i64::from),
            other => match other.cast_to(&arrow::datatypes::DataType::Int64).unwrap() {
                ScalarValue::Int64(v) => v,
                other => panic!("{other:?}"),
            },
        });
        if let Some(value) = value {
            *values.entry(value).or_insert(0) += weight;
        }
    }
    if call.distinct {
        values.values_mut().for_each(|n| *n = 1);
    }
    let count: i64 = values.values().sum();
    let sum: i64 = values.iter().map(|(v, n)| v * n).sum();
    let some = |v: i64| (count > 0).then_some(v);
    let value = match call.function {
        AggregateFunction::Count => ScalarValue::Int64(Some(count)),
        AggregateFunction::Sum => ScalarValue::Int64(some(sum)),
        AggregateFunction::Avg => ScalarValue::Float64(some(sum).map(|s| s as f64 / count as f64)),
        AggregateFunction::Min => ScalarValue::Int64(values.keys().next().copied()),
        AggregateFunction::Max => ScalarValue::Int64(values.keys().next_back().copied()),
        AggregateFunction::BoolAnd => ScalarValue::Boolean(some(0).map(|_| !values.contains_key(&0))),
        AggregateFunction::BoolOr => ScalarValue::Boolean(some(0).map(|_| values.contains_key(&1))),
    };
    value.cast_to(&call.ty.arrow()).unwrap()
}

/// What the plan says of a node is true of its rows.
fn check(node: &Node, rows: &Rows) {
    if let Some(key) = &node.key {
        let mut seen = HashMap::new();
        for (row, weight) in rows {
            let one =
                weight.abs() == 1 && seen.insert(key.iter().map(|&c| row[c].clone()).collect::<Vec<_>>(), ()).is_none();
            assert!(one, "node {} has no key {key:?}: {rows:?}", node.id);
        }
    }
    for row in rows.keys() {
        assert_eq!(row.len(), node.columns.len());
        for (value, column) in row.iter().zip(&node.columns) {
            assert!(column.nullable || !value.is_null(), "{} of node {} is NULL", column.name, node.id);
            assert_eq!(value.data_type(), column.ty.arrow());
        }
    }
}

/// A query and, where DataFusion answers it wrongly, one that says the same.
const QUERIES: &[(&str, Option<&str>)] = &[
    ("SELECT a.id, a.v, b.w FROM a JOIN b ON a.k = b.k", None),
    ("SELECT a.v, b.w FROM a, b WHERE a.k = b.id AND a.v < b.w", None),
    ("SELECT b.id, b.w FROM a JOIN b ON a.id = b.id", None),
    (
        "SELECT y.k, y.v, x.n FROM (SELECT k, v, count(*) AS n FROM a GROUP BY k, v) x \
         JOIN (SELECT k, w AS v FROM b GROUP BY k, w) y ON x.k = y.k",
        None,
    ),
    ("SELECT a.v, b.w FROM a CROSS JOIN b", None),
    ("SELECT a.v, b.w FROM a JOIN b ON a.v < b.w", None),
    ("SELECT a.id, b.w FROM a LEFT JOIN b ON a.k = b.id", None),
    ("SELECT b.id, a.v FROM a RIGHT JOIN b ON a.k = b.k AND a.v > b.w", None),
    ("SELECT a.id AS x, b.id AS y FROM a FULL JOIN b ON a.k = b.k", None),
    ("SELECT a.v, b.w FROM a FULL JOIN b ON a.k = b.k AND a.v < b.w", None),
    ("SELECT a.v, b.w FROM a LEFT JOIN b ON a.v < b.w", None),
    ("SELECT c.x, d.x AS z FROM c LEFT JOIN c d ON c.y = d.y AND c.x <> d.x", None),
    ("SELECT c.x, d.y FROM c FULL JOIN (SELECT y, count(*) AS n FROM c GROUP BY y) d ON c.x = d.y", None),
    (
        "SELECT l.k, r.k AS z FROM (SELECT k, count(*) AS n FROM a GROUP BY k) l FULL JOIN (SELECT k, count(*) AS n FROM b GROUP BY k) r ON l.k = r.k",
        None,
    ),
    ("SELECT id FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.k = a.k AND b.w > a.v)", None),
    ("SELECT id FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.k = a.k AND b.w > a.v)", None),
    ("SELECT x, y FROM c WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.w > c.x)", None),
    ("SELECT x, y FROM c WHERE EXISTS (SELECT 1 FROM b WHERE b.w = 2)", None),
    ("SELECT x, y FROM c WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.w = 2)", None),
    ("SELECT x, y FROM c WHERE x IN (SELECT w FROM b)", None),
    ("SELECT x, y FROM c WHERE x NOT IN (SELECT w FROM b)", None),
    ("SELECT x, y FROM c WHERE x NOT IN (SELECT w FROM b WHERE w IS NOT NULL)", None),
    ("SELECT x, y FROM c WHERE x NOT IN (SELECT w FROM b WHERE w > 100)", None),
    (
        "SELECT id FROM a WHERE v NOT IN (SELECT w FROM b WHERE b.k = a.k)",
        Some(
            "SELECT id FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.k = a.k AND (b.w = a.v OR b.w IS NULL OR a.v IS NULL))",
        ),
    ),
    (
        "SELECT id FROM a WHERE 2 NOT IN (SELECT w FROM b WHERE b.k = a.k)",
        Some("SELECT id FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.k = a.k AND (b.w = 2 OR b.w IS NULL))"),
    ),
    ("SELECT id FROM a WHERE k IN (SELECT k FROM b WHERE b.w > a.v) OR v = 0", None),
    (
        "SELECT id FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.w = a.v) OR NOT EXISTS (SELECT 1 FROM c WHERE c.x = a.k)",
        None,
    ),
    ("SELECT x FROM c EXCEPT SELECT w FROM b", None),
    ("SELECT x, y FROM c INTERSECT SELECT k, w FROM b", None),
    ("SELECT x FROM c UNION SELECT w FROM b", None),
    ("SELECT x FROM c UNION ALL SELECT id FROM b UNION ALL SELECT v FROM a", None),
    ("SELECT DISTINCT x FROM c", None),
    ("SELECT x, count(*) AS n, sum(y) AS s, min(y) AS l, max(y) AS h, avg(y) AS m FROM c GROUP BY x", None),
    ("SELECT count(*) AS n, count(x) AS m, sum(x) AS s FROM c WHERE y > 100", None),
    ("SELECT count(*) AS n FROM a CROSS JOIN c", None),
    (
        "SELECT x, count(DISTINCT y) AS n, sum(DISTINCT y) AS s, count(y) FILTER (WHERE y > 1) AS f FROM c GROUP BY x",
        None,
    ),
    ("SELECT x % 2 AS p, bool_and(y > 1) AS e, bool_or(y > 1) AS s FROM c GROUP BY x % 2 HAVING count(*) > 1", None),
    ("SELECT x, x AS z, count(*) AS n FROM c GROUP BY x, x", None),
    ("SELECT a.id, (SELECT max(w) FROM b WHERE b.k = a.k) AS top FROM a", None),
    ("SELECT a.id, (SELECT count(*) FROM b WHERE b.k = a.k) AS n FROM a", None),
    ("SELECT id FROM a WHERE v > (SELECT avg(w) FROM b)", None),
    ("SELECT id, v - (SELECT sum(w) FROM b) AS d FROM a", None),
    ("SELECT a.id, m.top FROM a LEFT JOIN (SELECT k, max(w) AS top FROM b GROUP BY k) m ON a.k = m.k", None),
    ("SELECT b.id, a.v FROM a JOIN b ON a.id = b.id JOIN c ON c.x = a.k AND c.y IS NOT DISTINCT FROM b.w", None),
    ("SELECT a.id, b.id AS j FROM a JOIN b ON a.k = b.k AND b.w IS NOT DISTINCT FROM a.v", None),
    ("SELECT a.id, b.id AS j FROM a LEFT JOIN b ON a.k = b.k AND a.v IS NOT DISTINCT FROM b.w", None),
    (
        "SELECT a.id, b.id AS j FROM a FULL JOIN b ON a.k = b.k AND a.id <= b.id AND a.v IS NOT DISTINCT FROM b.w + 1",
        None,
    ),
    (
        "SELECT c.x, c.y, d.x AS z FROM c FULL JOIN c d ON c.x = d.x AND (c.y IS NOT DISTINCT FROM d.y) AND 2 IS NOT DISTINCT FROM c.y",
        None,
    ),
    ("SELECT x.id FROM a x JOIN a y ON x.k = y.k JOIN a z ON y.v = z.v", None),
    ("WITH m AS (SELECT k, sum(v) AS s FROM a GROUP BY k) SELECT p.k, q.s FROM m p JOIN m q ON p.k = q.k", None),
    ("SELECT CASE x WHEN 1 THEN y WHEN 2 THEN -y END AS c, (x > 1) IS NOT TRUE AS t FROM c", None),
    ("SELECT x + y AS s, x IS NULL AS n, x BETWEEN 1 AND y AS b, x IN (1, NULL, y) AS i FROM c", None),
    ("SELECT v.x, w FROM (VALUES (1, 'a'), (2, NULL), (NULL, 'c')) AS v (x, s) JOIN b ON v.x = b.k", None),
    ("SELECT 1 AS one WHERE EXISTS (SELECT 1 FROM c)", None),
    ("SELECT x FROM c WHERE false", None),
    ("SELECT a.id, b.id AS j FROM a LEFT JOIN b ON a.k = b.k AND b.w = 1 WHERE b.id IS NULL", None),
];

fn value(random: &mut StdRng) -> ScalarValue {
    let v = random.random_range(0..5);
    ScalarValue::Int32((v > 0).then_some(v))
}

#[test]
fn agrees_with_datafusion() {
    let tables = ["a (id bigint PRIMARY KEY, k integer, v integer)", "b (id bigint PRIMARY KEY, k integer, w integer)"];
    for (sql, reference) in QUERIES {
        let mut world = World::new();
        tables.iter().for_each(|t| drop(world.run(&format!("CREATE TABLE {t}")).unwrap()));
        world.run("CREATE TABLE c (x integer, y integer)").unwrap();
        let plan = match world.run(&format!("CREATE MATERIALIZED VIEW result AS {sql}")) {
            Ok(plan) => plan.unwrap(),
            Err(error) => panic!("{sql}: {error}"),
        };
        for seed in 0..25 {
            let random = &mut StdRng::seed_from_u64(seed);
            let mut inputs = HashMap::new();
            for (name, keyed) in [("a", true), ("b", true), ("c", false)] {
                let count = random.random_range(0..7);
                let rows = (0..count).map(|i| {
                    let id = keyed.then_some(ScalarValue::Int64(Some(i)));
                    id.into_iter().chain([value(random), value(random)]).collect::<Row>()
                });
                let rows = rows.collect::<Vec<_>>();
                let id = world.id(name);
                world.fill(name, batch(world.catalog.get(id).unwrap().columns(), &rows));
                inputs.insert(id.0, rows);
            }
            let got = run(&plan, &inputs);
            let mut wanted = Rows::new();
            for batch in world.answer(reference.unwrap_or(sql)) {
                let types = plan.nodes.last().unwrap().columns.iter().map(|c| c.ty.arrow());
                let arrays = batch.columns().iter().zip(types);
                let arrays = arrays.map(|(a, ty)| arrow::compute::cast(a, &ty).unwrap()).collect::<Vec<_>>();
                (0..batch.num_rows()).for_each(|i| add(&mut wanted, row_of(&arrays, i), 1));
            }
            let shown = || explain(&plan, &world.catalog).join("\n");
            assert_eq!(got, wanted, "{sql}\nseed {seed}: {inputs:?}\n{}", shown());
        }
    }
}

//! `connector = 'datagen'`: rows by a plan for each column. A value follows from the seed, the column's name and the number
//! of its row, so that every reading of the source brings the same rows.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::BooleanArray;
use arrow::array::Date32Array;
use arrow::array::Decimal128Array;
use arrow::array::Float32Array;
use arrow::array::Float64Array;
use arrow::array::Int16Array;
use arrow::array::Int32Array;
use arrow::array::Int64Array;
use arrow::array::StringArray;
use arrow::array::TimestampMicrosecondArray;
use crossbeam_channel::Sender;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Kind;
use super::PARTITION;
use super::Run;
use super::timeline::mix;
use crate::connectors::Connector;
use crate::connectors::Part;
use crate::connectors::Positions;
use crate::connectors::Reader;
use crate::connectors::SourceEvent;
use crate::connectors::SourceSpec;
use crate::connectors::options::Default;
use crate::connectors::options::OptionKind;
use crate::connectors::options::OptionSpec;
use crate::connectors::options::Options;
use crate::error::Error;
use crate::error::Result;
use crate::time::Clock;
use crate::types::Column;
use crate::types::SqlType;

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// The options of `connector = 'datagen'`.
const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "rate",
        kind: OptionKind::Number { min: 0.0, max: 1e9 },
        default: Default::None,
        doc: "Rows per second of the wall clock, 10 if it is not given; 0: as fast as they are taken.",
    },
    OptionSpec {
        name: "datagen.rows.per.second",
        kind: OptionKind::Number { min: 0.0, max: 1e9 },
        default: Default::None,
        doc: "The same as rate.",
    },
    OptionSpec {
        name: "rows",
        kind: OptionKind::Integer { min: 0, max: i64::MAX },
        default: Default::None,
        doc: "The source ends after so many rows; without it, it never ends.",
    },
    OptionSpec {
        name: "seed",
        kind: OptionKind::Integer { min: 0, max: i64::MAX },
        default: Default::Value("0"),
        doc: "Another seed, other random values.",
    },
    OptionSpec {
        name: "fields.*.kind",
        kind: OptionKind::Choice(&["random", "sequence"]),
        default: Default::Value("random"),
        doc: "Whether the values of this column are random, or follow each other; a sequence that has come to its end begins \
              anew.",
    },
    OptionSpec {
        name: "fields.*.seed",
        kind: OptionKind::Integer { min: 0, max: i64::MAX },
        default: Default::None,
        doc: "The seed of this column; columns of different sources with the same seed and name have the same values.",
    },
    OptionSpec {
        name: "fields.*.min",
        kind: OptionKind::Number { min: f64::MIN, max: f64::MAX },
        default: Default::Value("0"),
        doc: "The least of random numbers.",
    },
    OptionSpec {
        name: "fields.*.max",
        kind: OptionKind::Number { min: f64::MIN, max: f64::MAX },
        default: Default::Value("1000"),
        doc: "The greatest of random numbers.",
    },
    OptionSpec {
        name: "fields.*.start",
        kind: OptionKind::Text,
        default: Default::None,
        doc: "Where a sequence begins: a number (0 if it is not given), or a timestamp (2024-01-01 00:00:00).",
    },
    OptionSpec {
        name: "fields.*.end",
        kind: OptionKind::Integer { min: i64::MIN, max: i64::MAX },
        default: Default::None,
        doc: "The last number of a sequence; without it, it goes on.",
    },
    OptionSpec {
        name: "fields.*.step",
        kind: OptionKind::Integer { min: 1, max: i64::MAX / 1_000_000 },
        default: Default::None,
        doc: "How far a sequence goes with each row: 1 if it is not given, for timestamps in milliseconds 1000.",
    },
    OptionSpec {
        name: "fields.*.length",
        kind: OptionKind::Integer { min: 1, max: 10_000 },
        default: Default::Value("10"),
        doc: "How many characters random texts have.",
    },
    OptionSpec {
        name: "fields.*.values",
        kind: OptionKind::Text,
        default: Default::None,
        doc: "The texts that random ones are taken from, separated by commas.",
    },
    OptionSpec {
        name: "fields.*.basetime",
        kind: OptionKind::Timestamp,
        default: Default::Value("2024-01-01 00:00:00"),
        doc: "The latest of random times.",
    },
    OptionSpec {
        name: "fields.*.max_past",
        kind: OptionKind::Integer { min: 1, max: 1 << 40 },
        default: Default::Value("86400000"),
        doc: "How long before basetime a random time may be, in milliseconds.",
    },
];

/// `connector = 'datagen'`.
pub(in crate::connectors) struct Datagen;

/// How each column is made, in the order in which they are wanted.
pub(super) struct Plan {
    columns: Vec<Made>,
}

/// How one column is made.
struct Made {
    ty: SqlType,
    seed: u64,
    rule: Rule,
}

/// What follows from a row's number, and from what is random about it.
enum Rule {
    /// `start + step * n`, counted from the start again after so many.
    Sequence {
        start: i64,
        step: i64,
        count: Option<u64>,
    },
    /// Whole numbers: as many as this, from the first on.
    Whole {
        first: i128,
        count: u128,
    },
    /// Other numbers.
    Fraction {
        min: f64,
        max: f64,
    },
    /// Of these texts.
    OneOf(Vec<String>),
    /// Texts of so many characters.
    Letters(usize),
    /// Microseconds: up to so many before the last.
    Past {
        last: i64,
        span: u64,
    },
    Coin,
}

impl Connector for Datagen {
    fn name(&self) -> &'static str {
        "datagen"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn validate(&self, spec: &SourceSpec) -> Result<()> {
        let options = checked(spec)?;
        if options.number("rate").is_some() && options.number("datagen.rows.per.second").is_some() {
            return Err(Error::invalid_parameter("\"rate\" and \"datagen.rows.per.second\" are the same option")
                .hint("Leave out one of them."));
        }
        for name in spec.options.keys().filter_map(|name| name.strip_prefix("fields.")) {
            let field = name.rsplit_once('.').map_or(name, |(field, _)| field);
            if !spec.fields.iter().any(|known| known == field) {
                return Err(Error::undefined_column(format!(
                    "option \"fields.{name}\" is for no column of the source"
                ))
                .hint(format!("The columns are {}.", spec.fields.join(", "))));
            }
        }
        Plan::of(spec, &options).map(|_| ())
    }

    fn columns(&self, _options: &BTreeMap<String, String>) -> Result<Option<Vec<Column>>> {
        Ok(None)
    }

    fn start(&self, spec: &SourceSpec) -> Result<Positions> {
        self.validate(spec)?;
        Ok(Positions::from([(PARTITION.to_string(), 0)]))
    }

    fn read(
        &self,
        spec: SourceSpec,
        from: Positions,
        clock: Arc<dyn Clock>,
        events: Sender<SourceEvent>,
    ) -> Result<Box<dyn Reader>> {
        let options = checked(&spec)?;
        let kind = Kind::Plan(Arc::new(Plan::of(&spec, &options)?));
        let rate = options.number("rate").or(options.number("datagen.rows.per.second")).unwrap_or(10.0);
        let rows = options.integer("rows").map(|rows| rows as u64);
        Run::new(spec, kind, rate, rows, &from, clock).start(events)
    }
}

impl Plan {
    fn of(spec: &SourceSpec, options: &Options<'_>) -> Result<Plan> {
        let columns = spec.columns.iter().map(|(column, part)| match part {
            Part::Field(field) => Made::of(field, &column.ty, options),
            Part::Key | Part::Partition | Part::Offset | Part::Timestamp | Part::Headers | Part::File => {
                Err(Error::unsupported("connector \"datagen\" has no messages that INCLUDE could name a part of"))
            }
        });
        Ok(Plan { columns: columns.collect::<Result<_>>()? })
    }

    /// The columns of the rows with these numbers, and their offsets.
    pub(super) fn generate(&self, numbers: Range<u64>) -> (Vec<i64>, Vec<ArrayRef>) {
        let columns = self.columns.iter().map(|column| column.generate(numbers.clone())).collect();
        (numbers.map(|n| n as i64).collect(), columns)
    }
}

impl Made {
    fn of(field: &str, ty: &SqlType, options: &Options<'_>) -> Result<Made> {
        let option = |property: &str| format!("fields.{field}.{property}");
        let seed = options.integer(&option("seed")).or(options.integer("seed")).unwrap_or(0);
        let seed = xxh3_64_with_seed(field.as_bytes(), seed as u64);
        let integer = |property| options.integer(&option(property));
        let number = |property| options.number(&option(property)).unwrap_or(0.0);
        let wrong = |property: &str, why: &str| {
            Err(Error::invalid_parameter(format!("invalid value for option \"{}\"", option(property))).detail(why))
        };
        if options.text(&option("kind")) == Some("sequence") {
            return Ok(Made { ty: ty.clone(), seed, rule: sequence(field, ty, options)? });
        }
        let rule = match ty {
            SqlType::SmallInt | SqlType::Integer | SqlType::BigInt | SqlType::Numeric { .. } => {
                let (unit, least, greatest) = range(ty);
                let (first, last) = ((number("min") * unit).ceil() as i128, (number("max") * unit).floor() as i128);
                if first > last || first < least || last > greatest {
                    return wrong("max", &format!("It must be at least \"min\", and both must fit {ty}."));
                }
                Rule::Whole { first, count: last.abs_diff(first) + 1 }
            }
            SqlType::Real | SqlType::Double => match (number("min"), number("max")) {
                (min, max) if min <= max && (max - min).is_finite() => Rule::Fraction { min, max },
                _ => return wrong("max", "It must be at least \"min\"."),
            },
            SqlType::Text | SqlType::Varchar(_) => match options.text(&option("values")) {
                Some(values) => Rule::OneOf(values.split(',').map(|value| value.trim().to_string()).collect()),
                None => Rule::Letters(integer("length").unwrap_or(10) as usize),
            },
            SqlType::Boolean => Rule::Coin,
            SqlType::Date | SqlType::Timestamp | SqlType::Timestamptz => Rule::Past {
                last: options.timestamp(&option("basetime")).expect("the option has a default"),
                span: integer("max_past").unwrap_or(1) as u64 * 1000,
            },
            SqlType::Bytea | SqlType::Time | SqlType::Interval | SqlType::Array(_) => return Err(unsupported(ty)),
            SqlType::Oid | SqlType::Name | SqlType::Char => return Err(unsupported(ty)),
        };
        if let (SqlType::Varchar(most), Rule::Letters(length)) = (ty, &rule)
            && *length > *most as usize
        {
            return wrong("length", &format!("It must fit {ty}."));
        }
        Ok(Made { ty: ty.clone(), seed, rule })
    }

    fn generate(&self, numbers: Range<u64>) -> ArrayRef {
        let whole = numbers.clone().map(|n| self.whole(n));
        match &self.ty {
            SqlType::SmallInt => Arc::new(Int16Array::from_iter_values(whole.map(|v| v as i16))),
            SqlType::Integer => Arc::new(Int32Array::from_iter_values(whole.map(|v| v as i32))),
            SqlType::Real => Arc::new(Float32Array::from_iter_values(numbers.map(|n| self.fraction(n) as f32))),
            SqlType::Double => Arc::new(Float64Array::from_iter_values(numbers.map(|n| self.fraction(n)))),
            SqlType::Numeric { .. } => {
                Arc::new(Decimal128Array::from_iter_values(whole).with_data_type(self.ty.arrow()))
            }
            SqlType::Text | SqlType::Varchar(_) => {
                Arc::new(StringArray::from_iter_values(numbers.map(|n| self.text(n))))
            }
            SqlType::Boolean => Arc::new(numbers.map(|n| Some(self.random(n) & 1 == 1)).collect::<BooleanArray>()),
            SqlType::Date => Arc::new(Date32Array::from_iter_values(whole.map(|v| (v as i64).div_euclid(DAY) as i32))),
            SqlType::Timestamp | SqlType::Timestamptz => {
                let times = TimestampMicrosecondArray::from_iter_values(whole.map(|v| v as i64));
                Arc::new(times.with_data_type(self.ty.arrow()))
            }
            SqlType::BigInt | SqlType::Bytea | SqlType::Time | SqlType::Interval | SqlType::Array(_) => {
                Arc::new(Int64Array::from_iter_values(whole.map(|v| v as i64)))
            }
            SqlType::Oid | SqlType::Name | SqlType::Char => {
                Arc::new(Int64Array::from_iter_values(whole.map(|v| v as i64)))
            }
        }
    }

    fn random(&self, n: u64) -> u64 {
        mix(mix(n) ^ self.seed)
    }

    /// A number, in units of the column's last digit; a time in microseconds.
    fn whole(&self, n: u64) -> i128 {
        match &self.rule {
            Rule::Sequence { start, step, count } => {
                let n = count.map_or(n, |count| n % count);
                *start as i128 + *step as i128 * n as i128
            }
            Rule::Whole { first, count } => {
                let wide = (self.random(n) as u128) << 64 | mix(self.random(n)) as u128;
                first + (wide % count) as i128
            }
            Rule::Past { last, span } => *last as i128 - (self.random(n) % (span + 1)) as i128,
            Rule::Fraction { .. } | Rule::OneOf(_) | Rule::Letters(_) | Rule::Coin => 0,
        }
    }

    fn fraction(&self, n: u64) -> f64 {
        match &self.rule {
            Rule::Fraction { min, max } => min + (max - min) * (self.random(n) as f64 / u64::MAX as f64),
            Rule::Sequence { .. } | Rule::Whole { .. } | Rule::Past { .. } => self.whole(n) as f64,
            Rule::OneOf(_) | Rule::Letters(_) | Rule::Coin => 0.0,
        }
    }

    fn text(&self, n: u64) -> String {
        match &self.rule {
            Rule::OneOf(values) => values[(self.random(n) % values.len() as u64) as usize].clone(),
            Rule::Letters(length) => {
                let mut random = self.random(n);
                let mut letter = || {
                    random = mix(random);
                    (b'a' + (random % 26) as u8) as char
                };
                (0..*length).map(|_| letter()).collect()
            }
            Rule::Sequence { .. } | Rule::Whole { .. } | Rule::Past { .. } => self.whole(n).to_string(),
            Rule::Fraction { .. } | Rule::Coin => self.fraction(n).to_string(),
        }
    }
}

/// A column whose values follow each other.
fn sequence(field: &str, ty: &SqlType, options: &Options<'_>) -> Result<Rule> {
    let option = |property: &str| format!("fields.{field}.{property}");
    let step = options.integer(&option("step"));
    let start = options.text(&option("start"));
    let wrong = |property: &str, why: &str| {
        Err(Error::invalid_parameter(format!("invalid value for option \"{}\"", option(property))).detail(why))
    };
    if matches!(ty, SqlType::Timestamp | SqlType::Timestamptz | SqlType::Date) {
        let text = start.unwrap_or("2024-01-01 00:00:00");
        let Some(start) = crate::connectors::options::parse_timestamp(text) else {
            return wrong("start", "It must be a timestamp like '2026-01-31 12:00:00' (UTC).");
        };
        return Ok(Rule::Sequence { start, step: step.unwrap_or(1000) * 1000, count: None });
    }
    if matches!(ty, SqlType::Boolean | SqlType::Bytea | SqlType::Time | SqlType::Interval | SqlType::Array(_)) {
        return Err(unsupported(ty));
    }
    let Ok(start) = start.unwrap_or("0").trim().parse::<i64>() else {
        return wrong("start", "It must be a whole number.");
    };
    let step = step.unwrap_or(1);
    let (unit, _, greatest) = range(ty);
    let most = (greatest / unit as i128).min(i64::MAX as i128) as i64;
    let end = options.integer(&option("end")).unwrap_or(most);
    if end < start || end > most {
        return wrong("end", &format!("It must be at least \"start\", and fit {ty}."));
    }
    // As the last digit counts, in a numeric.
    let count = ((end as i128 - start as i128) / step as i128) as u64;
    let unit = unit as i64;
    let (Some(start), Some(step)) = (start.checked_mul(unit), step.checked_mul(unit)) else {
        return wrong("start", &format!("It must fit {ty}."));
    };
    Ok(Rule::Sequence { start, step, count: Some(count.saturating_add(1)) })
}

/// How many of its last digit a number's one is, and the range of a type in that digit.
fn range(ty: &SqlType) -> (f64, i128, i128) {
    match ty {
        SqlType::SmallInt => (1.0, i16::MIN as i128, i16::MAX as i128),
        SqlType::Integer => (1.0, i32::MIN as i128, i32::MAX as i128),
        SqlType::Numeric { precision, scale } => {
            let most = 10i128.pow(u32::from(*precision).min(18)) - 1;
            (10f64.powi(i32::from(*scale)), -most, most)
        }
        _ => (1.0, i64::MIN as i128, i64::MAX as i128),
    }
}

fn unsupported(ty: &SqlType) -> Error {
    Error::unsupported(format!("connector \"datagen\" makes no such values of type {ty}"))
}

fn checked(spec: &SourceSpec) -> Result<Options<'_>> {
    Options::check("datagen", OPTIONS, &spec.options)
}

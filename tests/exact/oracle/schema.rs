//! Types, columns, relations and values of a random world. Values come from small domains, so that keys meet; doubles are
//! dyadic, so that PostgreSQL's sums of them are exact too.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// The types that are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ty {
    Smallint,
    Integer,
    Bigint,
    Text,
    Boolean,
    Double,
    /// `numeric(10,2)`; whatever else is numeric is rounded to two digits before it leaves a query.
    Numeric,
    Date,
    Timestamp,
}

/// All of them.
pub const TYPES: &[Ty] =
    &[Ty::Smallint, Ty::Integer, Ty::Bigint, Ty::Text, Ty::Boolean, Ty::Double, Ty::Numeric, Ty::Date, Ty::Timestamp];

impl Ty {
    pub fn name(self) -> &'static str {
        match self {
            Ty::Smallint => "smallint",
            Ty::Integer => "integer",
            Ty::Bigint => "bigint",
            Ty::Text => "text",
            Ty::Boolean => "boolean",
            Ty::Double => "double precision",
            Ty::Numeric => "numeric(10,2)",
            Ty::Date => "date",
            Ty::Timestamp => "timestamp",
        }
    }

    pub fn is_integer(self) -> bool {
        matches!(self, Ty::Smallint | Ty::Integer | Ty::Bigint)
    }

    /// Whether values of the two can be compared without a cast.
    pub fn meets(self, other: Ty) -> bool {
        self == other || (self.is_integer() && other.is_integer())
    }

    /// A value that is not NULL, as an expression of just this type.
    pub fn literal(self, random: &mut StdRng) -> String {
        match self {
            Ty::Smallint => format!("{}::smallint", random.random_range(0..5)),
            Ty::Integer => random.random_range(0..7).to_string(),
            Ty::Bigint => format!("{}::bigint", random.random_range(0..7)),
            Ty::Text | Ty::Boolean => self.value(random),
            Ty::Double | Ty::Numeric => format!("({})::{}", self.value(random), self.name()),
            Ty::Date => format!("DATE {}", self.value(random)),
            Ty::Timestamp => format!("TIMESTAMP {}", self.value(random)),
        }
    }

    /// A value that is not NULL, as INSERT takes it.
    pub fn value(self, random: &mut StdRng) -> String {
        match self {
            Ty::Smallint | Ty::Integer | Ty::Bigint => random.random_range(-2..7).to_string(),
            Ty::Text => format!("'{}'", ["", "a", "b", "ab", "Ab", "日本", "zz%", "a b"].choose(random).expect("some")),
            Ty::Boolean => random.random_bool(0.5).to_string(),
            Ty::Double => ["-1.5", "0", "0.25", "2", "1024.5", "10000000000"].choose(random).expect("some").to_string(),
            Ty::Numeric => ["-12.50", "0", "0.01", "1.25", "7", "99999.99"].choose(random).expect("some").to_string(),
            Ty::Date => format!("'2020-02-{:02}'", random.random_range(26..30)),
            Ty::Timestamp => {
                let (hour, minute) = (random.random_range(0..3), random.random_range(0..60) / 20 * 20);
                format!("'2020-02-29 {hour:02}:{minute:02}:00{}'", ["", ".5", ".000001"].choose(random).expect("some"))
            }
        }
    }
}

/// A column of a relation or a query.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub ty: Ty,
}

/// A table or a view.
#[derive(Clone, Debug)]
pub struct Relation {
    pub name: String,
    pub columns: Vec<Column>,
}

/// A table, which is a relation that takes DML.
#[derive(Clone, Debug)]
pub struct Table {
    pub relation: Relation,
    /// How many of the leading columns are the primary key; they are integers.
    pub key: usize,
    /// For each column, whether it may be NULL.
    pub nullable: Vec<bool>,
}

impl Table {
    /// A random one, its columns named with the table's letter.
    pub fn random(random: &mut StdRng, number: usize) -> Table {
        let key = *[0, 1, 1, 1, 2].choose(random).expect("some");
        let count = random.random_range(key.max(1) + 1..=6);
        let mut columns = Vec::new();
        let mut nullable = Vec::new();
        for place in 0..count {
            let keyed = place < key.max(1);
            let ty = if keyed {
                *[Ty::Integer, Ty::Bigint].choose(random).expect("some")
            } else {
                *TYPES.choose(random).expect("some")
            };
            columns.push(Column { name: format!("{}{place}", ["k", "m", "n", "p"][number % 4]), ty });
            nullable.push(place >= key && random.random_bool(0.7));
        }
        Table { relation: Relation { name: format!("t{number}"), columns }, key, nullable }
    }

    pub fn create(&self) -> String {
        let mut parts = Vec::new();
        for (column, nullable) in self.relation.columns.iter().zip(&self.nullable) {
            parts.push(format!("{} {}{}", column.name, column.ty.name(), if *nullable { "" } else { " NOT NULL" }));
        }
        if self.key > 0 {
            parts.push(format!("PRIMARY KEY ({})", self.key_columns()));
        }
        format!("CREATE TABLE {} ({})", self.relation.name, parts.join(", "))
    }

    pub fn key_columns(&self) -> String {
        self.relation.columns[..self.key].iter().map(|column| column.name.clone()).collect::<Vec<_>>().join(", ")
    }

    /// A value for a column, as INSERT takes it.
    pub fn value(&self, random: &mut StdRng, place: usize) -> String {
        if place < self.key {
            return random.random_range(1..=if self.key == 1 { 30 } else { 6 }).to_string();
        }
        // A NULL where it is forbidden is tried now and then.
        if random.random_bool(if self.nullable[place] { 0.2 } else { 0.01 }) {
            return "NULL".to_string();
        }
        self.relation.columns[place].ty.value(random)
    }
}

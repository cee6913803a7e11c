//! Random queries of the supported grammar. What PostgreSQL may legitimately show otherwise is kept out: numeric results are
//! rounded to two digits, doubles are only added, full joins have an equality.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::schema::Column;
use super::schema::Relation;
use super::schema::TYPES;
use super::schema::Ty;

/// A query and what it gives.
#[derive(Clone, Debug)]
pub struct Query {
    pub sql: String,
    pub columns: Vec<Column>,
}

/// What an expression may name: columns as they are written there, with their types.
pub type Scope = Vec<(String, Ty)>;

/// Writes queries over some relations.
pub struct Writer<'a> {
    pub random: &'a mut StdRng,
    pub relations: &'a [Relation],
    /// How often arithmetic may fail.
    pub fallible: f64,
    /// Counts aliases.
    aliases: usize,
}

impl<'a> Writer<'a> {
    pub fn new(random: &'a mut StdRng, relations: &'a [Relation], fallible: f64) -> Writer<'a> {
        Writer { random, relations, fallible, aliases: 0 }
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.random.random_bool(probability)
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of.choose(self.random).expect("there is a choice").clone()
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("r{}", self.aliases)
    }

    /// A whole query.
    pub fn query(&mut self) -> Query {
        if self.chance(0.12) {
            let types = (0..self.random.random_range(1..=3)).map(|_| self.one(TYPES)).collect::<Vec<_>>();
            let (first, second) = (self.projection(Some(&types)), self.projection(Some(&types)));
            let word =
                self.one(&["UNION ALL", "UNION ALL", "UNION", "INTERSECT", "INTERSECT ALL", "EXCEPT", "EXCEPT ALL"]);
            return Query { sql: format!("{} {word} {}", first.sql, second.sql), columns: first.columns };
        }
        if self.chance(0.1) {
            return self.with();
        }
        self.select(true)
    }

    /// A query over one that it names, and may use twice.
    fn with(&mut self) -> Query {
        let named = self.select(true);
        let relation = Relation { name: "w".to_string(), columns: named.columns };
        let (first, mut scope) = self.aliased("w".to_string(), &relation.columns);
        let mut from = first;
        if self.chance(0.5) {
            let (second, new) = self.aliased("w".to_string(), &relation.columns);
            if let Some(on) = self.equality(&scope, &new) {
                from = format!("{from} {} {second} ON {on}", self.one(&["JOIN", "LEFT JOIN", "FULL JOIN"]));
                scope.extend(new);
            }
        }
        let query = if self.chance(0.5) { self.grouped(&from, &scope) } else { self.plain(&from, &scope, None) };
        Query { sql: format!("WITH w AS ({}) {}", named.sql, query.sql), columns: query.columns }
    }

    /// One SELECT.
    fn select(&mut self, derived: bool) -> Query {
        let (from, scope) = self.from(derived);
        if self.chance(0.45) { self.grouped(&from, &scope) } else { self.plain(&from, &scope, None) }
    }

    /// A SELECT without aggregates, of these types.
    fn projection(&mut self, types: Option<&[Ty]>) -> Query {
        let (from, scope) = self.from(true);
        self.plain(&from, &scope, types)
    }

    fn plain(&mut self, from: &str, scope: &Scope, types: Option<&[Ty]>) -> Query {
        let free = types.is_none();
        let types = match types {
            Some(types) => types.to_vec(),
            None => (0..self.random.random_range(1..=4)).map(|_| self.one(scope).1).collect(),
        };
        let mut items = Vec::new();
        let mut columns = Vec::new();
        for (place, ty) in types.into_iter().enumerate() {
            items.push(format!("{} AS c{place}", self.output(scope, ty)));
            columns.push(Column { name: format!("c{place}"), ty });
        }
        if free
            && self.chance(0.07)
            && let Some((value, ty)) = self.scalar(scope)
        {
            items.push(format!("{value} AS c{}", columns.len()));
            columns.push(Column { name: format!("c{}", columns.len()), ty });
        }
        let distinct = if self.chance(0.2) { "DISTINCT " } else { "" };
        let filter = self.filter(scope);
        Query { sql: format!("SELECT {distinct}{} FROM {from}{filter}", items.join(", ")), columns }
    }

    fn grouped(&mut self, from: &str, scope: &Scope) -> Query {
        let mut items = Vec::new();
        let mut columns = Vec::new();
        let keys = self.one(&[0, 1, 1, 1, 2]);
        for place in 0..keys {
            let ty = self.one(scope).1;
            let key = if self.chance(0.7) { self.column(scope, ty) } else { None };
            items.push(format!("{} AS c{place}", key.unwrap_or_else(|| self.output(scope, ty))));
            columns.push(Column { name: format!("c{place}"), ty });
        }
        for place in keys..keys + self.random.random_range(1..=3) {
            let (call, ty) = self.aggregate(scope);
            items.push(format!("{call} AS c{place}"));
            columns.push(Column { name: format!("c{place}"), ty });
        }
        let filter = self.filter(scope);
        let ordinals = (1..=keys).map(|place| place.to_string()).collect::<Vec<_>>().join(", ");
        let group = if keys == 0 { String::new() } else { format!(" GROUP BY {ordinals}") };
        let having = if self.chance(0.25) { format!(" HAVING {}", self.having(scope)) } else { String::new() };
        Query { sql: format!("SELECT {} FROM {from}{filter}{group}{having}", items.join(", ")), columns }
    }

    fn having(&mut self, scope: &Scope) -> String {
        if self.chance(0.5) {
            return format!("count(*) {} {}", self.one(&[">", "<", "="]), self.random.random_range(0..4));
        }
        let (call, ty) = self.aggregate(scope);
        format!("{call} {} {}", self.one(&[">", "<=", "<>"]), ty.literal(self.random))
    }

    /// An aggregate call and its type.
    fn aggregate(&mut self, scope: &Scope) -> (String, Ty) {
        let filter =
            if self.chance(0.2) { format!(" FILTER (WHERE {})", self.condition(scope, 1)) } else { String::new() };
        let distinct = if self.chance(0.2) { "DISTINCT " } else { "" };
        let ty = self.one(scope).1;
        let argument =
            if self.chance(0.7) { self.column(scope, ty).expect("in scope") } else { self.value(scope, ty, 1) };
        let call = self.random.random_range(0..6);
        match (call, ty) {
            (0, _) => (format!("count(*){filter}"), Ty::Bigint),
            (2, Ty::Smallint | Ty::Integer) => (format!("sum({distinct}{argument}){filter}"), Ty::Bigint),
            (2, Ty::Bigint | Ty::Numeric) => (format!("round(sum({distinct}{argument}){filter}, 2)"), Ty::Numeric),
            (3, Ty::Smallint | Ty::Integer | Ty::Bigint | Ty::Numeric) => {
                (format!("round(avg({distinct}{argument}){filter} * 100, 2)"), Ty::Numeric)
            }
            (2, Ty::Double) => (format!("sum({distinct}{argument}){filter}"), Ty::Double),
            (4 | 5, Ty::Numeric) => {
                (format!("round({}({distinct}{argument}){filter}, 2)", ["min", "max"][call - 4]), Ty::Numeric)
            }
            (4 | 5, ty) if ty != Ty::Boolean => {
                (format!("{}({distinct}{argument}){filter}", ["min", "max"][call - 4]), ty)
            }
            _ => (format!("count({distinct}{argument}){filter}"), Ty::Bigint),
        }
    }

    /// FROM: one to three relations, joined.
    fn from(&mut self, derived: bool) -> (String, Scope) {
        let (mut text, mut scope) = self.relation(derived);
        for _ in 0..self.one(&[0, 0, 0, 1, 1, 1, 1, 2]) {
            let (right, new) = self.relation(derived);
            let Some(on) = self.equality(&scope, &new) else { continue };
            let word = self.one(&["JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
            let mut conditions = vec![on];
            if self.chance(0.2) {
                conditions.extend(self.equality(&scope, &new));
            }
            scope.extend(new);
            if self.chance(0.3) {
                conditions.push(self.condition(&scope, 1));
            }
            text = format!("{text} {word} {right} ON {}", conditions.join(" AND "));
        }
        (text, scope)
    }

    /// A relation with an alias, and its columns.
    fn relation(&mut self, derived: bool) -> (String, Scope) {
        if derived && self.chance(0.12) {
            let query = self.select(false);
            return self.aliased(format!("({})", query.sql), &query.columns);
        }
        if derived && self.chance(0.03) {
            return self.constants();
        }
        // Tables come first, and have more rows.
        let among = if self.chance(0.5) { self.relations.len() } else { self.relations.len().min(3) };
        let relation = self.one(&self.relations[..among]);
        self.aliased(relation.name, &relation.columns)
    }

    /// Rows of VALUES.
    fn constants(&mut self) -> (String, Scope) {
        let alias = self.alias();
        let types = [Ty::Integer, self.one(TYPES)];
        let rows = (0..self.random.random_range(1..4))
            .map(|_| format!("({}, {})", types[0].literal(self.random), types[1].literal(self.random)));
        let text = format!("(VALUES {}) AS {alias} (c0, c1)", rows.collect::<Vec<_>>().join(", "));
        (text, (0..2).map(|place| (format!("{alias}.c{place}"), types[place])).collect())
    }

    fn aliased(&mut self, text: String, columns: &[Column]) -> (String, Scope) {
        let alias = self.alias();
        let scope = columns.iter().map(|column| (format!("{alias}.{}", column.name), column.ty)).collect();
        (format!("{text} AS {alias}"), scope)
    }

    /// An equality between the two sides, if there are columns that can meet.
    fn equality(&mut self, left: &Scope, right: &Scope) -> Option<String> {
        let pairs = left.iter().flat_map(|l| right.iter().filter(|r| l.1.meets(r.1)).map(move |r| (l, r)));
        let pairs = pairs.filter(|(l, _)| l.1 != Ty::Boolean || left.len() == 1).collect::<Vec<_>>();
        let ((left, ty), (right, _)) = pairs.choose(self.random)?;
        if *ty == Ty::Integer && self.chance(0.1) {
            return Some(format!("{left} + 1 = {right}"));
        }
        Some(format!("{left} = {right}"))
    }

    fn filter(&mut self, scope: &Scope) -> String {
        let mut conditions = Vec::new();
        if self.chance(0.35) {
            conditions.push(self.condition(scope, 2));
        }
        if self.chance(0.25) {
            let condition = self.condition(scope, 1);
            let shape = self.random.random_range(0..8);
            conditions.extend(self.subquery(scope).map(|test| match shape {
                0 => format!("({condition} OR {test})"),
                1 => format!("NOT ({condition} AND {test})"),
                _ => test,
            }));
        }
        if self.chance(0.08) {
            conditions.extend(self.scalar(scope).map(|(value, ty)| {
                format!("{} {} {value}", ty.literal(self.random), self.one(&["<", ">=", "=", "<>"]))
            }));
        }
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
    }

    /// `[NOT] EXISTS`, `[NOT] IN` over another relation.
    pub fn subquery(&mut self, scope: &Scope) -> Option<String> {
        let (from, inner) = self.relation(false);
        let not = if self.chance(0.5) { "NOT " } else { "" };
        if self.chance(0.5) {
            let equality = self.equality(scope, &inner)?;
            let both = scope.iter().chain(&inner).cloned().collect::<Scope>();
            let more = if self.chance(0.4) { format!(" AND {}", self.condition(&both, 1)) } else { String::new() };
            return Some(format!("{not}EXISTS (SELECT 1 FROM {from} WHERE {equality}{more})"));
        }
        let wanted = scope.iter().map(|(_, ty)| *ty).filter(|ty| inner.iter().any(|i| i.1 == *ty)).collect::<Vec<_>>();
        let ty = *wanted.choose(self.random)?;
        let (left, right) = (self.value(scope, ty, 1), self.column(&inner, ty)?);
        let condition = if self.chance(0.5) { format!(" WHERE {}", self.condition(&inner, 1)) } else { String::new() };
        Some(format!("{left} {not}IN (SELECT {right} FROM {from}{condition})"))
    }

    /// A subquery of one value, correlated or not.
    fn scalar(&mut self, scope: &Scope) -> Option<(String, Ty)> {
        let (from, inner) = self.relation(false);
        let (call, ty) = self.aggregate(&inner);
        if self.chance(0.3) {
            return Some((format!("(SELECT {call} FROM {from})"), ty));
        }
        let equality = self.equality(scope, &inner)?;
        if self.chance(0.15) {
            // Most often there is one row; a second is an error on both sides.
            let (value, ty) = self.one(&inner);
            return Some((format!("(SELECT {value} FROM {from} WHERE {equality})"), ty));
        }
        Some((format!("(SELECT {call} FROM {from} WHERE {equality})"), ty))
    }

    /// A column of this type.
    fn column(&mut self, scope: &Scope, ty: Ty) -> Option<String> {
        let of = scope.iter().filter(|(_, t)| *t == ty).collect::<Vec<_>>();
        of.choose(self.random).map(|(name, _)| name.clone())
    }

    /// An expression as a query gives it out.
    pub fn output(&mut self, scope: &Scope, ty: Ty) -> String {
        if self.chance(0.6)
            && let Some(column) = self.column(scope, ty)
        {
            return column;
        }
        let value = self.value(scope, ty, 2);
        if ty == Ty::Numeric { format!("round({value}, 2)") } else { value }
    }

    /// An expression of a type; `depth` bounds its nesting.
    pub fn value(&mut self, scope: &Scope, ty: Ty, depth: usize) -> String {
        let leaf = depth == 0 || self.chance(0.3);
        if leaf {
            let column = if self.chance(0.8) { self.column(scope, ty) } else { None };
            return column.unwrap_or_else(|| ty.literal(self.random));
        }
        let depth = depth - 1;
        if self.chance(0.3) {
            return self.choice(scope, ty, depth);
        }
        match ty {
            Ty::Smallint | Ty::Integer | Ty::Bigint => self.integer(scope, ty, depth),
            Ty::Numeric => self.numeric(scope, depth),
            Ty::Text => self.text(scope, depth),
            Ty::Boolean => format!("({})", self.condition(scope, depth)),
            Ty::Double => {
                let (left, right) = (self.value(scope, ty, depth), self.value(scope, ty, depth));
                format!("({left} {} {right})", self.one(&["+", "-"]))
            }
            Ty::Date => {
                if self.chance(0.3) {
                    return format!("({})::date", self.value(scope, Ty::Timestamp, depth));
                }
                let (date, days) = (self.value(scope, ty, depth), self.random.random_range(-2..3));
                format!("({date} + ({days}))")
            }
            Ty::Timestamp => {
                let value = self.value(scope, ty, depth);
                match self.random.random_range(0..3) {
                    0 => format!("date_trunc('{}', {value})", self.one(&["hour", "day", "minute"])),
                    1 => format!("({value} + INTERVAL '{}')", self.one(&["1 hour", "2 days", "90 minutes", "1 month"])),
                    _ => format!("({})::timestamp", self.value(scope, Ty::Date, depth)),
                }
            }
        }
    }

    /// CASE, coalesce, nullif: of any type.
    fn choice(&mut self, scope: &Scope, ty: Ty, depth: usize) -> String {
        let (first, second) = (self.value(scope, ty, depth), self.value(scope, ty, depth));
        match self.random.random_range(0..5) {
            0 => format!("coalesce({first}, {second})"),
            1 => format!("nullif({first}, {second})"),
            2 => format!("CASE WHEN {} THEN {first} END", self.condition(scope, depth)),
            _ => format!("CASE WHEN {} THEN {first} ELSE {second} END", self.condition(scope, depth)),
        }
    }

    fn integer(&mut self, scope: &Scope, ty: Ty, depth: usize) -> String {
        let left = self.value(scope, ty, depth);
        if self.chance(self.fallible) {
            let right = self.value(scope, ty, depth);
            return format!("({left} {} {right})", self.one(&["/", "%"]));
        }
        let name = ty.name();
        match self.random.random_range(0..8) {
            0 => format!("abs({left})"),
            1 if ty == Ty::Integer => format!("length({})", self.value(scope, Ty::Text, depth)),
            2 => format!("({left} {} {}::{name})", self.one(&["/", "%"]), self.random.random_range(1..4)),
            3 => format!("({})::{name}", self.value(scope, Ty::Numeric, 0)),
            4 => format!("({})::{name}", self.value(scope, Ty::Integer, depth)),
            5 if ty != Ty::Smallint => {
                format!("({} * {})", self.value(scope, ty, 0), self.random.random_range(-1..4))
            }
            6 if ty == Ty::Integer => {
                format!("({} - {})", self.value(scope, Ty::Date, depth), self.value(scope, Ty::Date, 0))
            }
            _ => {
                let right = self.value(scope, ty, depth);
                format!("({left} {} {right})", self.one(&["+", "-"]))
            }
        }
    }

    fn numeric(&mut self, scope: &Scope, depth: usize) -> String {
        let (left, right) = (self.value(scope, Ty::Numeric, depth), self.value(scope, Ty::Numeric, 0));
        match self.random.random_range(0..6) {
            0 => format!("abs({left})"),
            1 => format!("round({left}, {})", self.random.random_range(0..3)),
            2 => format!("({})::numeric(10,2)", self.value(scope, Ty::Integer, depth)),
            3 => format!("round({left} * {}, 2)", self.value(scope, Ty::Integer, 0)),
            4 => format!("round({left} / {}, 2)", self.random.random_range(2..8)),
            _ => format!("({left} {} {right})", self.one(&["+", "-"])),
        }
    }

    fn text(&mut self, scope: &Scope, depth: usize) -> String {
        let left = self.value(scope, Ty::Text, depth);
        match self.random.random_range(0..6) {
            0 => format!("upper({left})"),
            1 => format!("lower({left})"),
            2 => format!("substr({left}, {}, {})", self.random.random_range(0..3), self.random.random_range(0..3)),
            3 => {
                let ty = self.one(&[Ty::Integer, Ty::Bigint, Ty::Boolean, Ty::Date, Ty::Timestamp, Ty::Double]);
                format!("({})::text", self.value(scope, ty, 0))
            }
            4 => format!("trim({left})"),
            _ => format!("({left} || {})", self.value(scope, Ty::Text, depth)),
        }
    }

    /// A condition; `depth` bounds its nesting.
    pub fn condition(&mut self, scope: &Scope, depth: usize) -> String {
        let within = depth.saturating_sub(1);
        if depth > 0 && self.chance(0.35) {
            let left = self.condition(scope, within);
            let right = self.condition(scope, within);
            return match self.random.random_range(0..5) {
                0 | 1 => format!("({left} AND {right})"),
                2 | 3 => format!("({left} OR {right})"),
                _ => format!("(NOT {left})"),
            };
        }
        let ty = self.one(scope).1;
        let column = self.column(scope, ty).expect("in scope");
        let value = if self.chance(0.6) { ty.literal(self.random) } else { self.value(scope, ty, within) };
        match self.random.random_range(0..12) {
            0 => format!("{column} IS {}NULL", self.one(&["", "NOT "])),
            1 => format!("{column} IS {}DISTINCT FROM {value}", self.one(&["", "NOT "])),
            2 => format!("{column} {}BETWEEN {value} AND {}", self.one(&["", "NOT "]), self.value(scope, ty, 0)),
            3 => {
                let more = if self.chance(0.2) { "NULL".to_string() } else { ty.literal(self.random) };
                format!("{column} {}IN ({}, {more})", self.one(&["", "NOT "]), ty.literal(self.random))
            }
            4 if ty == Ty::Text => {
                format!("{column} {}LIKE '{}'", self.one(&["", "NOT "]), self.one(&["a%", "%b", "_", "%"]))
            }
            5 if ty == Ty::Boolean => {
                format!("{column} IS {}", self.one(&["TRUE", "NOT TRUE", "FALSE", "NOT FALSE", "UNKNOWN"]))
            }
            6 if ty == Ty::Boolean => column,
            _ => format!("{column} {} {value}", self.one(&["=", "<>", "<>", "<", "<=", "<=", ">", ">=", ">="])),
        }
    }
}

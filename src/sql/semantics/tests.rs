//! Facts of PostgreSQL 15, each found with psql.

use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use crate::error::Error;
use crate::functions::from_datafusion;
use crate::functions::now::set_now;
use crate::sql::semantics::prepare::prepare;
use crate::sql::semantics::session_state;
use crate::types::SqlType;
use crate::types::text::TextColumn;
use crate::types::zone::Zone;

/// The answer to a query in text: columns joined by `|`, rows by a blank; or the SQLSTATE and message of its error.
fn answer(context: &SessionContext, zone: &str, sql: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let rows = runtime.block_on(async {
        let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).map_err(|e| Error::syntax(e.to_string()))?;
        prepare(&mut statements)?;
        let statement = Statement::Statement(Box::new(statements.remove(0)));
        let plan = context.state().statement_to_plan(statement).await.map_err(from_datafusion)?;
        // Once by whoever binds the statement; executing it analyzes again, which must change nothing.
        let state = context.state();
        let analyzed = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {});
        let plan = analyzed.map_err(from_datafusion)?;
        let frame = context.execute_logical_plan(plan).await.map_err(from_datafusion)?;
        let batches = frame.collect().await.map_err(from_datafusion)?;
        let mut rows = Vec::new();
        for batch in batches {
            let types: Option<Vec<_>> = batch.schema_ref().fields().iter().map(|f| SqlType::of_field(f)).collect();
            let types = types.ok_or_else(|| Error::internal(format!("no SQL type in {:?}", batch.schema_ref())))?;
            let columns = batch.columns().iter().zip(&types);
            let columns = columns.map(|(c, ty)| TextColumn::new(c.as_ref(), ty, Zone::parse(zone)?));
            let columns = columns.collect::<Result<Vec<_>, Error>>()?;
            for row in 0..batch.num_rows() {
                let mut line = Vec::new();
                for column in &columns {
                    let mut text = String::new();
                    match column.is_null(row) {
                        true => text.push_str("NULL"),
                        false => column.write(row, &mut text),
                    }
                    line.push(text);
                }
                rows.push(line.join("|"));
            }
        }
        Ok::<_, Error>(rows.join(" "))
    });
    rows.unwrap_or_else(|error| format!("{} {}", error.kind.sqlstate(), error.message))
}

/// Checks lines of the form `expression -> answer` in a time zone.
fn check_in(zone: &str, facts: &str) {
    let mut state = session_state(zone).build();
    set_now(state.config_mut().options_mut(), 1_704_103_200_500_000);
    let context = SessionContext::new_with_state(state);
    let mut wrong = Vec::new();
    for fact in facts.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (sql, expected) = fact.split_once(" -> ").unwrap_or((fact, ""));
        let query = if sql.starts_with("select") || sql.starts_with("with") {
            sql.to_string()
        } else {
            format!("select {sql}")
        };
        let found = answer(&context, zone, &query);
        if found != expected {
            wrong.push(format!("{sql}\n  is       {found}\n  expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn check(facts: &str) {
    check_in("UTC", facts);
}

#[test]
fn arithmetic() {
    check(
        "1 + 1 -> 2
        2147483647 + 1 -> 22003 integer out of range
        2147483648 + 1 -> 2147483649
        9223372036854775807 + 1 -> 22003 bigint out of range
        9223372036854775808 + 1 -> 9223372036854775809
        1::smallint + 32767::smallint -> 22003 smallint out of range
        7 / 2 -> 3
        -7 / 2 -> -3
        -7 % 3 -> -1
        1 / 0 -> 22012 division by zero
        1.0 / 0 -> 22012 division by zero
        1::float8 / 0 -> 22012 division by zero
        5 % 0 -> 22012 division by zero
        1.5 + 1 -> 2.5
        0.1 + 0.2 -> 0.3
        0.1::float8 + 0.2::float8 -> 0.30000000000000004
        1.10 * 2.5 -> 2.750
        10 / 4.0 -> 2.5000000000000000
        1 / 3.0 -> 0.3333333333333333
        -2.5::numeric(3,1) / 1 -> -2.5000000000000000
        1e308::float8 * 10 -> 22003 value out of range: overflow
        99999999999999999999999999999999999999 + 1 -> 22003 value overflows numeric format
        - (-2147483648) -> 2147483648
        2 ^ 10 -> 1024
        5 & 3 -> 1
        1 << 4 -> 16
        1 + '2' -> 3
        1 + 'x' -> 22P02 invalid input syntax for type integer: \"x\"
        true + 1 -> 42883 operator does not exist: boolean + integer
        null + 1 -> NULL
        abs(-5) -> 5
        mod(7, 3) -> 1
        round(2.5) -> 3
        round(-2.5) -> -3
        round(2.5::float8) -> 2
        round(2.345, 2) -> 2.35
        round(1234.5, -2) -> 1200
        trunc(-2.7) -> -2
        ceil(2.1) -> 3
        ceil(-2.1) -> -2
        floor(-2.1) -> -3
        sqrt(2::float8) -> 1.4142135623730951
        sign(-3.5) -> -1
        case when true then 1 else 2.5 end -> 1.0
        select x + 1 from (values (1), (2147483647)) t(x) where x < 10 -> 2",
    );
}

#[test]
fn casts() {
    check(
        "2.5::float8::int -> 2
        3.5::float8::int -> 4
        2.5::int -> 3
        -2.5::int -> -3
        2.7::numeric::int -> 3
        100000::smallint -> 22003 smallint out of range
        'x'::int -> 22P02 invalid input syntax for type integer: \"x\"
        '99999999999'::int -> 22003 value \"99999999999\" is out of range for type integer
        ' 42 '::int -> 42
        true::text -> true
        true -> t
        'yes'::boolean -> t
        'maybe'::boolean -> 22P02 invalid input syntax for type boolean: \"maybe\"
        1::boolean -> t
        true::int -> 1
        'abcdef'::varchar(3) -> abc
        12345.678::numeric(7,2) -> 12345.68
        123456.7::numeric(7,2) -> 22003 numeric field overflow
        0.1::float4 -> 0.1
        0.1::float4::float8 -> 0.10000000149011612
        1e15::float8 -> 1e+15
        123456789012345::float8 -> 123456789012345
        0.0001::float8 -> 0.0001
        0.00001::float8 -> 1e-05
        'NaN'::float8 -> NaN
        '-inf'::float8 -> -Infinity
        1.5::text -> 1.5
        1::text || 'a' -> 1a
        '\\x6869'::bytea -> \\x6869
        'hi'::bytea -> \\x6869
        '2024-01-02'::date -> 2024-01-02
        '2024-13-02'::date -> 22008 date/time field value out of range: \"2024-13-02\"
        'foo'::date -> 22007 invalid input syntax for type date: \"foo\"
        '2024-01-01T10:00:00.5'::timestamp -> 2024-01-01 10:00:00.5
        '2024-01-01 10:00:00+02'::timestamptz -> 2024-01-01 08:00:00+00
        timestamp '9999-12-31' -> 9999-12-31 00:00:00
        timestamp 'infinity' -> infinity
        '2024-01-01 10:00'::timestamp::date -> 2024-01-01
        '2024-01-01'::date::timestamp -> 2024-01-01 00:00:00
        ('2024-01-01 10:00'::timestamp)::text -> 2024-01-01 10:00:00
        ('1 day 2 hours'::interval)::text -> 1 day 02:00:00
        '10:30'::time -> 10:30:00
        date '2024-01-01'::int -> 42846 cannot cast type date to integer
        '{1,2,3}'::int[] -> {1,2,3}
        1e20::float8::bigint -> 22003 bigint out of range",
    );
}

#[test]
fn comparisons() {
    check(
        "1 = '1' -> t
        true = 't' -> t
        'a' < 'b' -> t
        1 = 1.0 -> t
        '1'::text = 1 -> 42883 operator does not exist: text = integer
        date '2024-01-01' < timestamp '2024-01-01 00:00:01' -> t
        date '2024-01-01' = '2024-01-01' -> t
        interval '1 day' = interval '24 hours' -> t
        interval '1 month' > interval '29 days' -> t
        2 between 1 and 3 -> t
        2 not between '1' and '3' -> f
        1 in (1, 2) -> t
        1 in ('1', '2') -> t
        3 not in (1, null) -> NULL
        null = null -> NULL
        1 is distinct from null -> t
        'NaN'::float8 > 1 -> t
        'NaN'::float8 = 'NaN'::float8 -> t
        coalesce(null, 1) -> 1
        coalesce(1, 'x') -> 22P02 invalid input syntax for type integer: \"x\"
        greatest(1, 2.5) -> 2.5
        least(3, null, 2) -> 2
        nullif(1, 1) -> NULL
        case 1 when '1' then 'a' end -> a
        'abc' like 'a%' -> t
        'a_c' like 'a/_c' escape '/' -> t
        'abc' like 'a/_c' escape '/' -> f
        'abc' similar to '%b%' -> t
        'abc' similar to '(a|x)b_' -> t
        'abc' ~ '^a.c$' -> t
        'ABC' ~* 'b' -> t
        'abc' !~ 'z' -> t
        'abc' ~ '(' -> 2201B invalid regular expression: unclosed group
        1 like 'a' -> 42883 operator does not exist: integer ~~ unknown",
    );
}

#[test]
fn rows_answer_for_themselves() {
    check(
        "select p from (values (10), (11)) t(p) where p <> 10 and 100 / (p - 10) > 1 -> 11
        select p from (values (10), (11)) t(p) where 100 / (p - 10) > 1 and p <> 10 -> 11
        select p from (values (10), (11)) t(p) where p = 10 or 100 / (p - 10) > 1 -> 10 11
        select case when p = 10 then 0 else 100 / (p - 10) end from (values (10), (11)) t(p) -> 0 100
        select p from (values (10), (11)) t(p) where 100 / (p - 10) > 1 -> 22012 division by zero
        select p from (values (0), (1)) t(p) where p <> 0 and (1 / p = 1 or 2 / p = 5) -> 1
        select case when p = 0 then false else 1 / p = 1 end from (values (0), (1)) t(p) -> f t
        select p from (values (null), (1)) t(p) where p <> 0 and 1 / p = 1 -> 1",
    );
}

#[test]
fn times() {
    check(
        "timestamp '2024-01-31' + interval '1 month' -> 2024-02-29 00:00:00
        timestamp '2024-01-31 10:00' - timestamp '2024-01-01 09:00' -> 30 days 01:00:00
        date '2024-01-01' + 5 -> 2024-01-06
        date '2024-03-01' - date '2024-02-01' -> 29
        date '2024-01-01' + interval '1 hour' -> 2024-01-01 01:00:00
        interval '1 day' * 1.5 -> 1 day 12:00:00
        interval '1 hour' / 4 -> 00:15:00
        interval '1 year 2 mons -3 days 04:05:06.7' -> 1 year 2 mons -3 days +04:05:06.7
        - interval '1 day' -> -1 days
        time '10:00' + interval '15 hours' -> 01:00:00
        extract(second from timestamp '2024-01-01 10:00:01.5') -> 1.500000
        extract(year from date '2024-05-06') -> 2024
        extract(epoch from timestamp '2024-01-01') -> 1704067200.000000
        extract(dow from date '2024-01-07') -> 0
        extract(week from date '2024-01-01') -> 1
        extract(hour from interval '3 hours') -> 3
        date_part('minute', timestamp '2024-01-01 10:20:00') -> 20
        date_trunc('hour', timestamp '2024-01-01 10:20:00') -> 2024-01-01 10:00:00
        date_trunc('week', timestamp '2024-01-03 10:20:00') -> 2024-01-01 00:00:00
        to_char(timestamp '2024-01-02 03:04:05.678', 'YYYY-MM-DD HH24:MI:SS.MS') -> 2024-01-02 03:04:05.678
        to_char(date '2024-01-02', 'FMDay, FMDDth FMMonth YYYY') -> Tuesday, 2nd January 2024
        to_char(1234.5, 'FM9,999.00') -> 1,234.50
        to_char(12, 'FM000') -> 012
        age(timestamp '2024-03-01', timestamp '2024-01-31') -> 1 mon 1 day
        to_timestamp(1704067200.5) -> 2024-01-01 00:00:00.5+00
        now() -> 2024-01-01 10:00:00.5+00
        current_date -> 2024-01-01
        make_date(2024, 2, 30) -> 22008 date field value out of range: 2024-02-30
        '2024-01-01 10:00'::timestamp at time zone 'America/New_York' -> 2024-01-01 15:00:00+00",
    );
    check_in(
        "Europe/Berlin",
        "timestamptz '2024-07-01 10:00' -> 2024-07-01 10:00:00+02
        timestamptz '2024-03-30 12:00' + interval '1 day' -> 2024-03-31 12:00:00+02
        timestamptz '2024-03-30 12:00' + interval '24 hours' -> 2024-03-31 13:00:00+02
        date_trunc('day', timestamptz '2024-07-01 01:00+00') -> 2024-07-01 00:00:00+02
        extract(hour from timestamptz '2024-07-01 01:00+00') -> 3
        timestamptz '2024-07-01 23:00+00'::date -> 2024-07-02
        timestamp '2024-07-01 10:00'::timestamptz -> 2024-07-01 10:00:00+02",
    );
}

#[test]
fn strings() {
    check(
        "concat('a', null, 1, true) -> a1t
        concat_ws('-', 'a', null, 'b') -> a-b
        'a' || null -> NULL
        1 || 'a' -> 1a
        substring('hello' from 2 for 3) -> ell
        substring('hello' from -1 for 3) -> h
        substr('hello', 2) -> ello
        position('l' in 'hello') -> 3
        length('äö') -> 2
        octet_length('äö') -> 4
        left('hello', -2) -> hel
        right('hello', 2) -> lo
        upper('abc') -> ABC
        trim('  a ') -> a
        replace('abc', 'b', 'x') -> axc
        split_part('a,b,c', ',', 2) -> b
        md5('a') -> 0cc175b9c0f1b6a831c399e269772661",
    );
}

#[test]
fn aggregates() {
    check(
        "select sum(x) from (values (1), (2), (null)) t(x) -> 3
        select sum(x), avg(x) from (values (2147483647), (2147483647)) t(x) -> 4294967294|2147483647.0000000000000000
        select sum(x) from (values (9223372036854775807), (1)) t(x) -> 9223372036854775808
        select avg(x) from (values (1), (2)) t(x) -> 1.5000000000000000
        select sum(x) from (values (1e300::float8), (1), (-1e300::float8)) t(x) -> 1
        select avg(x) from (values (1.5), (2.25)) t(x) -> 1.8750000000000000
        select sum(x) from (values (1.5), (2.25)) t(x) -> 3.75
        select sum(distinct x), count(distinct x) from (values (1), (1), (2)) t(x) -> 3|2
        select sum(x) filter (where x > 1) from (values (1), (2)) t(x) -> 2
        select every(x > 0), bool_or(x > 1) from (values (1), (2)) t(x) -> t|t
        select sum(case when x > 1 then 1 else 0 end) / count(*) from (values (1), (2), (3)) t(x) -> 0
        select max(x), min(x) from (values ('NaN'::float8), (1)) t(x) -> NaN|1
        select sum('a') -> 42883 function sum(text) does not exist
        select x, count(*) from (values (1), (1), (2)) t(x) group by x order by x -> 1|2 2|1
        select row_number() over (order by x) from (values (5), (6)) t(x) -> 1 2
        select count(*) + 1 from (values (1)) t(x) -> 2
        select x from (values (1), (2)) t(x) union all select 3.5 -> 1.0 2.0 3.5
        select nope from (values (1)) t(x) -> 42703 column \"nope\" does not exist
        select nope(1) -> 42883 function nope does not exist
        select * from nope -> 42P01 relation \"nope\" does not exist",
    );
}

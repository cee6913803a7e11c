"""psycopg 3 against a server on the port given: what a program does with it, asserted."""

import datetime
import sys
import threading
import time
from decimal import Decimal

import psycopg
from psycopg import errors

CONNECT = f"host=127.0.0.1 port={sys.argv[1]} user=ann dbname=millstream"
TYPES = (
    "a boolean, b smallint, c integer, d bigint, e real, f double precision, g numeric(12,4), h text, i varchar(5), "
    "j bytea, k date, l timestamp, m timestamptz, n interval"
)
UTC = datetime.timezone.utc
ROW = (
    True, -32768, 2147483647, -9223372036854775808, 1.5, -2.5e300, Decimal("-12345.6780"), "straße \t\\\n'", "abc",
    b"\x00\xff\\", datetime.date(1999, 12, 31), datetime.datetime(2024, 2, 29, 23, 59, 59, 123456),
    datetime.datetime(1969, 12, 31, 23, 0, tzinfo=UTC), datetime.timedelta(days=-3, hours=4, microseconds=7),
)


def fails(error, act):
    """The act fails with an error of this class."""
    try:
        act()
    except error as found:
        return found
    raise AssertionError(f"{error.__name__} was expected")


def types(conn):
    conn.execute(f"CREATE TABLE p_types (id int PRIMARY KEY, {TYPES})")
    marks = ", ".join(["%s"] * (len(ROW) + 1))
    conn.execute(f"INSERT INTO p_types VALUES ({marks})", (1, *ROW))
    binary = ", ".join(["%s"] + ["%b"] * len(ROW))
    conn.execute(f"INSERT INTO p_types VALUES ({binary})", (2, *ROW))
    conn.execute(f"INSERT INTO p_types VALUES ({marks})", (3, *[None] * len(ROW)))
    for as_binary in (False, True):
        rows = conn.execute("SELECT * FROM p_types ORDER BY id", binary=as_binary).fetchall()
        assert rows == [(1, *ROW), (2, *ROW), (3, *[None] * len(ROW))], rows
    described = [column.type_code for column in conn.execute("SELECT * FROM p_types").description]
    assert described == [23, 16, 21, 23, 20, 700, 701, 1700, 25, 1043, 17, 1082, 1114, 1184, 1186], described


def prepared(conn):
    for n in range(12):  # from the sixth on by name
        found = conn.execute("SELECT h, b + %s FROM p_types WHERE id = %s", (n, 1)).fetchone()
        assert found == (ROW[7], ROW[1] + n), found
    row = conn.execute("SELECT %s::int + 1, %s::text, %s::timestamptz IS NULL", (41, "x", None), prepare=True).fetchone()
    assert row == (42, "x", True), row
    limited = conn.execute("SELECT id FROM p_types ORDER BY id LIMIT %s OFFSET %s", (1, 1), prepare=True).fetchall()
    assert limited == [(2,)], limited
    with conn.cursor() as cursor:
        cursor.executemany("INSERT INTO p_types (id, h) VALUES (%s, %s) RETURNING id", [(10, "a"), (11, "b")], returning=True)
        assert cursor.fetchone() == (10,)
    with conn.pipeline():
        first, second = conn.execute("SELECT 1"), conn.execute("SELECT %s::int", (2,))
        assert (first.fetchone(), second.fetchone()) == ((1,), (2,))


def cursors(conn):
    with conn.transaction(), conn.cursor("srv") as cursor:
        cursor.itersize = 2
        cursor.execute("SELECT id FROM p_types WHERE id > %s ORDER BY id", (0,))
        assert [row[0] for row in cursor] == [1, 2, 3, 10, 11]
    with conn.transaction(), conn.cursor("some") as cursor:
        cursor.execute("SELECT id FROM p_types ORDER BY id")
        assert (cursor.fetchmany(2), cursor.fetchone(), cursor.fetchall()) == ([(1,), (2,)], (3,), [(10,), (11,)])
    held = conn.cursor("held", withhold=True)
    held.execute("SELECT id FROM p_types ORDER BY id")
    assert held.fetchone() == (1,)
    held.close()


def copy(conn):
    columns = "SELECT * FROM p_types WHERE id < 4 ORDER BY id"
    described = conn.execute(columns).description
    for form in ("TEXT", "BINARY"):
        with conn.cursor().copy(f"COPY ({columns}) TO STDOUT (FORMAT {form})") as copy:
            copy.set_types([column.type_code for column in described])
            rows = list(copy.rows())
        assert rows == [(1, *ROW), (2, *ROW), (3, *[None] * len(ROW))], rows
        conn.execute("DELETE FROM p_types WHERE id >= 100")
        with conn.cursor().copy(f"COPY p_types FROM STDIN (FORMAT {form})") as copy:
            copy.set_types([column.type_code for column in described])
            copy.write_row((100, *ROW))
            copy.write_row((101, *[None] * len(ROW)))
        rows = conn.execute("SELECT * FROM p_types WHERE id >= 100 ORDER BY id").fetchall()
        assert rows == [(100, *ROW), (101, *[None] * len(ROW))], rows

    def broken():
        with conn.cursor().copy("COPY p_types (id, c) FROM STDIN") as copy:
            copy.write("200\t1\n201\tnone\n")

    error = fails(errors.InvalidTextRepresentation, broken)
    assert error.diag.context == 'COPY p_types, line 2, column c: "none"', error.diag.context

    def given_up():
        with conn.cursor().copy("COPY p_types (id) FROM STDIN") as copy:
            copy.write("200\n")
            raise ZeroDivisionError

    fails(ZeroDivisionError, given_up)
    assert conn.execute("SELECT count(*) FROM p_types WHERE id >= 200").fetchone() == (0,)


def transactions(conn):
    with conn.transaction():
        conn.execute("INSERT INTO p_types (id) VALUES (300)")

        def undone():
            with conn.transaction():
                conn.execute("INSERT INTO p_types (id) VALUES (301)")
                raise ZeroDivisionError

        fails(ZeroDivisionError, undone)
    assert conn.execute("SELECT id FROM p_types WHERE id >= 300").fetchall() == [(300,)]
    with psycopg.connect(CONNECT) as other:
        other.execute("UPDATE p_types SET c = 1 WHERE id = 300")
        conn.execute("UPDATE p_types SET c = 2 WHERE id = 300")
        fails(errors.SerializationFailure, other.commit)


def failures(conn):
    for error, sql in [
        (errors.UniqueViolation, "INSERT INTO p_types (id) VALUES (1)"),
        (errors.NotNullViolation, "INSERT INTO p_types (h) VALUES ('x')"),
        (errors.UndefinedTable, "SELECT * FROM nowhere"),
        (errors.UndefinedColumn, "SELECT nothing FROM p_types"),
        (errors.SyntaxError, "SELEKT 1"),
        (errors.DivisionByZero, "SELECT 1 / 0"),
        (errors.InvalidTextRepresentation, "SELECT 'x'::int"),
        (errors.NumericValueOutOfRange, "SELECT 2147483647 + 1"),
        (errors.FeatureNotSupported, "LOCK TABLE p_types"),
    ]:
        fails(error, lambda: conn.execute(sql))
    with psycopg.connect(CONNECT) as other:
        fails(errors.DivisionByZero, lambda: other.execute("SELECT 1 / 0"))
        fails(errors.InFailedSqlTransaction, lambda: other.execute("SELECT 1"))
        other.rollback()
        assert other.execute("SELECT 1").fetchone() == (1,)


def cancelling(conn):
    endless = "SELECT count(*) FROM pg_attribute a, pg_attribute b, pg_attribute c, pg_attribute d"
    stop = threading.Event()

    def cancel():
        while not stop.wait(0.1):
            conn.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    fails(errors.QueryCanceled, lambda: conn.execute(endless))
    stop.set()
    thread.join()
    time.sleep(0)
    conn.execute("SET statement_timeout = '200ms'")
    fails(errors.QueryCanceled, lambda: conn.execute(endless))
    conn.execute("RESET statement_timeout")
    assert conn.execute("SELECT 1").fetchone() == (1,)


def settings(conn):
    conn.execute("SET TimeZone = 'Europe/Berlin'")
    assert conn.info.parameter_status("TimeZone") == "Europe/Berlin"
    shown = conn.execute("SELECT m::text FROM p_types WHERE id = 1").fetchone()
    assert shown == ("1970-01-01 00:00:00+01",), shown
    conn.execute("RESET ALL")
    assert conn.info.parameter_status("TimeZone") == "UTC"
    assert conn.info.server_version == 130014


with psycopg.connect(CONNECT, autocommit=True) as connection:
    for check in (types, prepared, cursors, copy, transactions, failures, cancelling, settings):
        check(connection)
        print(check.__name__)

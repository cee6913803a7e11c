"""asyncpg against a server on the port given: everything in binary, cursors as portals, COPY in binary."""

import asyncio
import datetime
import io
import sys
from decimal import Decimal

import asyncpg

CONNECT = {"host": "127.0.0.1", "port": int(sys.argv[1]), "user": "ann", "database": "millstream"}
TYPES = (
    "a boolean, b smallint, c integer, d bigint, e real, f double precision, g numeric(12,4), h text, i varchar(5), "
    "j bytea, k date, l timestamp, m timestamptz, n interval"
)
UTC = datetime.timezone.utc
ROW = (
    False, 32767, -2147483648, 9223372036854775807, -0.25, 1e-300, Decimal("0.0001"), "日本", "",
    b"", datetime.date(2000, 1, 1), datetime.datetime(1, 1, 1), datetime.datetime(2262, 4, 11, 23, 47, tzinfo=UTC),
    datetime.timedelta(days=40, seconds=1),
)


async def fails(error, act):
    try:
        await act
    except error as found:
        return found
    raise AssertionError(f"{error.__name__} was expected")


async def types(conn):
    await conn.execute(f"CREATE TABLE a_types (id int PRIMARY KEY, {TYPES})")
    marks = ", ".join(f"${n}" for n in range(1, len(ROW) + 2))
    await conn.execute(f"INSERT INTO a_types VALUES ({marks})", 1, *ROW)
    assert tuple(await conn.fetchrow("SELECT * FROM a_types WHERE id = $1", 1)) == (1, *ROW)
    statement = await conn.prepare("SELECT h, $2::int FROM a_types WHERE id = $1 LIMIT $3")
    assert [parameter.name for parameter in statement.get_parameters()] == ["int4", "int4", "int8"]
    assert [attribute.type.name for attribute in statement.get_attributes()] == ["text", "int4"]
    assert tuple(await statement.fetchrow(1, 7, 1)) == ("日本", 7)
    assert await conn.fetchval("SELECT $1::text[]", ["a", None, "b,c"]) == ["a", None, "b,c"]
    # Arrays of other items: asyncpg asks the catalogs what they are.
    assert await conn.fetchval("SELECT $1::int[]", [1, None, -3]) == [1, None, -3]
    found = await conn.fetch("SELECT id FROM a_types WHERE id = ANY($1)", [1, 7])
    assert [row["id"] for row in found] == [1]
    for array, values in [("bigint[]", [1 << 40]), ("float8[]", [0.5]), ("timestamptz[]", [ROW[12]]), ("numeric[]", [Decimal("1.5")])]:
        assert await conn.fetchval(f"SELECT $1::{array}", values) == values, array


async def cursors(conn):
    await conn.executemany("INSERT INTO a_types (id, h) VALUES ($1, $2)", [(n, str(n)) for n in range(2, 101)])
    async with conn.transaction():
        found = [row["id"] async for row in conn.cursor("SELECT id FROM a_types ORDER BY id", prefetch=7)]
        assert found == list(range(1, 101))
        cursor = await conn.cursor("SELECT id FROM a_types WHERE id > $1 ORDER BY id", 50)
        assert [row["id"] for row in await cursor.fetch(3)] == [51, 52, 53]
        assert (await cursor.fetchrow())["id"] == 54


async def copy(conn):
    records = [(1000 + n, *ROW) for n in range(500)] + [(2000, *[None] * len(ROW))]
    assert await conn.copy_records_to_table("a_types", records=records) == "COPY 501"
    found = await conn.fetch("SELECT * FROM a_types WHERE id >= 1000 ORDER BY id")
    assert [tuple(row) for row in found] == records
    out = io.BytesIO()
    assert await conn.copy_from_query("SELECT id, h FROM a_types WHERE id <= $1 ORDER BY id", 2, output=out, format="csv") == "COPY 2"
    assert out.getvalue() == "1,日本\n2,2\n".encode(), out.getvalue()
    assert await conn.copy_to_table("a_types", source=io.BytesIO(b"3000,x\n"), columns=["id", "h"], format="csv") == "COPY 1"
    clash = conn.copy_to_table("a_types", source=io.BytesIO(b"3001\n3000\n"), columns=["id"])
    await fails(asyncpg.UniqueViolationError, clash)
    assert await conn.fetchval("SELECT count(*) FROM a_types WHERE id = 3001") == 0


async def transactions(conn):
    async with conn.transaction():
        await conn.execute("UPDATE a_types SET c = 0 WHERE id = 1")
        try:
            async with conn.transaction():
                await conn.execute("UPDATE a_types SET c = 9 WHERE id = 1")
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
    assert await conn.fetchval("SELECT c FROM a_types WHERE id = 1") == 0
    for error, sql in [
        (asyncpg.UndefinedTableError, "SELECT * FROM nowhere"),
        (asyncpg.PostgresSyntaxError, "SELEKT"),
        (asyncpg.DivisionByZeroError, "SELECT 1 / 0"),
        (asyncpg.NotNullViolationError, "INSERT INTO a_types (h) VALUES ('x')"),
    ]:
        await fails(error, conn.fetch(sql))


async def cancelling(conn):
    endless = "SELECT count(*) FROM pg_attribute a, pg_attribute b, pg_attribute c, pg_attribute d"
    await fails(asyncio.TimeoutError, conn.fetch(endless, timeout=0.3))
    assert await conn.fetchval("SELECT 1") == 1


async def pool(_):
    async with asyncpg.create_pool(**CONNECT, min_size=2, max_size=2, server_settings={"application_name": "pool"}) as pool:
        async def one(n):
            async with pool.acquire() as conn:
                await conn.execute("SET statement_timeout = '1 min'")
                return await conn.fetchval("SELECT $1::int", n)

        assert await asyncio.gather(*[one(n) for n in range(10)]) == list(range(10))
        async with pool.acquire() as conn:  # released ones are reset
            assert await conn.fetchval("SHOW statement_timeout") == "0"
            assert await conn.fetchval("SELECT current_setting('application_name')") == "pool"


async def main():
    conn = await asyncpg.connect(**CONNECT)
    for check in (types, cursors, copy, transactions, cancelling, pool):
        await check(conn)
        print(check.__name__)
    await conn.close()


asyncio.run(main())

// pgjdbc against a server on the port given: what a program does with it, asserted.

import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

public class WithJdbc {
    static void same(Object found, Object expected) {
        if (!Objects.deepEquals(found, expected)) {
            throw new AssertionError("found " + found + " instead of " + expected);
        }
    }

    interface Act {
        void run() throws Exception;
    }

    static SQLException fails(String state, Act act) throws Exception {
        try {
            act.run();
        } catch (SQLException error) {
            same(error.getSQLState(), state);
            return error;
        }
        throw new AssertionError("an error " + state + " was expected");
    }

    static List<String> column(ResultSet rows, String name) throws SQLException {
        List<String> found = new ArrayList<>();
        while (rows.next()) {
            found.add(rows.getString(name));
        }
        return found;
    }

    static void types(Connection connection) throws Exception {
        connection.createStatement().execute("CREATE TABLE j_types (id int PRIMARY KEY, a boolean, b smallint, d bigint, e real, "
            + "f double precision, g numeric(12,4), h text, i varchar(5) NOT NULL, j bytea, k date, l timestamp, m timestamptz)");
        OffsetDateTime moment = OffsetDateTime.parse("2024-02-29T12:34:56.789012Z");
        PreparedStatement insert = connection.prepareStatement("INSERT INTO j_types VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
        for (int id = 1; id <= 8; id++) { // from the fifth on by name
            Object[] values = {id, true, (short) -2, Long.MIN_VALUE, 1.5f, -2.5e300, new BigDecimal("-12345.6780"), "straße", "abc",
                new byte[] {0, -1}, LocalDate.of(1999, 12, 31), LocalDateTime.of(2024, 2, 29, 1, 2, 3, 4000), moment};
            for (int n = 0; n < values.length; n++) {
                insert.setObject(n + 1, values[n]);
            }
            same(insert.executeUpdate(), 1);
        }
        PreparedStatement select = connection.prepareStatement("SELECT * FROM j_types WHERE id = ?");
        for (int id = 1; id <= 8; id++) { // from the fifth on in binary
            select.setInt(1, id);
            ResultSet row = select.executeQuery();
            row.next();
            same(row.getBoolean("a"), true);
            same(row.getShort("b"), (short) -2);
            same(row.getLong("d"), Long.MIN_VALUE);
            same(row.getFloat("e"), 1.5f);
            same(row.getDouble("f"), -2.5e300);
            same(row.getBigDecimal("g"), new BigDecimal("-12345.6780"));
            same(row.getString("h"), "straße");
            same(row.getBytes("j"), new byte[] {0, -1});
            same(row.getObject("k", LocalDate.class), LocalDate.of(1999, 12, 31));
            same(row.getObject("l", LocalDateTime.class), LocalDateTime.of(2024, 2, 29, 1, 2, 3, 4000));
            same(row.getObject("m", OffsetDateTime.class).toInstant(), moment.toInstant());
        }
        same(select.getMetaData().getColumnType(7), Types.NUMERIC);
        same(select.getParameterMetaData().getParameterType(1), Types.INTEGER);
    }

    static void metadata(Connection connection) throws Exception {
        connection.createStatement().execute("CREATE MATERIALIZED VIEW j_view AS SELECT i, count(*) AS n FROM j_types GROUP BY i");
        DatabaseMetaData meta = connection.getMetaData();
        same(meta.getDatabaseProductVersion(), "13.14");
        same(column(meta.getTables(null, "public", "j\\_types", new String[] {"TABLE"}), "TABLE_NAME"), List.of("j_types"));
        same(column(meta.getTables(null, null, "j\\_view", new String[] {"MATERIALIZED VIEW"}), "TABLE_NAME"), List.of("j_view"));
        same(column(meta.getColumns(null, "public", "j_view", "%"), "COLUMN_NAME"), List.of("i", "n"));
        same(column(meta.getColumns(null, "public", "j_types", "g"), "TYPE_NAME"), List.of("numeric"));
        same(column(meta.getPrimaryKeys(null, "public", "j_types"), "COLUMN_NAME"), List.of("id"));
        same(column(meta.getIndexInfo(null, "public", "j_types", true, false), "COLUMN_NAME"), List.of("id"));
        same(column(meta.getImportedKeys(null, "public", "j_types"), "FK_NAME"), List.of());
        same(column(meta.getSchemas(), "TABLE_SCHEM").contains("public"), true);
        same(column(meta.getTypeInfo(), "TYPE_NAME").contains("numeric"), true);
        meta.getSQLKeywords();
        meta.getFunctions(null, null, "%").next();
    }

    static void cursors(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        Statement statement = connection.createStatement();
        statement.setFetchSize(3);
        List<String> expected = List.of("1", "2", "3", "4", "5", "6", "7", "8");
        same(column(statement.executeQuery("SELECT id FROM j_types ORDER BY id"), "id"), expected);
        connection.commit();
        connection.setAutoCommit(true);
    }

    static void copying(Connection connection) throws Exception {
        CopyManager copy = connection.unwrap(PGConnection.class).getCopyAPI();
        String data = "100,x,a\n101,,\"b,c\"\n";
        same(copy.copyIn("COPY j_types (id, h, i) FROM STDIN (FORMAT csv)", new StringReader(data)), 2L);
        StringWriter out = new StringWriter();
        same(copy.copyOut("COPY (SELECT id, h, i FROM j_types WHERE id >= 100 ORDER BY id) TO STDOUT (FORMAT csv)", out), 2L);
        same(out.toString(), data);
        fails("22P04", () -> copy.copyIn("COPY j_types (id, i) FROM STDIN", new StringReader("200\n")));
    }

    static void transactions(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        Statement statement = connection.createStatement();
        statement.executeUpdate("UPDATE j_types SET h = 'one' WHERE id = 1");
        Savepoint savepoint = connection.setSavepoint();
        fails("23505", () -> statement.executeUpdate("INSERT INTO j_types (id, i) VALUES (1, 'x')"));
        fails("25P02", () -> statement.executeQuery("SELECT 1"));
        connection.rollback(savepoint);
        connection.commit();
        connection.setAutoCommit(true);
        ResultSet row = statement.executeQuery("SELECT h FROM j_types WHERE id = 1");
        row.next();
        same(row.getString(1), "one");
        PreparedStatement batch = connection.prepareStatement("INSERT INTO j_types (id, i) VALUES (?, ?)", Statement.RETURN_GENERATED_KEYS);
        for (int id = 300; id < 303; id++) {
            batch.setInt(1, id);
            batch.setString(2, "x");
            batch.addBatch();
        }
        same(Arrays.stream(batch.executeBatch()).sum(), 3);
        same(column(batch.getGeneratedKeys(), "id"), List.of("300", "301", "302"));
        connection.setReadOnly(true);
        connection.setAutoCommit(false);
        fails("25006", () -> statement.executeUpdate("DELETE FROM j_types"));
        connection.rollback();
        connection.setAutoCommit(true);
        connection.setReadOnly(false);
        same(connection.getTransactionIsolation(), Connection.TRANSACTION_READ_COMMITTED);
        same(connection.getSchema(), "public");
    }

    static void failures(Connection connection) throws Exception {
        Statement statement = connection.createStatement();
        fails("42P01", () -> statement.executeQuery("SELECT * FROM nowhere"));
        fails("42601", () -> statement.executeQuery("SELEKT"));
        fails("22012", () -> statement.executeQuery("SELECT 1 / 0"));
        fails("23502", () -> statement.executeUpdate("INSERT INTO j_types (id) VALUES (400)"));
        String endless = "SELECT count(*) FROM pg_attribute a, pg_attribute b, pg_attribute c, pg_attribute d";
        statement.setQueryTimeout(1);
        fails("57014", () -> statement.executeQuery(endless));
        statement.setQueryTimeout(0);
        statement.executeQuery("SELECT 1").next();
    }

    interface Check {
        void run(Connection connection) throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:postgresql://127.0.0.1:" + arguments[0] + "/millstream?user=ann&ApplicationName=test";
        Check[] checks = {WithJdbc::types, WithJdbc::metadata, WithJdbc::cursors, WithJdbc::copying, WithJdbc::transactions, WithJdbc::failures};
        for (String mode : new String[] {"extended", "simple"}) {
            try (Connection connection = DriverManager.getConnection(url + "&preferQueryMode=" + mode)) {
                for (Check check : mode.equals("simple") ? new Check[] {WithJdbc::transactions, WithJdbc::failures} : checks) {
                    check.run(connection);
                }
                connection.createStatement().executeUpdate("DELETE FROM j_types WHERE id >= 300");
            }
            System.out.println(mode);
        }
    }
}

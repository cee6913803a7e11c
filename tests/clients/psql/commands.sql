\pset pager off
CREATE TABLE orders (id bigint PRIMARY KEY, customer varchar(20) NOT NULL, price numeric(10,2) DEFAULT 1, at timestamptz);
CREATE VIEW cheap AS SELECT id, customer FROM orders WHERE price < 10;
CREATE MATERIALIZED VIEW per_customer AS SELECT customer, count(*) AS n FROM orders GROUP BY customer;
\d orders
\d+ orders
\d cheap
\d per_customer
\dv
\dm
\dn
\l
\du
\copy orders (id, customer, price) from stdin with (format csv)
1,ada,5
2,bob,20
3,ada,30
\.
\copy (SELECT id, customer FROM orders ORDER BY id) to stdout
\set FETCH_COUNT 2
SELECT id, price FROM orders ORDER BY id;
SELECT id, customer FROM orders WHERE id = 1 \gdesc
SHOW TABLES;
SHOW MATERIALIZED VIEWS LIKE 'per%';
DESCRIBE per_customer;

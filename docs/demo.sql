-- An auction house that never closes: people, auctions and bids, made up at 1,000 events a second (Nexmark).

CREATE SOURCE IF NOT EXISTS person (
  WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'
) WITH (connector = 'generator', generator = 'nexmark', nexmark.table = 'person', rate = '1000', event_rate = '1000');

CREATE SOURCE IF NOT EXISTS auction (
  WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'
) WITH (connector = 'generator', generator = 'nexmark', nexmark.table = 'auction', rate = '1000', event_rate = '1000');

CREATE SOURCE IF NOT EXISTS bid (
  WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'
) WITH (connector = 'generator', generator = 'nexmark', nexmark.table = 'bid', rate = '1000', event_rate = '1000');

-- A filter: the bids of more than 990,000 dollars.
CREATE MATERIALIZED VIEW IF NOT EXISTS large_bids AS
  SELECT auction, bidder, price, date_time FROM bid WHERE price > 99000000;

-- An aggregate: what has been offered in each category so far.
CREATE MATERIALIZED VIEW IF NOT EXISTS categories AS
  SELECT category, count(*) AS auctions, avg(initial_bid) AS avg_initial_bid, max(reserve) AS max_reserve
  FROM auction
  GROUP BY category;

-- A window: bids and their highest price, by minute of event time.
CREATE MATERIALIZED VIEW IF NOT EXISTS bids_per_minute AS
  SELECT window_start, count(*) AS bids, max(price) AS highest, count(DISTINCT bidder) AS bidders
  FROM TUMBLE(bid, date_time, INTERVAL '1 minute')
  GROUP BY window_start, window_end;

-- A join, and a view over the views: who sells in the western states, and how much.
CREATE MATERIALIZED VIEW IF NOT EXISTS western_sellers AS
  SELECT p.id, p.name, p.city, p.state, count(*) AS auctions
  FROM person p JOIN auction a ON a.seller = p.id
  WHERE p.state IN ('or', 'id', 'ca')
  GROUP BY p.id, p.name, p.city, p.state;

CREATE MATERIALIZED VIEW IF NOT EXISTS sellers_by_state AS
  SELECT state, count(*) AS sellers, sum(auctions) AS auctions FROM western_sellers GROUP BY state;

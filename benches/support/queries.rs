//! The queries of Nexmark that are measured, and what Flink 2.3 reaches on this class of machine.

/// A query.
pub struct Query {
    pub name: &'static str,
    pub sql: &'static str,
    /// Flink's figures from its in-process generator: thousands of events per second, wall and per CPU-second.
    pub flink_generator: Option<(u32, u32)>,
    /// The same from JSON files, one for each kind of event.
    pub flink_files: Option<(u32, u32)>,
}

impl Query {
    /// Whether it keeps no state: it is measured into a sink as well, as Flink does.
    pub fn is_stateless(&self) -> bool {
        ["q0", "q1", "q2"].contains(&self.name)
    }
}

pub const QUERIES: &[Query] = &[
    Query {
        name: "q0",
        sql: "SELECT auction, bidder, price, date_time, extra FROM bid",
        flink_generator: Some((1503, 776)),
        flink_files: Some((1034, 566)),
    },
    Query {
        name: "q1",
        sql: "SELECT auction, bidder, 0.908 * price AS price, date_time, extra FROM bid",
        flink_generator: Some((1452, 767)),
        flink_files: Some((1067, 557)),
    },
    Query {
        name: "q2",
        sql: "SELECT auction, price FROM bid WHERE auction % 123 = 0",
        flink_generator: Some((1624, 812)),
        flink_files: Some((1365, 644)),
    },
    Query {
        name: "q3",
        sql: "SELECT p.name, p.city, p.state, a.id FROM auction a JOIN person p ON a.seller = p.id
              WHERE a.category = 10 AND p.state IN ('or', 'id', 'ca')",
        flink_generator: Some((886, 539)),
        flink_files: Some((3100, 1463)),
    },
    Query {
        name: "q4",
        sql: "SELECT category, avg(final) AS average FROM (
                SELECT a.id, a.category, max(b.price) AS final FROM auction a JOIN bid b ON a.id = b.auction
                WHERE b.date_time BETWEEN a.date_time AND a.expires GROUP BY a.id, a.category) AS q
              GROUP BY category",
        flink_generator: Some((216, 118)),
        flink_files: Some((169, 89)),
    },
    Query {
        name: "q7",
        sql: "SELECT b.auction, b.price, b.bidder, b.date_time, b.extra FROM bid b JOIN (
                SELECT max(price) AS price, window_end FROM TUMBLE(bid, date_time, INTERVAL '10 seconds')
                GROUP BY window_start, window_end) AS m ON b.price = m.price
              WHERE b.date_time BETWEEN m.window_end - INTERVAL '10 seconds' AND m.window_end",
        flink_generator: Some((127, 69)),
        flink_files: Some((107, 55)),
    },
    Query {
        name: "q8",
        sql: "SELECT p.id, p.name, p.window_start FROM
                (SELECT id, name, window_start, window_end FROM TUMBLE(person, date_time, INTERVAL '10 seconds')
                 GROUP BY id, name, window_start, window_end) AS p
              JOIN (SELECT seller, window_start, window_end FROM TUMBLE(auction, date_time, INTERVAL '10 seconds')
                    GROUP BY seller, window_start, window_end) AS a
              ON p.id = a.seller AND p.window_start = a.window_start AND p.window_end = a.window_end",
        flink_generator: Some((855, 461)),
        flink_files: Some((1463, 794)),
    },
    Query {
        name: "q15",
        sql: "SELECT to_char(date_time, 'YYYY-MM-DD') AS day, count(*) AS bids,
                count(*) FILTER (WHERE price < 10000) AS bids_1,
                count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS bids_2,
                count(*) FILTER (WHERE price >= 1000000) AS bids_3,
                count(DISTINCT bidder) AS bidders,
                count(DISTINCT bidder) FILTER (WHERE price < 10000) AS bidders_1,
                count(DISTINCT bidder) FILTER (WHERE price >= 10000 AND price < 1000000) AS bidders_2,
                count(DISTINCT bidder) FILTER (WHERE price >= 1000000) AS bidders_3,
                count(DISTINCT auction) AS auctions,
                count(DISTINCT auction) FILTER (WHERE price < 10000) AS auctions_1,
                count(DISTINCT auction) FILTER (WHERE price >= 10000 AND price < 1000000) AS auctions_2,
                count(DISTINCT auction) FILTER (WHERE price >= 1000000) AS auctions_3
              FROM bid GROUP BY to_char(date_time, 'YYYY-MM-DD')",
        flink_generator: Some((298, 182)),
        flink_files: Some((339, 170)),
    },
    Query {
        name: "q16",
        sql: "SELECT channel, to_char(date_time, 'YYYY-MM-DD') AS day, max(to_char(date_time, 'HH24:MI')) AS minute,
                count(*) AS bids,
                count(*) FILTER (WHERE price < 10000) AS bids_1,
                count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS bids_2,
                count(*) FILTER (WHERE price >= 1000000) AS bids_3,
                count(DISTINCT bidder) AS bidders,
                count(DISTINCT bidder) FILTER (WHERE price < 10000) AS bidders_1,
                count(DISTINCT bidder) FILTER (WHERE price >= 10000 AND price < 1000000) AS bidders_2,
                count(DISTINCT bidder) FILTER (WHERE price >= 1000000) AS bidders_3,
                count(DISTINCT auction) AS auctions,
                count(DISTINCT auction) FILTER (WHERE price < 10000) AS auctions_1,
                count(DISTINCT auction) FILTER (WHERE price >= 10000 AND price < 1000000) AS auctions_2,
                count(DISTINCT auction) FILTER (WHERE price >= 1000000) AS auctions_3
              FROM bid GROUP BY channel, to_char(date_time, 'YYYY-MM-DD')",
        flink_generator: Some((74, 41)),
        flink_files: Some((68, 35)),
    },
    Query {
        name: "q17",
        sql: "SELECT auction, to_char(date_time, 'YYYY-MM-DD') AS day, count(*) AS bids,
                count(*) FILTER (WHERE price < 10000) AS bids_1,
                count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS bids_2,
                count(*) FILTER (WHERE price >= 1000000) AS bids_3,
                min(price) AS least, max(price) AS most, avg(price) AS average, sum(price) AS total
              FROM bid GROUP BY auction, to_char(date_time, 'YYYY-MM-DD')",
        flink_generator: Some((816, 404)),
        flink_files: Some((683, 368)),
    },
    Query {
        name: "q20",
        sql: "SELECT b.auction, b.bidder, b.price, b.channel, b.url, b.date_time, b.extra, a.item_name, a.description,
                a.initial_bid, a.reserve, a.date_time AS begun, a.expires, a.seller, a.category, a.extra AS auction_extra
              FROM bid b JOIN auction a ON b.auction = a.id WHERE a.category = 10",
        flink_generator: Some((127, 82)),
        flink_files: Some((97, 57)),
    },
];

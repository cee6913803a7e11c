//! The events of Nexmark as files of JSON lines, one for each kind.

use std::fs::File;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;

use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::Event;
use serde_json::json;

/// So many microseconds lie between two events.
const EVENT_MICROS: i64 = 100;

/// 2015-07-15 00:00:00.
const BEGIN_MICROS: i64 = 1_436_918_400_000_000;

/// The columns of a kind of event, as SQL declares them.
pub fn columns(kind: &str) -> &'static str {
    match kind {
        "person" => {
            "id BIGINT, name TEXT, email_address TEXT, credit_card TEXT, city TEXT, state TEXT, date_time TIMESTAMP, \
             extra TEXT, WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'"
        }
        "auction" => {
            "id BIGINT, item_name TEXT, description TEXT, initial_bid BIGINT, reserve BIGINT, date_time TIMESTAMP, \
             expires TIMESTAMP, seller BIGINT, category BIGINT, extra TEXT, \
             WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'"
        }
        _ => {
            "auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, date_time TIMESTAMP, extra TEXT, \
             WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'"
        }
    }
}

/// Writes `person.jsonl`, `auction.jsonl` and `bid.jsonl` with so many events together, unless they are there.
pub fn write_files(directory: &Path, events: u64) -> std::io::Result<()> {
    let done = directory.join("done");
    if done.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(directory)?;
    let open = |kind: &str| File::create(directory.join(format!("{kind}.jsonl"))).map(BufWriter::new);
    let (mut people, mut auctions, mut bids) = (open("person")?, open("auction")?, open("bid")?);
    let generator = EventGenerator::new(NexmarkConfig::default());
    for (number, event) in (0..events as i64).zip(generator) {
        let at = time(BEGIN_MICROS + number * EVENT_MICROS);
        let (file, line) = match event {
            Event::Person(p) => (
                &mut people,
                json!({ "id": p.id, "name": p.name, "email_address": p.email_address, "credit_card": p.credit_card,
                    "city": p.city, "state": p.state, "date_time": at, "extra": p.extra }),
            ),
            Event::Auction(a) => {
                let runs = 1000 * (a.expires as i64 - a.date_time as i64);
                let expires = time(BEGIN_MICROS + number * EVENT_MICROS + runs);
                (
                    &mut auctions,
                    json!({ "id": a.id, "item_name": a.item_name, "description": a.description,
                        "initial_bid": a.initial_bid, "reserve": a.reserve, "date_time": at, "expires": expires,
                        "seller": a.seller, "category": a.category, "extra": a.extra }),
                )
            }
            Event::Bid(b) => (
                &mut bids,
                json!({ "auction": b.auction, "bidder": b.bidder, "price": b.price, "channel": b.channel, "url": b.url,
                    "date_time": at, "extra": b.extra }),
            ),
        };
        writeln!(file, "{line}")?;
    }
    for mut file in [people, auctions, bids] {
        file.flush()?;
    }
    File::create(done).map(drop)
}

/// A timestamp as Postgres writes it.
fn time(micros: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(micros).expect("a time of this century");
    time.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

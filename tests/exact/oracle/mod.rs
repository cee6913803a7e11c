//! The oracle: for random views and random histories, after every step, what a view holds is what its query answers over the
//! tables as they are: asked of our server, and of a real PostgreSQL that was told the same.
//!
//! A run without further word goes through the same worlds every time. `ORACLE_SEED=n` replays a world, `ORACLE_SEED=random` goes
//! through one that nobody has seen; `ORACLE_RUNS=n` does so with so many. A world that fails leaves its statements in a file. To
//! hunt in the background, at the lowest priority:
//!
//! ```text
//! ORACLE_SEED=random ORACLE_RUNS=1000 nice -n 10 cargo test --test exact oracle -- --nocapture
//! ```

use std::fmt::Write;
use std::io::Write as _;

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tempfile::TempDir;
use tokio_postgres::Client;
use tokio_postgres::NoTls;
use tokio_postgres::SimpleQueryMessage;

use self::history::Step;
use self::query::Writer;
use self::schema::Relation;
use self::schema::Table;
use crate::support::Server;
use crate::support::postgres::Postgres;
use crate::support::rows;
use crate::support::text_of;

mod history;
mod query;
mod schema;

/// The worlds that every run goes through, so that none fails by luck. Where a hunt found a defect, its seed belongs here
/// until the defect has a test of its own.
const SEEDS: &[u64] = &[1, 2, 3, 4, 5];

/// How many steps a world's history has.
const STEPS: usize = 30;

/// How many views a world has before its data, while it changes, and after.
const VIEWS: usize = 3;

/// A view as both sides know it.
struct View {
    relation: Relation,
    sql: String,
}

/// One run: the server, the judge, and what both were told.
struct World {
    random: StdRng,
    server: Server,
    _directory: TempDir,
    client: Client,
    judge: Client,
    tables: Vec<Table>,
    views: Vec<View>,
    /// How often arithmetic may fail.
    fallible: f64,
    /// Every statement so far.
    script: String,
    outcome: Outcome,
}

/// What a world amounted to.
#[derive(Debug, Default)]
struct Outcome {
    /// Comparisons of a view with its query on both sides.
    compared: usize,
    /// Those among them with rows.
    filled: usize,
    /// Comparisons that PostgreSQL could not make, since the query fails.
    failing: usize,
    /// Queries that the server does not maintain.
    refused: usize,
}

#[test]
fn views_equal_their_queries() {
    let postgres = Postgres::start();
    let runtime = crate::runtime();
    let seeds = seeds();
    // Past the capture of what passing tests print.
    writeln!(std::io::stderr(), "oracle: worlds {seeds:?}").expect("the terminal takes it");
    let mut failures = Vec::new();
    for seed in seeds {
        match runtime.block_on(run(seed, &postgres)) {
            Ok(outcome) => println!("ORACLE_SEED={seed}: {outcome:?}"),
            Err(failure) => {
                println!("ORACLE_SEED={seed} fails: {failure}");
                failures.push(format!("ORACLE_SEED={seed}: {failure}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} worlds fail:\n{}", failures.len(), failures.join("\n"));
}

/// The worlds that the environment asks for.
fn seeds() -> Vec<u64> {
    let runs = crate::from_environment("ORACLE_RUNS");
    match std::env::var("ORACLE_SEED").as_deref() {
        Err(_) if runs.is_none() => SEEDS.to_vec(),
        Err(_) | Ok("random") => (0..runs.unwrap_or(1)).map(|_| rand::random_range(0..1_000_000)).collect(),
        Ok(seed) => {
            let seed = seed.parse().unwrap_or_else(|_| panic!("ORACLE_SEED is neither a number nor random: {seed}"));
            (seed..seed + runs.unwrap_or(1)).collect()
        }
    }
}

/// One world from its seed.
async fn run(seed: u64, postgres: &Postgres) -> Result<Outcome, String> {
    let mut world = World::new(seed, postgres).await;
    match world.live().await {
        Ok(()) => Ok(world.outcome),
        Err(failure) => {
            let path = std::env::temp_dir().join(format!("millstream-oracle-{seed}.sql"));
            std::fs::write(&path, &world.script).expect("the script can be written");
            Err(format!("{failure}\n(statements in {})", path.display()))
        }
    }
}

async fn judge(postgres: &Postgres) -> Client {
    let config = format!("host=127.0.0.1 port={} user=millstream dbname=millstream", postgres.port);
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.expect("the judge is there");
    tokio::spawn(connection);
    let fresh = "SET client_min_messages = error; DROP SCHEMA public CASCADE; CREATE SCHEMA public";
    client.batch_execute(fresh).await.expect("the judge starts afresh");
    client
}

impl World {
    async fn new(seed: u64, postgres: &Postgres) -> World {
        let mut random = StdRng::seed_from_u64(seed);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let workers = random.random_range(1..=3).to_string();
        let mut arguments = vec!["--workers", &workers];
        if random.random_bool(0.3) {
            arguments.extend(["--memory-limit", "16MB"]);
        }
        let server = Server::start(directory.path(), &arguments);
        let client = server.connect().await;
        let judge = judge(postgres).await;
        let count = random.random_range(2..=3);
        let tables = (0..count).map(|number| Table::random(&mut random, number)).collect();
        let fallible = if random.random_bool(0.3) { 0.2 } else { 0.005 };
        let (script, outcome) = (format!("-- {arguments:?}\n"), Outcome::default());
        World {
            random,
            server,
            _directory: directory,
            client,
            judge,
            tables,
            views: Vec::new(),
            fallible,
            script,
            outcome,
        }
    }

    /// The whole history, with views created before, in between and after.
    async fn live(&mut self) -> Result<(), String> {
        for table in self.tables.clone() {
            self.both(&table.create()).await?;
        }
        for _ in 0..VIEWS {
            self.create_view().await?;
        }
        for table in [self.tables.clone(), self.tables.clone()].concat() {
            let insert = history::insert(&mut self.random, &table);
            self.both(&insert).await?;
        }
        for step in 0..STEPS {
            if step % (STEPS / VIEWS) == STEPS / VIEWS / 2 {
                self.create_view().await?;
            }
            match history::step(&mut self.random, &self.tables) {
                Step::Statement(statement) => self.both(&statement).await?,
                Step::Transaction { statements, commit } => self.transaction(&statements, commit).await?,
                Step::Restart => {
                    writeln!(self.script, "-- restart").expect("a string takes it");
                    self.server.restart();
                    self.client = self.server.connect().await;
                }
            }
            self.compare().await?;
        }
        for _ in 0..VIEWS {
            self.create_view().await?;
        }
        self.compare().await
    }

    /// Executes a statement on both sides, which must agree on its outcome.
    async fn both(&mut self, sql: &str) -> Result<(), String> {
        writeln!(self.script, "{sql};").expect("a string takes it");
        let (ours, theirs) = (affected(&self.client, sql).await, affected(&self.judge, sql).await);
        // Messages may differ where SQLSTATEs do not; which of several broken constraints is told is left open.
        let state = |error: &str| match &error[..5] {
            "21000" | "23502" | "23505" => "constraint".to_string(),
            state => state.to_string(),
        };
        let agree = match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => ours == theirs,
            (Err(ours), Err(theirs)) => state(ours) == state(theirs),
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
        };
        if agree {
            return Ok(());
        }
        Err(format!("{sql}\n  answers {ours:?}, in PostgreSQL {theirs:?}"))
    }

    async fn transaction(&mut self, statements: &[String], commit: bool) -> Result<(), String> {
        self.both("BEGIN").await?;
        for statement in statements {
            self.both(statement).await?;
            for table in self.tables.clone() {
                let read = format!("SELECT * FROM {}", table.relation.name);
                let (ours, theirs) = (sorted(&self.client, &read).await, sorted(&self.judge, &read).await);
                if ours != theirs {
                    return Err(format!("inside a transaction {read}\n{}", difference(&ours, &theirs)));
                }
            }
        }
        self.both(if commit { "COMMIT" } else { "ROLLBACK" }).await
    }

    /// A random view, over tables and other views; one that is not supported is counted and left out.
    async fn create_view(&mut self) -> Result<(), String> {
        let mut relations = self.tables.iter().map(|table| table.relation.clone()).collect::<Vec<_>>();
        relations.extend(self.views.iter().map(|view| view.relation.clone()));
        for _ in 0..5 {
            let query = Writer::new(&mut self.random, &relations, self.fallible).query();
            let name = format!("v{}", self.views.len());
            let create = format!("VIEW {name} AS {}", query.sql);
            if let Err(error) = self.judge.batch_execute(&format!("CREATE {create}")).await {
                println!("not a query: {}: {error:?}", query.sql);
                continue;
            }
            let ours = affected(&self.client, &format!("CREATE MATERIALIZED {create}")).await;
            match ours {
                Ok(_) => {
                    writeln!(self.script, "CREATE MATERIALIZED {create};").expect("a string takes it");
                    self.views.push(View { relation: Relation { name, columns: query.columns }, sql: query.sql });
                    return self.compare_view(self.views.len() - 1).await;
                }
                // A constant that fails does so here already when the view is created.
                Err(error) if error.starts_with("0A000") || error.starts_with("22") => {
                    println!("refused: {error}: {}", query.sql);
                    self.outcome.refused += 1;
                    self.judge.batch_execute(&format!("DROP VIEW {name}")).await.expect("it was created");
                }
                Err(error) => return Err(format!("CREATE MATERIALIZED {create}\n  fails: {error}")),
            }
        }
        Ok(())
    }

    async fn compare(&mut self) -> Result<(), String> {
        for view in 0..self.views.len() {
            self.compare_view(view).await?;
        }
        Ok(())
    }

    /// The view, its query, and PostgreSQL's answer must be one. Where the query fails there, because of a row, our view
    /// leaves that row out, and there is nothing to compare, save that our own answers agree.
    async fn compare_view(&mut self, view: usize) -> Result<(), String> {
        let View { relation, sql } = &self.views[view];
        let read = format!("SELECT * FROM {}", relation.name);
        let (view, batch) = (sorted(&self.client, &read).await, sorted(&self.client, sql).await);
        let judged = sorted(&self.judge, &read).await;
        let wrong = match &judged {
            Ok(_) => view != judged || batch != judged,
            Err(_) => batch.is_ok() && view != batch,
        };
        if wrong {
            return Err(format!(
                "{}: {sql}\n view against PostgreSQL:\n{} batch against PostgreSQL:\n{}",
                relation.name,
                difference(&view, &judged),
                difference(&batch, &judged),
            ));
        }
        match judged {
            Ok(rows) => {
                self.outcome.compared += 1;
                self.outcome.filled += !rows.is_empty() as usize;
            }
            Err(_) => self.outcome.failing += 1,
        }
        Ok(())
    }
}

/// SQLSTATE and message.
fn failure(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{}: {}", db.code().code(), db.message()),
        None => error.to_string(),
    }
}

/// How many rows a statement changed and which it returned, or why it failed.
async fn affected(client: &Client, sql: &str) -> Result<(u64, Vec<String>), String> {
    let messages = client.simple_query(sql).await.map_err(|error| failure(&error))?;
    let mut count = 0;
    let mut rows = Vec::new();
    for message in messages {
        match message {
            SimpleQueryMessage::CommandComplete(changed) => count += changed,
            SimpleQueryMessage::Row(row) => rows.push(text_of(&row)),
            _ => {}
        }
    }
    rows.sort();
    Ok((count, rows))
}

/// The sorted rows of a query.
async fn sorted(client: &Client, sql: &str) -> Result<Vec<String>, String> {
    let mut rows = rows(client, sql).await.map_err(|error| failure(&error))?;
    rows.sort();
    Ok(rows)
}

/// What one side has more often than the other.
fn difference(ours: &Result<Vec<String>, String>, theirs: &Result<Vec<String>, String>) -> String {
    let (Ok(ours), Ok(theirs)) = (ours, theirs) else {
        return format!("  {ours:?}\n  {theirs:?}\n");
    };
    let (mut o, mut t) = (ours.iter().peekable(), theirs.iter().peekable());
    let mut text = String::new();
    loop {
        let (mark, row) = match (o.peek(), t.peek()) {
            (None, None) => return if text.is_empty() { "  (equal)\n".to_string() } else { text },
            (Some(left), Some(right)) if left == right => {
                o.next();
                t.next();
                continue;
            }
            (Some(left), right) if right.is_none_or(|right| left < right) => ('+', o.next()),
            _ => ('-', t.next()),
        };
        writeln!(text, "  {mark} {}", row.expect("peeked")).expect("a string takes it");
    }
}

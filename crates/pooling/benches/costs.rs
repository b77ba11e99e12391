//! cargo bench -p pooling --bench costs
//!
//! What it costs to take a connection and give it back, in microseconds: the table of the section's
//! page, as it stands there. The server is a real PostgreSQL on a Unix socket, started for this.
//!
//! *Alone*: one task, nothing else. *With a query*: the same, and a `SELECT 1` in between. *100
//! tasks*: as many share 8 connections, each with its query; the time for all, divided by their
//! number. All rows take turns within a short round; a figure is the median of 150 rounds.
//!
//! The last two lines are what a recipe adds to the crate alone: the median of the ratios within a
//! round, where the two stood next to each other and took turns to go first.

use std::error::Error;
use std::future::Future;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bb8_postgres::PostgresConnectionManager;
use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod, Runtime};
use pooling::{bb8_pool, deadpool_pool};
use servers::Postgres;
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::{Client, Config, NoTls};

const SIZE: u16 = 8;
const TASKS: usize = 100;
/// Rows, each followed by its recipe.
const VERIFIED: usize = 2;
const CHECKED: usize = 6;
const LIMIT: Duration = Duration::from_secs(60);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

async fn ask(client: &Client) -> Result<()> {
    client.simple_query("SELECT 1").await?;
    Ok(())
}

/// Takes a connection, asks if it shall, and gives it back.
trait Way: Clone + Send + 'static {
    fn take(&self, and_ask: bool) -> impl Future<Output = Result<()>> + Send;
}

/// With a limit, since the server has one: a hundred at once are refused.
#[derive(Clone)]
struct NoPool(Config, Arc<Semaphore>);

impl Way for NoPool {
    async fn take(&self, and_ask: bool) -> Result<()> {
        let _permit = self.1.acquire().await?;
        let (client, connection) = self.0.connect(NoTls).await?;
        let connection = tokio::spawn(connection);
        if and_ask {
            ask(&client).await?;
        }
        drop(client);
        connection.await??;
        Ok(())
    }
}

#[derive(Clone)]
struct Deadpool(deadpool_postgres::Pool);

impl Way for Deadpool {
    async fn take(&self, and_ask: bool) -> Result<()> {
        let client = self.0.get().await?;
        if and_ask {
            ask(&client).await?;
        }
        Ok(())
    }
}

#[derive(Clone)]
struct DeadpoolRecipe(deadpool_postgres::Pool);

impl Way for DeadpoolRecipe {
    async fn take(&self, and_ask: bool) -> Result<()> {
        let client = deadpool_pool::get(&self.0).await?;
        if and_ask {
            ask(&client).await?;
        }
        Ok(())
    }
}

#[derive(Clone)]
struct Bb8(bb8::Pool<PostgresConnectionManager<NoTls>>);

impl Way for Bb8 {
    async fn take(&self, and_ask: bool) -> Result<()> {
        let client = self.0.get().await?;
        if and_ask {
            ask(&client).await?;
        }
        Ok(())
    }
}

#[derive(Clone)]
struct Bb8Recipe(bb8_pool::Database<NoTls>);

impl Way for Bb8Recipe {
    async fn take(&self, and_ask: bool) -> Result<()> {
        let client = self.0.get().await?;
        if and_ask {
            ask(&client).await?;
        }
        Ok(())
    }
}

/// Microseconds: alone, with a query, by many tasks.
type Sample = [f64; 3];
type Row = (
    &'static str,
    Box<dyn Fn(usize) -> Pin<Box<dyn Future<Output = Result<Sample>>>>>,
);

fn row(name: &'static str, way: impl Way, share: usize) -> Row {
    let measure = move |count: usize| {
        let (way, count) = (way.clone(), (count / share).max(1));
        Box::pin(measure(way, count)) as Pin<Box<dyn Future<Output = _>>>
    };
    (name, Box::new(measure))
}

async fn measure(way: impl Way, count: usize) -> Result<Sample> {
    let each = |started: Instant, count| started.elapsed().as_secs_f64() * 1e6 / count as f64;
    way.take(true).await?;
    let started = Instant::now();
    for _ in 0..count {
        way.take(false).await?;
    }
    let alone = each(started, count);
    let started = Instant::now();
    for _ in 0..count {
        way.take(true).await?;
    }
    let with_query = each(started, count);
    let rounds = (count / TASKS).max(1);
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let way = way.clone();
        tasks.spawn(async move {
            for _ in 0..rounds {
                way.take(true).await?;
            }
            Result::Ok(())
        });
    }
    for ended in tasks.join_all().await {
        ended?;
    }
    Ok([alone, with_query, each(started, TASKS * rounds)])
}

fn deadpool(config: &Config, recycling_method: RecyclingMethod) -> Result<Deadpool> {
    let manager = Manager::from_config(config.clone(), NoTls, ManagerConfig { recycling_method });
    // With the limits of the recipe, so that the rows differ by the recipe alone.
    let pool = deadpool_postgres::Pool::builder(manager)
        .max_size(SIZE.into())
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(LIMIT))
        .create_timeout(Some(LIMIT))
        .recycle_timeout(Some(LIMIT))
        .build()?;
    Ok(Deadpool(pool))
}

async fn bb8(config: &Config, check: bool) -> Result<Bb8> {
    let manager = PostgresConnectionManager::new(config.clone(), NoTls);
    let pool = bb8::Pool::builder()
        .max_size(SIZE.into())
        .test_on_check_out(check)
        .build(manager);
    Ok(Bb8(pool.await?))
}

async fn rows(config: &Config) -> Result<Vec<Row>> {
    let size = NonZeroU16::new(SIZE).ok_or("no size")?;
    let settings = deadpool_pool::Settings {
        application_name: "costs".to_owned(),
        size,
        wait: LIMIT,
        connect: LIMIT,
        create: LIMIT,
        recycle: LIMIT,
        lifetime: LIMIT * 60,
        statement: LIMIT,
    };
    let deadpool_recipe = deadpool_pool::pool(config.clone(), NoTls, &settings)?;
    let settings = bb8_pool::Settings {
        application_name: "costs".to_owned(),
        size,
        wait: LIMIT,
        connect: LIMIT,
        create: LIMIT,
        recycle: LIMIT,
        lifetime: LIMIT * 60,
        idle: LIMIT * 60,
        statement: LIMIT,
    };
    let bb8_recipe = bb8_pool::Database::new(config.clone(), NoTls, &settings);
    let fast = deadpool(config, RecyclingMethod::Fast)?;
    let verified = deadpool(config, RecyclingMethod::Verified)?;
    let clean = deadpool(config, RecyclingMethod::Clean)?;
    let limit = Arc::new(Semaphore::new(SIZE.into()));
    let no_pool = NoPool(config.clone(), limit);
    Ok(vec![
        row("no pool", no_pool, 20),
        row("deadpool, `Fast`", fast, 1),
        row("deadpool, `Verified`", verified, 1),
        row(
            "the same in [`deadpool_pool`]",
            DeadpoolRecipe(deadpool_recipe),
            1,
        ),
        row("deadpool, `Clean`", clean, 1),
        row("bb8, no check", bb8(config, false).await?, 1),
        row("bb8, with the check", bb8(config, true).await?, 1),
        row("the same in [`bb8_pool`]", Bb8Recipe(bb8_recipe), 1),
    ])
}

fn main() -> Result<()> {
    let trial = std::env::args().any(|argument| argument == "--test");
    let (rounds, count) = if trial { (1, 1) } else { (150, 100) };
    let server = Postgres::start()?;
    let mut config: Config = server.url().parse()?;
    // As the recipes do: the server sets a timer for each statement, which is not free.
    config.options(format!("-c statement_timeout={}", LIMIT.as_millis()));
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let rows = runtime.block_on(rows(&config))?;
    let mut samples = vec![[const { Vec::new() }; 3]; rows.len()];
    for round in 0..rounds {
        let mut turns: Vec<_> = rows.iter().zip(&mut samples).collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        for ((_, measure), samples) in turns {
            let sample = runtime.block_on(async { measure(count).await })?;
            for (samples, figure) in samples.iter_mut().zip(sample) {
                samples.push(figure);
            }
        }
    }
    println!("| Microseconds | alone | with a query | 100 tasks, 8 connections |");
    println!("| --- | ---: | ---: | ---: |");
    for ((name, _), samples) in rows.iter().zip(&samples) {
        let [alone, with_query, many] = samples.each_ref().map(|figures| median(figures.clone()));
        println!("| {name} | {alone:.1} | {with_query:.0} | {many:.0} |");
    }
    for (bare, recipe) in [(VERIFIED, VERIFIED + 1), (CHECKED, CHECKED + 1)] {
        let (Some((name, _)), Some(bare), Some(recipe)) =
            (rows.get(bare), samples.get(bare), samples.get(recipe))
        else {
            return Err("no such row".into());
        };
        let ratio = |(bare, recipe): (&Vec<f64>, &Vec<f64>)| {
            let pairs = bare.iter().zip(recipe);
            format!(
                "{:.3}",
                median(pairs.map(|(bare, recipe)| recipe / bare).collect())
            )
        };
        let ratios: Vec<_> = bare.iter().zip(recipe).map(ratio).collect();
        println!("| {name}: recipe / bare | {} |", ratios.join(" | "));
    }
    Ok(())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

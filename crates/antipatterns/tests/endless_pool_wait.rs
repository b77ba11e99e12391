//! What becomes of those who wait for a connection, on a real PostgreSQL.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroU16;
use std::sync::LazyLock;
use std::time::Duration;

use antipatterns::endless_pool_wait::{pool, show_order};
use deadpool_postgres::Pool;
use pooling::deadpool_pool::{self, GetError, Settings, get};
use servers::Postgres;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, Config, NoTls};

static SERVER: LazyLock<Postgres> =
    LazyLock::new(|| Postgres::start().unwrap_or_else(|error| panic!("{error}")));

const HOUR: Duration = Duration::from_secs(3600);

async fn run(config: &Config, statements: &str) {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute(statements).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
}

/// A database with one order, which is 1, by customer 7.
async fn database(name: &str) -> Config {
    let mut config: Config = SERVER.url().parse().unwrap();
    run(&config, &format!("CREATE DATABASE {name}")).await;
    config.dbname(name);
    let tables = "CREATE TABLE orders (id int, item text, customer int);
        CREATE TABLE customers (id int, name text);
        INSERT INTO orders VALUES (1, 'tea', 7);
        INSERT INTO customers VALUES (7, 'Ann')";
    run(&config, tables).await;
    config
}

#[tokio::test]
async fn harm_four_requests_on_four_connections_stand_still_and_so_do_all_who_come_later() {
    let pool = pool(database("harm").await).unwrap();
    assert_eq!(show_order(&pool, 1).await.unwrap(), "tea for Ann", "alone");
    let mut requests = JoinSet::new();
    for _ in 0..4 {
        let pool = pool.clone();
        requests.spawn(async move { show_order(&pool, 1).await });
    }
    while (pool.status().size, pool.status().waiting) != (4, 4) {
        sleep(Duration::from_millis(1)).await;
    }
    let idle = "DO $$ BEGIN ASSERT 4 = (SELECT count(*) FROM pg_stat_activity
        WHERE datname = 'harm' AND state = 'idle'); END $$";
    run(&SERVER.url().parse().unwrap(), idle).await; // the database has nothing to do

    tokio::time::pause(); // and so nothing is read or written
    timeout(HOUR, requests.join_next())
        .await
        .expect_err("none is answered");
    timeout(HOUR, pool.get()).await.expect_err("nor refused");
}

async fn pool_with_limits(name: &str) -> Pool {
    let settings = Settings {
        application_name: name.to_owned(),
        size: NonZeroU16::new(4).unwrap(),
        wait: Duration::from_millis(100),
        connect: HOUR,
        create: HOUR,
        recycle: HOUR,
        lifetime: HOUR,
        statement: HOUR,
    };
    deadpool_pool::pool(database(name).await, NoTls, &settings).unwrap()
}

#[tokio::test]
async fn mended_an_exhausted_pool_is_an_error_and_the_next_is_answered() {
    let pool = pool_with_limits("limited").await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(get(&pool).await.unwrap());
    }
    let error = get(&pool).await.unwrap_err();
    assert!(matches!(error, GetError::Exhausted { .. }));
    let message = "no connection was free within 100ms: 4 of 4 open, 0 waiting";
    assert_eq!(error.to_string(), message);
    // The twin itself, on a pool with limits: none of the four waits for ever.
    drop(held);
    let mut requests = JoinSet::new();
    for _ in 0..4 {
        let pool = pool.clone();
        requests.spawn(async move { show_order(&pool, 1).await });
    }
    let results = timeout(HOUR, requests.join_all()).await.unwrap();
    assert!(results.iter().any(Result::is_err), "{results:?}");
    assert_eq!(show_order(&pool, 1).await.unwrap(), "tea for Ann");
}

async fn customer_of(client: &Client, id: i32) -> Result<String, tokio_postgres::Error> {
    let query = "SELECT name FROM customers WHERE id = $1";
    client.query_one(query, &[&id]).await?.try_get("name")
}

#[tokio::test]
async fn mended_with_the_connection_handed_on_forty_at_once_are_answered() {
    let pool = pool(database("handed_on").await).unwrap();
    let mut requests = JoinSet::new();
    for _ in 0..40 {
        let pool = pool.clone();
        requests.spawn(async move {
            let client = pool.get().await.unwrap();
            let query = "SELECT customer FROM orders WHERE id = 1";
            let order = client.query_one(query, &[]).await.unwrap();
            customer_of(&client, order.get("customer")).await.unwrap()
        });
    }
    let customers = timeout(HOUR, requests.join_all()).await.unwrap();
    assert_eq!(customers, ["Ann"; 40]);
}

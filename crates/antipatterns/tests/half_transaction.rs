//! What a transaction that was dropped half way does to the next user of its connection, on a real
//! PostgreSQL.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::future::{pending, ready};
use std::sync::LazyLock;
use std::time::Duration;

use antipatterns::half_transaction::transfer;
use deadpool_postgres::{Client as Pooled, Manager, Pool};
use pooling::transactions::{Settings, TransactionError, in_transaction};
use servers::Postgres;
use tokio::select;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, Error, IsolationLevel, NoTls};

const LIMIT: Duration = Duration::from_secs(60);

static SERVER: LazyLock<Postgres> =
    LazyLock::new(|| Postgres::start().unwrap_or_else(|error| panic!("{error}")));

/// A pool of one connection, in a schema with two accounts of 100 each.
async fn bank(schema: &str) -> Pool {
    let accounts = format!(
        "CREATE SCHEMA {schema};
         CREATE TABLE accounts (name text, amount int CHECK (amount >= 0));
         INSERT INTO accounts VALUES ('ann', 100), ('bo', 100)"
    );
    let pool = pool_of(schema);
    pool.get()
        .await
        .unwrap()
        .batch_execute(&accounts)
        .await
        .unwrap();
    pool
}

fn pool_of(schema: &str) -> Pool {
    let mut config: tokio_postgres::Config = SERVER.url().parse().unwrap();
    config.options(format!("-c search_path={schema}"));
    Pool::builder(Manager::new(config, NoTls))
        .max_size(1)
        .build()
        .unwrap()
}

/// The accounts and the money in them, as everybody else sees them.
async fn sums(schema: &str) -> (i64, i64) {
    let other = pool_of(schema).get().await.unwrap();
    let query = "SELECT count(*), sum(amount) FROM accounts";
    let row = other.query_one(query, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

/// Waits until the connection has ended in the server, too.
async fn ended(backend: i32) {
    let other = pool_of("public").get().await.unwrap();
    let query = "SELECT pid FROM pg_stat_activity WHERE pid = $1";
    let ended = async {
        while !other.query(query, &[&backend]).await.unwrap().is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, ended).await.expect("it is still there");
}

/// An approval that never comes, and how one hears that it was asked for.
fn approval() -> (impl Future<Output = ()>, oneshot::Receiver<()>) {
    let (ask, asked) = oneshot::channel();
    let approval = async {
        ask.send(()).unwrap();
        pending::<()>().await;
    };
    (approval, asked)
}

const ANN_TO_BO: (&str, &str) = ("ann", "bo");

async fn harmed(schema: &str) -> Pooled {
    let pool = bank(schema).await;
    let client = pool.get().await.unwrap();
    let (approval, asked) = approval();
    select! {
        ended = transfer(&client, ANN_TO_BO, 30, approval) => panic!("{ended:?}"),
        asked = asked => asked.unwrap(),
    }
    drop(client);
    pool.get().await.unwrap() // it is the same connection
}

#[tokio::test]
async fn harm_the_commit_of_the_next_transfer_commits_half_of_the_one_that_was_dropped() {
    let next = harmed("half").await;
    assert_eq!(sums("half").await, (2, 200));
    transfer(&next, ANN_TO_BO, 5, ready(())).await.unwrap();
    assert_eq!(sums("half").await, (2, 170));
}

#[tokio::test]
async fn harm_a_hundred_writes_of_the_next_user_return_ok_and_are_gone() {
    let next = harmed("gone").await;
    let backend = next.query_one("SELECT pg_backend_pid()", &[]).await;
    let backend: i32 = backend.unwrap().get(0);
    for _ in 0..100 {
        let write = "INSERT INTO accounts VALUES ('new', 1)";
        assert_eq!(next.execute(write, &[]).await.unwrap(), 1);
    }
    assert_eq!(sums("gone").await, (2, 200), "nobody else sees them");
    drop(Pooled::take(next)); // the connection ends one day
    ended(backend).await;
    assert_eq!(sums("gone").await, (2, 200));
}

#[tokio::test]
async fn harm_after_a_transfer_that_failed_whatever_comes_next_is_refused() {
    let pool = bank("failed").await;
    let client = pool.get().await.unwrap();
    transfer(&client, ANN_TO_BO, 300, ready(()))
        .await
        .unwrap_err(); // more than she has
    drop(client);
    let next = pool.get().await.unwrap();
    let error = next.query_one("SELECT 1", &[]).await.unwrap_err();
    let message = "current transaction is aborted, commands ignored until end of transaction block";
    assert_eq!(error.as_db_error().unwrap().message(), message);
}

async fn transfer_whole(
    client: &mut Client,
    amount: i32,
    approval: impl Future<Output = ()>,
) -> Result<(), TransactionError<Error>> {
    let settings = Settings {
        isolation: IsolationLevel::ReadCommitted,
        statement_timeout: Duration::from_secs(60),
    };
    in_transaction(client, settings, async |transaction| {
        let change = "UPDATE accounts SET amount = amount + $1 WHERE name = $2";
        transaction.execute(change, &[&-amount, &"ann"]).await?;
        approval.await;
        transaction.execute(change, &[&amount, &"bo"]).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn mended_the_next_user_finds_no_transaction_and_keeps_what_it_writes() {
    let pool = bank("whole").await;
    let mut client = pool.get().await.unwrap();
    let (approval, asked) = approval();
    select! {
        ended = transfer_whole(&mut client, 30, approval) => panic!("{ended:?}"),
        asked = asked => asked.unwrap(),
    }
    drop(client);
    let mut next = pool.get().await.unwrap();
    transfer_whole(&mut next, 5, ready(())).await.unwrap();
    transfer_whole(&mut next, 300, ready(())).await.unwrap_err();
    for _ in 0..100 {
        next.execute("INSERT INTO accounts VALUES ('new', 1)", &[])
            .await
            .unwrap();
    }
    assert_eq!(sums("whole").await, (102, 300));
}

//! cargo run --example transactions
//!
//! A pool with a single connection, on a real PostgreSQL: money is transferred, refused, dropped half
//! way by a timeout, and contended for. After each, the next user of the connection finds it clean.

use std::error::Error;
use std::time::Duration;

use deadpool_postgres::{Manager, Pool};
use pooling::transactions::{Settings, in_transaction};
use servers::Postgres;
use tokio::time::timeout;
use tokio_postgres::{IsolationLevel, NoTls, SimpleQueryMessage, Transaction};

const SETTINGS: Settings = Settings {
    isolation: IsolationLevel::Serializable,
    statement_timeout: Duration::from_secs(1),
};

type DbResult<T> = Result<T, tokio_postgres::Error>;

async fn transfer(transaction: &Transaction<'_>, amount: i32) -> DbResult<u64> {
    let take = "UPDATE accounts SET amount = amount - $1 WHERE name = 'ann'";
    let give = "UPDATE accounts SET amount = amount + $1 WHERE name = 'bo'";
    Ok(
        transaction.execute(take, &[&amount]).await?
            + transaction.execute(give, &[&amount]).await?,
    )
}

async fn report(what: &str, pool: &Pool) -> Result<(), Box<dyn Error>> {
    let client = pool.get().await?;
    // In a transaction that was left open, it would have begun before this statement.
    let query = "SELECT name, amount, now() = statement_timestamp() FROM accounts ORDER BY name";
    for message in client.simple_query(query).await? {
        if let SimpleQueryMessage::Row(row) = message {
            let clean = row.get(2) == Some("t");
            let column = |index| row.get(index).unwrap_or_default();
            println!(
                "  {what}: {} has {}, connection clean: {clean}",
                column(0),
                column(1)
            );
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Postgres::start()?;
    let pool = Pool::builder(Manager::new(server.url().parse()?, NoTls))
        .max_size(1)
        .build()?;
    let accounts = "CREATE TABLE accounts (name text, amount int CHECK (amount >= 0));
        INSERT INTO accounts VALUES ('ann', 100), ('bo', 0)";
    pool.get().await?.batch_execute(accounts).await?;

    for amount in [30, 300] {
        let mut client = pool.get().await?;
        let work = async |transaction: &mut Transaction<'_>| transfer(transaction, amount).await;
        match in_transaction(&mut client, SETTINGS, work).await {
            Ok(rows) => println!("{rows} rows changed"),
            Err(error) => println!("{error}; try again: {}", error.is_retryable()),
        }
        drop(client);
        report(&format!("transfer of {amount}"), &pool).await?;
    }

    let mut client = pool.get().await?;
    let slow = in_transaction(&mut client, SETTINGS, async |transaction| {
        transfer(transaction, 10).await?;
        transaction.batch_execute("SELECT pg_sleep(60)").await
    });
    let in_time = timeout(Duration::from_millis(100), slow).await.is_ok();
    println!("done in time: {in_time}");
    drop(client);
    report("dropped half way", &pool).await?;

    // Somebody else writes between our first look and our write. The work is done again.
    let (rival, connection) = tokio_postgres::connect(server.url(), NoTls).await?;
    let connection = tokio::spawn(connection);
    let mut client = pool.get().await?;
    for attempt in 1..=3 {
        let work = in_transaction(&mut client, SETTINGS, async |transaction| {
            transaction.query("SELECT * FROM accounts", &[]).await?;
            if attempt == 1 {
                let deposit = "UPDATE accounts SET amount = amount + 5 WHERE name = 'ann'";
                rival.batch_execute(deposit).await?;
            }
            transfer(transaction, 20).await
        });
        match work.await {
            Err(error) if error.is_retryable() => println!("attempt {attempt}: lost to another"),
            ended => {
                println!("attempt {attempt}: {} rows changed", ended?);
                break;
            }
        }
    }
    drop(client);
    report("in the end", &pool).await?;
    drop(rival);
    connection.await??;
    Ok(())
}

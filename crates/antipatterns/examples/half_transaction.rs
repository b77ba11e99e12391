//! cargo run --example half_transaction
//!
//! A transfer of 30 is dropped while it waits for approval, and the next user of the connection makes
//! one of 5, on a real PostgreSQL. How much money is there afterwards, of 200?

use std::error::Error;
use std::future::{pending, ready};
use std::time::Duration;

use antipatterns::half_transaction::transfer;
use deadpool_postgres::{Manager, Pool};
use pooling::transactions::{Settings, in_transaction};
use servers::Postgres;
use tokio::select;
use tokio::sync::Notify;
use tokio_postgres::{Client, IsolationLevel, NoTls};

async fn pay(
    client: &mut Client,
    by_hand: bool,
    amount: i32,
    approval: impl Future<Output = ()>,
) -> Result<(), Box<dyn Error>> {
    if by_hand {
        return Ok(transfer(client, ("ann", "bo"), amount, approval).await?);
    }
    let settings = Settings {
        isolation: IsolationLevel::ReadCommitted,
        statement_timeout: Duration::from_secs(10),
    };
    let paid = in_transaction(client, settings, async |transaction| {
        let change = "UPDATE accounts SET amount = amount + $1 WHERE name = $2";
        transaction.execute(change, &[&-amount, &"ann"]).await?;
        approval.await;
        transaction.execute(change, &[&amount, &"bo"]).await
    });
    Ok(paid.await.map(drop)?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Postgres::start()?;
    let manager = Manager::new(server.url().parse()?, NoTls);
    let pool = Pool::builder(manager).max_size(1).build()?;
    for (name, by_hand) in [("BEGIN by hand", true), ("transactions", false)] {
        let mut client = pool.get().await?;
        let accounts =
            "DROP TABLE IF EXISTS accounts; CREATE TABLE accounts (name text, amount int);
            INSERT INTO accounts VALUES ('ann', 100), ('bo', 100)";
        client.batch_execute(accounts).await?;
        let asked = Notify::new();
        let approval = async {
            asked.notify_one();
            pending::<()>().await; // for longer than the caller has time
        };
        select! {
            paid = pay(&mut client, by_hand, 30, approval) => paid?,
            () = asked.notified() => {}
        }
        drop(client); // goes back to the pool

        let mut next = pool.get().await?;
        pay(&mut next, by_hand, 5, ready(())).await?;
        let sum = next
            .query_one("SELECT sum(amount) FROM accounts", &[])
            .await?;
        println!("{name}: {} of 200 are left", sum.try_get::<_, i64>(0)?);
    }
    Ok(())
}

//! cargo run --example endless_pool_wait
//!
//! Four requests at once on a pool of four connections, on a real PostgreSQL. Each takes a second
//! connection while it holds its first. Then a pool with limits, of which all are held.

use std::error::Error;
use std::num::NonZeroU16;
use std::time::Duration;

use antipatterns::endless_pool_wait::{pool, show_order};
use pooling::deadpool_pool::{self, Settings, get};
use servers::Postgres;
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Postgres::start()?;
    let endless = pool(server.url().parse()?)?;
    let tables = "CREATE TABLE orders (id int, item text, customer int);
        CREATE TABLE customers (id int, name text);
        INSERT INTO orders VALUES (1, 'tea', 7);
        INSERT INTO customers VALUES (7, 'Ann')";
    endless.get().await?.batch_execute(tables).await?;

    let mut requests = JoinSet::new();
    for _ in 0..4 {
        let pool = endless.clone();
        requests.spawn(async move { show_order(&pool, 1).await });
    }
    while endless.status().waiting < 4 || endless.status().size < 4 {
        tokio::task::yield_now().await;
    }
    let (status, an_answer) = (endless.status(), requests.join_next());
    println!(
        "no limit: {} of 4 in use, {} waiting",
        status.size, status.waiting
    );
    let answered = tokio::time::timeout(SECOND, an_answer).await.is_ok();
    println!("no limit: anything answered a second later: {answered}");

    let settings = Settings {
        application_name: "shop".to_owned(),
        size: NonZeroU16::MIN.saturating_add(3),
        wait: Duration::from_millis(100),
        connect: SECOND,
        create: SECOND,
        recycle: SECOND,
        lifetime: 600 * SECOND,
        statement: SECOND,
    };
    let limited = deadpool_pool::pool(server.url().parse()?, NoTls, &settings)?;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(get(&limited).await?);
    }
    if let Err(error) = get(&limited).await {
        println!("deadpool_pool: {error}");
    }
    Ok(())
}

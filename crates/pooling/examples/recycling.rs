//! cargo run --example recycling
//!
//! Eight connections of a real PostgreSQL lie in a pool when the server ends them all. Then 400 queries
//! come: without a question first, with one for each, and with one for those that were idle. At last,
//! what one user leaves in a session, and what the next one finds there.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, Pool};
use futures_util::future::try_join_all;
use pooling::recycling::{RecycleCounts, Recycling, recycle_hook};
use servers::Postgres;
use tokio::time::sleep;
use tokio_postgres::NoTls;

const EACH: Recycling = Recycling {
    verify_after: Duration::ZERO,
    answer_within: Duration::from_secs(5),
    reset: false,
};

fn pool(url: &str, recycling: Recycling) -> Result<(Pool, Arc<RecycleCounts>), Box<dyn Error>> {
    let counts = Arc::new(RecycleCounts::default());
    let pool = Pool::builder(Manager::new(url.parse()?, NoTls))
        .max_size(8)
        .post_recycle(recycle_hook(recycling, Arc::clone(&counts)))
        .build()?;
    Ok((pool, counts))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Postgres::start()?;
    let idle = Recycling {
        verify_after: Duration::from_millis(100),
        ..EACH
    };
    for (what, recycling) in [("each is asked", EACH), ("the idle are asked", idle)] {
        let (pool, counts) = pool(server.url(), recycling)?;
        drop(try_join_all((0..8).map(|_| pool.get())).await?);
        sleep(Duration::from_millis(150)).await;
        server.stop()?; // ends all of them
        server.restart()?;
        let mut lost = 0;
        for _ in 0..400 {
            let client = pool.get().await?;
            lost += usize::from(client.simple_query("SELECT 1").await.is_err());
        }
        let asked = counts.verified() + counts.refused();
        println!(
            "{what}: {lost} of 400 queries lost, more than 100 questions: {}",
            asked > 100
        );
    }

    let reset = Recycling {
        reset: true,
        ..EACH
    };
    for (what, recycling) in [("kept", EACH), ("reset", reset)] {
        let (pool, _) = pool(server.url(), recycling)?;
        let setting = "SET search_path = elsewhere";
        pool.get().await?.batch_execute(setting).await?;
        let row = pool.get().await?.query_one("SHOW search_path", &[]).await?;
        println!(
            "session {what}: the next user's search_path is {}",
            row.get::<_, &str>(0)
        );
    }

    let (pool, counts) = pool(server.url(), EACH)?;
    pool.get().await?.batch_execute("BEGIN").await?;
    pool.get().await?.batch_execute("SELECT 1").await?;
    println!(
        "left in a transaction: {} connection replaced",
        counts.refused()
    );
    Ok(())
}

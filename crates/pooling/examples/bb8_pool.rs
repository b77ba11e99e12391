//! cargo run --example bb8_pool
//!
//! Twenty tasks share three connections to a real PostgreSQL, which is started for this. Then the
//! pool is exhausted, every other connection is killed, and the server is gone.

use std::collections::BTreeSet;
use std::error::Error;
use std::num::NonZeroU16;
use std::time::Duration;

use pooling::bb8_pool::{Database, Settings};
use servers::Postgres;
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

/// Asks in twenty tasks at once. Prints how many got an answer, and whether by three connections at most.
async fn crowd(pool: &Database<NoTls>) -> Result<(), Box<dyn Error>> {
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let pool = pool.clone();
        tasks.spawn(async move {
            let client = pool.get().await.ok()?;
            let query = "SELECT pg_backend_pid() AS pid FROM pg_sleep(0.01)";
            let row = client.query_one(query, &[]).await.ok()?;
            row.try_get("pid").ok()
        });
    }
    let answers: Vec<i32> = tasks.join_all().await.into_iter().flatten().collect();
    let pids: BTreeSet<_> = answers.iter().collect();
    // Not how many they are: on a busy machine two may answer all.
    let (answers, few) = (answers.len(), pids.len() <= 3);
    println!("{answers} answers, by three connections at most: {few}");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Postgres::start()?;
    let settings = Settings {
        application_name: "example".to_owned(),
        size: NonZeroU16::MIN.saturating_add(2),
        wait: Duration::from_secs(1),
        connect: Duration::from_secs(5),
        create: Duration::from_secs(10),
        recycle: Duration::from_secs(2),
        lifetime: Duration::from_secs(1800),
        idle: Duration::from_secs(600),
        statement: Duration::from_secs(5),
    };
    let pool = Database::new(server.url().parse()?, NoTls, &settings);
    crowd(&pool).await?;

    let held = [pool.get().await?, pool.get().await?, pool.get().await?];
    if let Err(error) = pool.get().await {
        println!("all held: {error}");
    }
    drop(held);

    let kill = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
        WHERE application_name = 'example' AND pid <> pg_backend_pid()";
    pool.get().await?.batch_execute(kill).await?;
    println!("all others killed");
    crowd(&pool).await?;

    server.stop()?;
    if let Err(error) = pool.get().await {
        println!("server stopped: {error}");
    }
    Ok(())
}

//! cargo run --example store
//!
//! The same function counts visits in memory and in a real Redis, which is started for this. Then
//! the server hangs, is gone, and comes back.

use std::error::Error;
use std::time::Duration;

use servers::Redis;
use traits::store::{MemoryStore, RedisStore, Store, StoreError};

async fn visit(store: &impl Store) -> Result<u32, StoreError> {
    let seen = store.get("visits").await?;
    let seen = seen.and_then(|text| String::from_utf8(text).ok()?.parse().ok());
    let visits = seen.unwrap_or(0) + 1;
    store.set("visits", visits.to_string().as_bytes()).await?;
    Ok(visits)
}

fn print(name: &str, visits: Result<u32, StoreError>) {
    match visits {
        Ok(visits) => println!("{name}: visit {visits}"),
        Err(error) => println!("{name}: {error}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Redis::start()?;
    let (memory, redis) = (
        MemoryStore::default(),
        RedisStore::connect(server.url(), "shop:", Duration::from_secs(1))?,
    );
    for _ in 0..2 {
        print("memory", visit(&memory).await);
        print("redis", visit(&redis).await);
    }
    server.pause()?;
    print("redis, paused", visit(&redis).await);
    server.resume()?;
    print("redis, resumed", visit(&redis).await);
    server.stop()?;
    print("redis, stopped", visit(&redis).await);
    server.restart()?;
    while visit(&redis).await.is_err() {} // the first call finds the old connection broken
    print("redis, started again and empty", visit(&redis).await);
    Ok(())
}

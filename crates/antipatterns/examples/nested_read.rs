//! cargo run --example nested_read
//!
//! An order is summed up, and 5 ms later a price changes: with a read lock inside of a read lock,
//! and with a snapshot.

use std::collections::HashMap;
use std::time::Duration;

use antipatterns::nested_read::Prices;
use sync::read_mostly::Store;
use tokio::time::{Instant, sleep, timeout};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

async fn stock(_item: &str) -> u64 {
    sleep(10 * MS).await;
    2
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let prices = Prices::default();
    prices.set("tea", 3).await;
    let change = async {
        sleep(5 * MS).await;
        prices.set("tea", 4).await;
    };
    let both = async { tokio::join!(prices.sum(&["tea"], stock), change) };
    match timeout(HOUR, both).await {
        Ok((sum, ())) => println!("RwLock:      sum: {sum:?}"),
        Err(_) => println!("RwLock:      after an hour, no sum, and the price has not changed"),
    }

    let started = Instant::now();
    let prices = Store::new(HashMap::from([("tea", 3)]));
    let sum = async {
        let prices = prices.snapshot();
        Some(stock("tea").await * prices.get("tea")?)
    };
    let change = async {
        sleep(5 * MS).await;
        prices.update(|_| HashMap::from([("tea", 4)]));
    };
    let (sum, ()) = tokio::join!(sum, change);
    let at = started.elapsed().as_millis();
    println!("read_mostly: after {at} ms, sum: {sum:?}, and the price has changed");
}

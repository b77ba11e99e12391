//! A read within a read, and a writer in between.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use antipatterns::nested_read::Prices;
use sync::read_mostly::Store;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

async fn stock(_item: &str) -> u64 {
    sleep(10 * MS).await;
    2
}

async fn prices() -> Arc<Prices> {
    let prices = Prices::default();
    prices.set("tea", 3).await;
    prices.set("milk", 1).await;
    Arc::new(prices)
}

#[tokio::test(start_paused = true)]
async fn without_a_writer_it_works() {
    let started = Instant::now();
    let prices = prices().await;
    assert_eq!(prices.sum(&["tea", "milk"], stock).await, Some(8));
    assert_eq!(started.elapsed(), 20 * MS);
}

#[tokio::test(start_paused = true)]
async fn harm_a_writer_in_between_stops_all_for_ever() {
    let prices = prices().await;
    let mut tasks = JoinSet::new();
    let sums = Arc::clone(&prices);
    tasks.spawn(async move { sums.sum(&["tea", "milk"], stock).await });
    let changes = Arc::clone(&prices);
    tasks.spawn(async move {
        sleep(5 * MS).await;
        changes.set("tea", 4).await;
        None
    });
    for _ in 0..100 {
        let reads = Arc::clone(&prices);
        tasks.spawn(async move {
            sleep(6 * MS).await;
            reads.price("milk").await
        });
    }
    timeout(HOUR, tasks.join_next()).await.unwrap_err();
    assert_eq!(tasks.len(), 102);
}

/// Threads that hang cannot be ended, so they are in a process of their own.
#[cfg(target_os = "linux")] // std promises no order between readers and writers
#[test]
fn harm_threads_with_the_rwlock_of_std_hang_as_well() {
    const HUNG: i32 = 42;
    if std::env::var_os("NESTED_READ").is_some() {
        let lock = Arc::new(std::sync::RwLock::new(0));
        let outer = lock.read().unwrap();
        let writer = Arc::clone(&lock);
        std::thread::spawn(move || *writer.write().unwrap() += 1);
        while lock.try_read().is_ok() {
            std::thread::yield_now(); // until the writer waits
        }
        std::thread::spawn(|| {
            let (_kept, silence) = std::sync::mpsc::sync_channel::<()>(1);
            silence.recv_timeout(300 * MS).ok();
            std::process::exit(HUNG);
        });
        assert_eq!(*lock.read().unwrap(), *outer);
        std::process::exit(0);
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([
        "--exact",
        "harm_threads_with_the_rwlock_of_std_hang_as_well",
    ]);
    child.arg("--nocapture").env("NESTED_READ", "1");
    let status = child.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert_eq!(status.unwrap().code(), Some(HUNG));
}

#[tokio::test(start_paused = true)]
async fn mended_the_sum_is_of_one_version_and_nobody_waits() {
    let started = Instant::now();
    let prices = Store::new(HashMap::from([("tea", 3), ("milk", 1)]));
    let sum = async {
        let prices = prices.snapshot();
        let mut sum = 0;
        for item in ["milk", "tea"] {
            sum += stock(item).await * prices[item];
        }
        (sum, started.elapsed())
    };
    let set = async {
        sleep(5 * MS).await;
        prices.update(|old| {
            let mut new = old.clone();
            new.insert("tea", 4);
            new
        });
        started.elapsed()
    };
    let read = async {
        sleep(6 * MS).await;
        (prices.read(|prices| prices["tea"]), started.elapsed())
    };
    let (sum, set, read) = tokio::join!(sum, set, read);
    assert_eq!(sum, (8, 20 * MS), "at the prices of its beginning");
    assert_eq!(set, 5 * MS);
    assert_eq!(read, (4, 6 * MS));
}

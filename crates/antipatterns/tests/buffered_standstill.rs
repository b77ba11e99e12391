//! What becomes of calls that only the head of a loop polls.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroUsize;
use std::time::Duration;

use antipatterns::buffered_standstill::fetch_and_store;
use futures_util::{StreamExt, stream};
use streams::concurrent_map::{Order, concurrent_map};
use tokio::sync::Semaphore;
use tokio::time::{Instant, error::Elapsed, sleep, timeout};

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Connects and asks: 10 ms for the first of them, 100 ms for the others. The limit is 200 ms.
async fn call(number: u32) -> Result<u32, Elapsed> {
    let step = if number == 0 { 5 * MS } else { 50 * MS };
    let call = async {
        sleep(step).await;
        sleep(step).await;
        number
    };
    timeout(200 * MS, call).await
}

async fn failed(store_takes: Duration) -> u32 {
    let mut failed = 0;
    let store = async |result: Result<u32, Elapsed>| {
        if let Err(error) = result {
            assert_eq!(error.to_string(), "deadline has elapsed");
            failed += 1;
        }
        sleep(store_takes).await;
    };
    fetch_and_store(0..10, 10, call, store).await;
    failed
}

#[tokio::test(start_paused = true)]
async fn harm_nine_of_ten_fast_calls_run_out_of_time() {
    assert_eq!(failed(500 * MS).await, 9);
}

#[tokio::test(start_paused = true)]
async fn harm_with_a_body_that_is_fast_none_does_so_its_test_passes() {
    assert_eq!(failed(MS).await, 0);
}

#[tokio::test(start_paused = true)]
async fn harm_a_body_that_needs_what_the_calls_hold_waits_for_ever() {
    let pool = Semaphore::new(2);
    let mut stored = 0;
    let call = async |_| {
        let _connection = pool.acquire().await.unwrap();
        sleep(50 * MS).await;
    };
    let store = async |()| {
        let _connection = pool.acquire().await.unwrap();
        stored += 1;
    };
    let all = fetch_and_store(0..10, 4, call, store);
    timeout(DAY, all).await.unwrap_err();
    assert_eq!(stored, 0);
}

#[tokio::test(start_paused = true)]
async fn mended_the_calls_go_on_while_a_result_is_stored() {
    let ten = NonZeroUsize::new(10).unwrap();
    let mut results = concurrent_map(ten, Order::Ends, stream::iter(0..10), call);
    let (started, mut failed) = (Instant::now(), 0);
    while let Some(result) = results.next().await {
        failed += u32::from(result.unwrap().is_err());
        results.during(sleep(500 * MS)).await;
    }
    assert_eq!((failed, started.elapsed()), (0, 5_010 * MS));
}

#[tokio::test(start_paused = true)]
async fn mended_the_body_gets_its_connection() {
    let pool = Semaphore::new(2);
    let four = NonZeroUsize::new(4).unwrap();
    let mut results = concurrent_map(four, Order::Ends, stream::iter(0..10), async |_| {
        let _connection = pool.acquire().await.unwrap();
        sleep(50 * MS).await;
    });
    let mut stored = 0;
    while let Some(result) = results.next().await {
        result.unwrap();
        let store = async {
            let _connection = pool.acquire().await.unwrap();
            stored += 1;
        };
        results.during(store).await;
    }
    assert_eq!(stored, 10);
}

//! Who has a turn beside a stream that is always ready.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use antipatterns::stream_never_waits::index_all;
use futures_util::{StreamExt, stream};
use streams::from_iter_and_interval::cooperative;
use tokio::task::yield_now;
use tokio::time::timeout;

const COUNT: u32 = 1_000_000;

/// A task that counts its turns.
async fn other_task() -> Arc<AtomicU32> {
    let turns = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&turns);
    tokio::spawn(async move {
        loop {
            counter.fetch_add(1, Ordering::Relaxed);
            yield_now().await;
        }
    });
    yield_now().await;
    turns.store(0, Ordering::Relaxed);
    turns
}

#[tokio::test]
async fn harm_a_limit_of_nothing_lets_a_million_items_pass_and_no_other_task() {
    let turns = other_task().await;
    let mut indexed = 0;
    let index = |_| {
        indexed += 1;
        ready(())
    };
    assert_eq!(index_all(0..COUNT, Duration::ZERO, index).await, Ok(()));
    assert_eq!((indexed, turns.load(Ordering::Relaxed)), (COUNT, 0));
}

#[tokio::test]
async fn harm_with_a_call_that_waits_now_and_then_others_have_turns_so_its_test_passes() {
    let turns = other_task().await;
    let index = async |item| {
        if item % 100 == 0 {
            yield_now().await;
        }
    };
    index_all(0..1_000, Duration::MAX, index).await.unwrap();
    assert_eq!(turns.load(Ordering::Relaxed), 10);
}

#[tokio::test]
async fn mended_the_limit_comes_and_the_other_task_has_turns() {
    let turns = other_task().await;
    let mut indexed = 0;
    let items = cooperative(stream::iter(0..COUNT)).for_each(|_| {
        indexed += 1;
        ready(())
    });
    timeout(Duration::from_millis(1), items).await.unwrap_err();
    let turns = turns.load(Ordering::Relaxed);
    assert!(
        turns > 0 && indexed < COUNT,
        "{turns} turns, {indexed} items"
    );
}

//! How long calls take one after another, and what they do all at once.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use antipatterns::await_in_a_loop::{fetch_all, fetch_both, fetch_each};
use tasks::spawn_batch::spawn_batch;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

const TAKES: Duration = Duration::from_millis(100);

async fn fetch(id: u32) -> u32 {
    sleep(TAKES).await;
    id
}

/// A server with room for 1,000 calls at once. False: it was refused.
#[derive(Clone)]
struct Server(Arc<Semaphore>);

impl Server {
    fn new() -> Self {
        Self(Arc::new(Semaphore::new(1_000)))
    }

    async fn call(self) -> bool {
        let Ok(_place) = self.0.try_acquire() else {
            return false;
        };
        sleep(TAKES).await;
        true
    }
}

#[tokio::test(start_paused = true)]
async fn harm_ten_calls_take_ten_times_as_long_as_one() {
    let started = Instant::now();
    assert_eq!(fetch_each((0..10).collect(), fetch).await.len(), 10);
    assert_eq!(started.elapsed(), 10 * TAKES);
}

#[tokio::test(start_paused = true)]
async fn harm_a_future_that_was_made_has_not_begun() {
    let started = Instant::now();
    assert_eq!(fetch_both(1, 2, fetch).await, (1, 2));
    assert_eq!(started.elapsed(), 2 * TAKES);
}

#[tokio::test(start_paused = true)]
async fn harm_all_at_once_nine_of_ten_thousand_are_refused() {
    let server = Server::new();
    let answers = fetch_all((0..10_000).collect(), |_| server.clone().call()).await;
    let refused = answers.into_iter().filter(|answer| !answer).count();
    assert_eq!(refused, 9_000);
}

#[tokio::test(start_paused = true)]
async fn mended_ten_calls_take_as_long_as_one_and_ten_thousand_are_none_too_many() {
    let started = Instant::now();
    let results = spawn_batch(NonZeroUsize::new(10).unwrap(), 0..10, fetch).await;
    assert!(results.into_iter().map(Result::unwrap).eq(0..10));
    assert_eq!(started.elapsed(), TAKES);

    let (server, started) = (Server::new(), Instant::now());
    let limit = NonZeroUsize::new(1_000).unwrap();
    let answers = spawn_batch(limit, 0..10_000, |_| server.clone().call()).await;
    assert!(answers.into_iter().all(|answer| answer == Ok(true)));
    assert_eq!(started.elapsed(), 10 * TAKES);
}

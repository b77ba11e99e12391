//! How often a load begins, and whether it ends, if those who wait for it have little time.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use antipatterns::once_cell_init_under_cancel::Lazy;
use sync::single_flight::SingleFlight;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const MS: Duration = Duration::from_millis(1);
const TAKES: Duration = Duration::from_millis(250);
const LIMIT: Duration = Duration::from_millis(100);

/// Loads begun, and loads ended.
#[derive(Default)]
struct Counts {
    begun: AtomicU32,
    ended: AtomicU32,
}

async fn load(counts: Arc<Counts>) -> u32 {
    counts.begun.fetch_add(1, Ordering::Relaxed);
    sleep(TAKES).await;
    counts.ended.fetch_add(1, Ordering::Relaxed) + 1
}

/// A request each 50 ms for a minute, each with a limit of 100 ms; how many were answered, and how
/// many loads were begun and ended.
async fn minute<F>(request: impl Fn(Arc<Counts>) -> F) -> (u32, u32, u32)
where
    F: Future<Output = u32> + Send + 'static,
{
    let counts = Arc::new(Counts::default());
    let mut requests = JoinSet::new();
    for _ in 0..1_200 {
        requests.spawn(timeout(LIMIT, request(Arc::clone(&counts))));
        sleep(50 * MS).await;
    }
    let ends = requests.join_all().await;
    let answered = ends.iter().filter(|end| end.is_ok()).count();
    (
        u32::try_from(answered).unwrap(),
        counts.begun.load(Ordering::Relaxed),
        counts.ended.load(Ordering::Relaxed),
    )
}

#[tokio::test(start_paused = true)]
async fn harm_in_a_minute_no_request_is_answered_and_no_load_ended() {
    let lazy = Arc::new(Lazy::new());
    let request = |counts| {
        let lazy = Arc::clone(&lazy);
        async move { lazy.get(|| load(counts)).await }
    };
    assert_eq!(minute(request).await, (0, 1_200, 0));
}

async fn fails(begun: Arc<AtomicU32>) -> Result<u32, &'static str> {
    begun.fetch_add(1, Ordering::Relaxed);
    sleep(TAKES).await;
    Err("no route")
}

#[tokio::test(start_paused = true)]
async fn harm_ten_who_wait_for_what_fails_fail_one_after_the_other() {
    let (lazy, begun) = (Arc::new(Lazy::new()), Arc::new(AtomicU32::new(0)));
    let started = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..10 {
        let (lazy, begun) = (Arc::clone(&lazy), Arc::clone(&begun));
        callers.spawn(async move { lazy.try_get(|| fails(begun)).await });
    }
    assert_eq!(callers.join_all().await, [Err("no route"); 10]);
    assert_eq!(started.elapsed(), 10 * TAKES);
    assert_eq!(begun.load(Ordering::Relaxed), 10);
}

#[tokio::test(start_paused = true)]
async fn mended_with_the_value_kept_one_load_serves_all_but_the_first_three() {
    let cell = Arc::new(OnceLock::new());
    let flights = Arc::new(SingleFlight::new());
    let request = |counts| {
        let (cell, flights) = (Arc::clone(&cell), Arc::clone(&flights));
        async move {
            if let Some(value) = cell.get() {
                return *value;
            }
            let value = flights.run("table", || load(counts)).await.unwrap();
            *cell.get_or_init(|| value)
        }
    };
    assert_eq!(minute(request).await, (1_197, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn mended_the_load_goes_on_as_long_as_somebody_waits() {
    let flights = Arc::new(SingleFlight::new());
    let request = |counts| {
        let flights = Arc::clone(&flights);
        async move { flights.run("table", || load(counts)).await.unwrap() }
    };
    // Each load serves the two who wait at its end, and then the next begins.
    assert_eq!(minute(request).await, (480, 240, 240));

    let (flights, begun) = (Arc::new(SingleFlight::new()), Arc::new(AtomicU32::new(0)));
    let started = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..10 {
        let (flights, begun) = (Arc::clone(&flights), Arc::clone(&begun));
        callers.spawn(async move { flights.run("table", || fails(begun)).await.unwrap() });
    }
    assert_eq!(callers.join_all().await, [Err("no route"); 10]);
    assert_eq!(started.elapsed(), TAKES);
    assert_eq!(begun.load(Ordering::Relaxed), 1);
}

//! What a sender that is still in scope does to a receive loop.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use antipatterns::kept_sender::do_all;
use channels::work_queue::{Limits, work_queue};
use shutdown::close_by_drop::{StillHeld, close_by_drop};
use tokio::time::{Instant, sleep, timeout};

const TAKES: Duration = Duration::from_millis(100);
const DAY: Duration = Duration::from_secs(24 * 3_600);

#[tokio::test(start_paused = true)]
async fn harm_all_is_done_and_it_never_returns() {
    let done = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&done);
    let all = do_all(vec![1, 2, 3], move |job| {
        let count = Arc::clone(&count);
        async move {
            sleep(TAKES).await;
            count.fetch_add(1, Ordering::Relaxed);
            job
        }
    });
    timeout(DAY, all).await.unwrap_err();
    assert_eq!(
        done.load(Ordering::Relaxed),
        3,
        "since 100 ms after the start"
    );
}

#[tokio::test(start_paused = true)]
async fn mended_a_close_ends_the_loop_though_a_sender_is_kept() {
    let started = Instant::now();
    let limits = Limits {
        workers: NonZeroUsize::new(3).unwrap(),
        capacity: NonZeroUsize::new(16).unwrap(),
    };
    let (kept, mut outcomes) = work_queue(limits, async |job| {
        sleep(TAKES).await;
        job
    });
    for job in [1, 2, 3] {
        kept.push(job).await.unwrap();
    }
    outcomes.close();
    let mut all = Vec::new();
    while let Some(outcome) = outcomes.next().await {
        all.push(outcome.result.unwrap());
    }
    assert_eq!((all, started.elapsed()), (vec![1, 2, 3], TAKES));
    kept.push(4).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn mended_a_wait_for_the_last_drop_tells_that_one_is_kept() {
    let (kept, mut last_drop) = close_by_drop();
    let limit = 10 * TAKES;
    for _ in 0..3 {
        let guard = kept.clone();
        tokio::spawn(async move {
            sleep(TAKES).await;
            drop(guard);
        });
    }
    let holders = 1;
    assert_eq!(
        last_drop.wait(limit).await,
        Err(StillHeld { holders, limit })
    );
    drop(kept);
    assert_eq!(last_drop.wait(limit).await, Ok(()));
}

//! What becomes of a task whose handle nobody has.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use antipatterns::unowned_task::{in_background, start_refresher};
use tasks::supervisor::{Outcome, Restarts, StopLimits, Supervisor};
use tokio::runtime::Builder;
use tokio::task::yield_now;
use tokio::time::{interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const LIMITS: StopLimits = StopLimits {
    finish: MINUTE,
    abort: MINUTE,
};

fn restarts(limit: usize) -> Restarts {
    Restarts {
        limit,
        healthy_after: 2 * MINUTE,
        first_delay: Duration::from_secs(1),
        max_delay: MINUTE,
    }
}

/// A round of the refresher. The third fails.
async fn round(rounds: Arc<AtomicU32>, panics: bool) -> Result<(), &'static str> {
    yield_now().await; // a request
    let round = rounds.fetch_add(1, Ordering::Relaxed) + 1;
    assert!(!panics || round != 3, "malformed row");
    if round == 3 { Err("no route") } else { Ok(()) }
}

#[tokio::test(start_paused = true)]
async fn harm_after_one_panic_or_error_the_work_of_a_day_is_not_done() {
    for panics in [true, false] {
        let rounds = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&rounds);
        start_refresher(MINUTE, move || round(Arc::clone(&count), panics));
        sleep(DAY - MINUTE / 2).await; // and here is nobody who could know
        assert_eq!(rounds.load(Ordering::Relaxed), 3, "of 1,440");
    }
}

/// So many, each of which needs an instant, when `main` ends.
fn done_of(works: u32, start: fn(Work)) -> u32 {
    let done = Arc::new(AtomicU32::new(0));
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        for _ in 0..works {
            let done = Arc::clone(&done);
            start(Box::pin(async move {
                sleep(Duration::from_millis(10)).await;
                done.fetch_add(1, Ordering::Relaxed);
            }));
        }
        yield_now().await; // all have begun
    });
    drop(runtime);
    done.load(Ordering::Relaxed)
}

type Work = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

#[test]
fn harm_of_a_hundred_at_the_end_of_main_none_is_done() {
    assert_eq!(done_of(100, in_background), 0);
}

#[tokio::test(start_paused = true)]
async fn mended_it_starts_again_and_tells_how_it_ended() {
    for panics in [true, false] {
        let rounds = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&rounds);
        let mut supervisor = Supervisor::<&str>::new(&CancellationToken::new());
        supervisor.spawn("refresher", restarts(3), move |token: CancellationToken| {
            let count = Arc::clone(&count);
            async move {
                let mut ticks = interval(MINUTE);
                while token.run_until_cancelled(ticks.tick()).await.is_some() {
                    round(Arc::clone(&count), panics).await?;
                }
                Ok(())
            }
        });
        let day = timeout(DAY - MINUTE / 2, supervisor.next()).await;
        day.expect_err("it goes on");
        // The third round came at minute 2. A second later there was one more, then each minute.
        assert_eq!(rounds.load(Ordering::Relaxed), 1_441);
        let ended = supervisor.stop(LIMITS).await;
        assert!(matches!(ended[..], [ref it] if matches!(it.outcome, Outcome::Finished)));
    }
}

#[tokio::test(start_paused = true)]
async fn mended_work_that_is_owned_is_done_before_main_ends() {
    let done = Arc::new(AtomicU32::new(0));
    let mut supervisor = Supervisor::<&str>::new(&CancellationToken::new());
    for number in 0..100 {
        let done = Arc::clone(&done);
        supervisor.spawn(format!("mail {number}"), restarts(0), move |_| {
            let done = Arc::clone(&done);
            async move {
                sleep(Duration::from_millis(10)).await;
                done.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        });
    }
    assert_eq!(supervisor.stop(LIMITS).await.len(), 100);
    assert_eq!(done.load(Ordering::Relaxed), 100);
}

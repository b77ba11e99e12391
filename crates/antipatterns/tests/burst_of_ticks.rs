//! How often an interval ticks after it was held up.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::time::Duration;

use antipatterns::burst_of_ticks::poll_each;
use timers::missed_ticks::Ticker;
use tokio::time::{Instant, MissedTickBehavior, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn harm_a_call_of_a_minute_is_followed_by_sixty_at_once() {
    let started = Instant::now();
    let mut calls = Vec::new();
    let polling = poll_each(SECOND, async || {
        calls.push(started.elapsed());
        if calls.len() == 1 {
            sleep(60 * SECOND).await;
        }
    });
    timeout(63_500 * MS, polling).await.unwrap_err();
    let at = |second| calls.iter().filter(|at| **at == second * SECOND).count();
    assert_eq!([0, 60, 61, 62, 63].map(at), [1, 60, 1, 1, 1]);
    assert_eq!(calls.len(), 64);
}

#[tokio::test(start_paused = true)]
async fn harm_a_job_that_is_too_slow_for_an_hour_runs_12_000_times_when_it_is_fast() {
    let started = Instant::now();
    let hour = 3_600 * SECOND;
    let (mut slow, mut at_once) = (0, 0);
    let polling = poll_each(100 * MS, async || {
        if started.elapsed() < hour {
            slow += 1;
            sleep(150 * MS).await;
        } else if started.elapsed() == hour {
            at_once += 1;
        }
    });
    timeout(hour + SECOND, polling).await.unwrap_err();
    assert_eq!((slow, at_once), (24_000, 12_001), "one of them is due then");
}

#[tokio::test(start_paused = true)]
async fn harm_in_time_it_ticks_as_it_should_so_its_test_passes() {
    let mut calls = 0;
    let polling = poll_each(SECOND, async || {
        calls += 1;
        sleep(500 * MS).await;
    });
    timeout(60 * SECOND - MS, polling).await.unwrap_err();
    assert_eq!(calls, 60);
}

#[tokio::test(start_paused = true)]
async fn mended_one_call_follows_and_it_knows_how_many_were_missed() {
    for behavior in [MissedTickBehavior::Delay, MissedTickBehavior::Skip] {
        let started = Instant::now();
        let mut ticker = Ticker::new(started, SECOND, behavior).unwrap();
        ticker.tick().await;
        sleep(60 * SECOND).await;
        let tick = ticker.tick().await;
        assert_eq!((started.elapsed(), tick.missed), (60 * SECOND, 59));
        ticker.tick().await;
        assert_eq!(started.elapsed(), 61 * SECOND);
    }
}

//! What passes where nobody looks at the clock.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::future::pending;
use std::time::Duration;

use antipatterns::vacuous_paused_test::{
    check_that_it_backs_off, check_that_it_gives_up, check_that_it_runs,
};
use testing::paused_clock::{Timeline, takes};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{Instant, interval, sleep, timeout};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);

/// The code under test: a job each `period`.
fn job_each(period: Duration) -> Receiver<()> {
    let (run, runs) = channel(1);
    tokio::spawn(async move {
        let mut ticks = interval(period);
        loop {
            ticks.tick().await;
            if run.send(()).await.is_err() {
                return;
            }
        }
    });
    runs
}

#[tokio::test(start_paused = true)]
async fn harm_three_runs_come_though_the_period_is_a_year() {
    for (period, took) in [(100, 200), (31_536_000_000, 63_072_000_000)] {
        let started = Instant::now();
        check_that_it_runs(&mut job_each(Duration::from_millis(period))).await;
        assert_eq!(started.elapsed(), Duration::from_millis(took));
    }
}

#[tokio::test(start_paused = true)]
async fn harm_it_gives_up_though_the_limit_is_a_year() {
    for limit in [Duration::from_secs(1), YEAR] {
        let started = Instant::now();
        check_that_it_gives_up(timeout(limit, pending::<()>())).await;
        assert_eq!(started.elapsed(), limit);
    }
}

#[tokio::test(start_paused = true)]
async fn harm_it_backs_off_though_for_a_year() {
    for backoff in [Duration::from_millis(100), YEAR] {
        check_that_it_backs_off(sleep(backoff)).await;
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "100")]
async fn harm_of_a_backoff_only_one_that_is_too_short_is_found() {
    check_that_it_backs_off(sleep(Duration::from_millis(99))).await;
}

#[tokio::test(start_paused = true)]
async fn mended_a_history_tells_the_periods_apart() {
    for (period, is_right) in [(100, true), (101, false), (31_536_000_000, false)] {
        let mut runs = job_each(Duration::from_millis(period));
        let timeline = Timeline::start();
        for _ in 0..3 {
            runs.recv().await.unwrap();
            timeline.note("run");
        }
        let expected = [(0, "run"), (100, "run"), (200, "run")];
        assert_eq!(timeline.check(expected).is_ok(), is_right, "{period} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn mended_a_duration_is_compared_with_the_one_that_is_meant() {
    let second = Duration::from_secs(1);
    for (limit, is_right) in [(second, true), (2 * second, false), (YEAR, false)] {
        let gives_up = takes(second, timeout(limit, pending::<()>())).await;
        assert_eq!(
            gives_up.is_ok_and(|given| given.is_err()),
            is_right,
            "{limit:?}"
        );
    }
}

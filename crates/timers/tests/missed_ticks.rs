//! What the ticker promises, and what tokio's interval does after a stall.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::time::Duration;

use testing::every_await_point::{Outcome, every_await_point};
use timers::missed_ticks::{Tick, Ticker, ZeroPeriod};
use tokio::time::MissedTickBehavior::{self, Burst, Delay, Skip};
use tokio::time::{Instant, advance, interval, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);

/// `count` ticks, each with the instant at which it came in ms, after a first one at 0 and a stall.
async fn after_a_stall(
    behavior: MissedTickBehavior,
    period: Duration,
    stall: Duration,
    count: usize,
) -> Vec<(u128, Tick)> {
    let started = Instant::now();
    let mut ticker = Ticker::new(started, period, behavior).unwrap();
    ticker.tick().await;
    sleep(stall).await;
    let mut ticks = Vec::new();
    while ticks.len() < count {
        let tick = ticker.tick().await;
        ticks.push((started.elapsed().as_millis(), tick));
    }
    ticks
}

#[tokio::test(start_paused = true)]
async fn after_a_stall_each_behavior_ticks_at_the_instants_of_the_table() {
    let table = include_str!("../src/missed_ticks.rs");
    for (behavior, expected) in [
        (Burst, [350, 350, 350, 400, 500]),
        (Delay, [350, 450, 550, 650, 750]),
        (Skip, [350, 400, 500, 600, 700]),
    ] {
        let ticks = after_a_stall(behavior, 100 * MS, 350 * MS, 5).await;
        let instants: Vec<_> = ticks.into_iter().map(|(at, _)| at).collect();
        assert_eq!(instants, expected, "{behavior:?}");
        let row = format!("| {} |", expected.map(|at| at.to_string()).join(" "));
        let row = table.lines().find(|line| line.contains(&row));
        let name = format!("`{behavior:?}`");
        assert!(row.is_some_and(|row| row.contains(&name)), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tick_tells_how_late_it_is_and_how_many_were_missed() {
    let late = async |behavior| {
        let ticks = after_a_stall(behavior, 100 * MS, 350 * MS, 4).await;
        let told = |(_, tick): &(u128, Tick)| (tick.late_by.as_millis(), tick.missed);
        ticks.iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(late(Burst).await, [(250, 2), (150, 1), (50, 0), (0, 0)]);
    assert_eq!(late(Delay).await, [(250, 2), (0, 0), (0, 0), (0, 0)]);
    assert_eq!(late(Skip).await, [(250, 2), (0, 0), (0, 0), (0, 0)]);
}

#[tokio::test(start_paused = true)]
async fn no_period_is_neither_a_tick_nor_counted_as_missed() {
    for behavior in [Delay, Skip] {
        // Due at 100 to 1,000 ms: one came, nine were missed.
        let ticks = after_a_stall(behavior, 100 * MS, 1_030 * MS, 2).await;
        assert_eq!((ticks[0].0, ticks[0].1.missed), (1_030, 9), "{behavior:?}");
        assert_eq!(ticks[1].1.missed, 0, "{behavior:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_tick_comes_when_it_was_ordered() {
    let started = Instant::now();
    let mut ticker = Ticker::new(started + 30 * MS, 100 * MS, Skip).unwrap();
    for expected in [30, 130, 230] {
        let tick = ticker.tick().await;
        assert_eq!(started.elapsed(), expected * MS);
        assert_eq!((tick.due - started, tick.missed), (expected * MS, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_puts_the_next_tick_at_a_period_from_now() {
    let started = Instant::now();
    let mut ticker = Ticker::new(started, 100 * MS, Skip).unwrap();
    ticker.tick().await;
    sleep(70 * MS).await;
    ticker.restart();
    for expected in [170, 270] {
        ticker.tick().await;
        assert_eq!(started.elapsed(), expected * MS);
    }
}

#[tokio::test(start_paused = true)]
async fn a_period_of_zero_is_refused_and_an_enormous_one_ticks_once() {
    let started = Instant::now();
    let refused = Ticker::new(started, Duration::ZERO, Skip).unwrap_err();
    assert_eq!(refused, ZeroPeriod);
    assert!(refused.to_string().contains("at least a millisecond"));
    for behavior in [Burst, Delay, Skip] {
        let mut ticker = Ticker::new(started, Duration::MAX, behavior).unwrap();
        advance(LIMIT).await; // late, so that each behavior has to reckon with the period
        assert_eq!(ticker.tick().await.missed, 0);
        timeout(LIMIT, ticker.tick()).await.unwrap_err();
    }
}

/// The last instant that the clock can count.
fn last_instant() -> Instant {
    let mut last = Instant::now();
    for power in (0..=93).rev() {
        let step = Duration::from_nanos_u128(1 << power);
        while let Some(later) = last.checked_add(step) {
            last = later;
        }
    }
    last
}

#[tokio::test(start_paused = true)]
async fn a_first_tick_at_the_end_of_the_clock_is_no_panic() {
    for behavior in [Burst, Delay, Skip] {
        let mut ticker = Ticker::new(last_instant(), 100 * MS, behavior).unwrap();
        timeout(LIMIT, ticker.tick()).await.unwrap_err();
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_tick_is_not_taken() {
    let setup = async || {
        let mut ticker = Ticker::new(Instant::now(), 100 * MS, Skip).unwrap();
        ticker.tick().await;
        (Instant::now(), ticker)
    };
    let operation = async |(_, ticker): &mut (Instant, Ticker)| {
        ticker.tick().await;
    };
    let check = async |(started, mut ticker): (Instant, Ticker), outcome| {
        let next = match outcome {
            Outcome::Dropped(_) => 100 * MS,
            Outcome::Completed(()) => 200 * MS,
        };
        assert_eq!(ticker.tick().await.due - started, next);
    };
    let points = every_await_point(LIMIT, setup, operation, check).await;
    assert!(points.unwrap() >= 1);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "`period` must be non-zero")]
async fn harm_tokios_interval_panics_on_zero() {
    drop(interval(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn harm_tokios_default_bursts_after_an_hour() {
    let mut seconds = interval(Duration::from_secs(1));
    seconds.tick().await;
    sleep(Duration::from_secs(3_600)).await;
    let woken = Instant::now();
    let mut burst = 0;
    while timeout(Duration::ZERO, seconds.tick()).await.is_ok() {
        burst += 1;
        tokio::task::yield_now().await; // for a fresh budget: see the harm of none in `deadline`
    }
    assert_eq!(burst, 3_600);
    assert!(woken.elapsed() <= MS, "{:?}", woken.elapsed());
}

#[tokio::test(start_paused = true)]
async fn harm_tokios_tick_returns_when_it_was_due() {
    let mut interval = interval(100 * MS);
    interval.tick().await;
    sleep(350 * MS).await;
    let returned = interval.tick().await;
    assert_eq!(Instant::now() - returned, 250 * MS);
}

#[tokio::test(start_paused = true)]
async fn harm_up_to_5_ms_late_counts_as_punctual() {
    for behavior in [Delay, Skip] {
        let instants = async |stall| {
            let ticks = after_a_stall(behavior, MS, stall, 8).await;
            ticks.into_iter().map(|(at, _)| at).collect::<Vec<_>>()
        };
        // The first of them was due at 1 ms.
        assert_eq!(instants(6 * MS).await, [6, 6, 6, 6, 6, 6, 7, 8]);
        assert_eq!(instants(7 * MS).await, [7, 8, 9, 10, 11, 12, 13, 14]);
    }
}

#[tokio::test(start_paused = true)]
async fn harm_a_sleep_in_a_loop_drifts() {
    let work = || sleep(10 * MS);
    let started = Instant::now();
    for _ in 0..10 {
        work().await;
        sleep(100 * MS).await;
    }
    assert_eq!(started.elapsed(), 1_100 * MS);

    let started = Instant::now();
    let mut ticker = Ticker::new(started + 100 * MS, 100 * MS, Skip).unwrap();
    for _ in 0..10 {
        work().await;
        ticker.tick().await;
    }
    assert_eq!(started.elapsed(), 1_000 * MS);
}

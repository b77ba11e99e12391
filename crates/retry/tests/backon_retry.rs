//! What the retries with backon promise, and what backon itself does.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::future::{pending, ready};
use std::num::NonZeroUsize;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder, Retryable};
use retry::backon_retry::{Policy, RetryError, retry};
use testing::every_await_point::every_await_point;
use tokio::time::{Instant, sleep, timeout};

const BASE: Duration = Duration::from_millis(100);
const CAP: Duration = Duration::from_secs(2);

const POLICY: Policy = Policy {
    base: BASE,
    cap: CAP,
    tries: NonZeroUsize::new(5).unwrap(),
    total: Duration::MAX,
};

fn always(_: &&str) -> Option<Duration> {
    Some(Duration::ZERO)
}

fn silently(_: &&str, _: Duration) {}

/// tokio's timers count milliseconds, and are never early.
fn assert_at(elapsed: Duration, expected: Duration) {
    assert!(
        elapsed >= expected && elapsed < expected + Duration::from_millis(5),
        "{elapsed:?}, not {expected:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn it_tries_again_after_each_wait_it_tells_until_it_succeeds() {
    let started = Instant::now();
    let (mut at, mut told) = (Vec::new(), Vec::new());
    let tell = |error: &&'static str, wait| told.push((*error, wait));
    let result = retry(&POLICY, always, tell, || {
        at.push(started.elapsed());
        ready(if at.len() < 4 { Err("down") } else { Ok("up") })
    })
    .await;
    assert_eq!(result, Ok("up"));
    assert_eq!((at.len(), told.len()), (4, 3));
    let mut next = Duration::ZERO;
    for (index, elapsed) in at.into_iter().enumerate() {
        assert_at(elapsed, next);
        if let Some((error, wait)) = told.get(index) {
            assert_eq!(*error, "down");
            next += *wait;
        }
    }
}

#[test]
fn each_wait_has_its_random_part_and_none_is_above_the_cap() {
    // The last one would be 1600 ms, but with its random part it must stay below 2 s.
    let least = [100, 200, 400, 800, 1000, 1000].map(Duration::from_millis);
    let mut extremes = least.map(|_| (CAP, Duration::ZERO));
    let policy = Policy {
        tries: NonZeroUsize::new(7).unwrap(),
        ..POLICY
    };
    for seed in 0..1000 {
        let waits = policy.builder().with_jitter_seed(seed).build();
        for ((low, high), wait) in extremes.iter_mut().zip(waits) {
            (*low, *high) = ((*low).min(wait), (*high).max(wait));
        }
    }
    for ((low, high), least) in extremes.into_iter().zip(least) {
        let tolerance = least / 50; // backon counts in f32
        assert!(
            low + tolerance > least && low < least + tolerance,
            "{low:?}"
        );
        assert!(high + tolerance > 2 * least && high <= CAP, "{high:?}");
    }
}

#[test]
fn the_hundredth_wait_neither_overflows_nor_passes_the_cap() {
    for (base, cap) in [
        (BASE, CAP),
        (Duration::from_nanos(1), Duration::from_secs(3600)),
        (Duration::from_secs(10), Duration::from_secs(1)), // the cap is above the base
        (Duration::MAX, CAP),
    ] {
        let policy = Policy {
            base,
            cap,
            tries: NonZeroUsize::MAX,
            ..POLICY
        };
        let waits: Vec<_> = policy.builder().build().take(1000).collect();
        assert!(waits.iter().all(|wait| *wait <= cap), "{base:?}");
        assert!(
            waits.iter().skip(99).all(|wait| *wait >= cap * 49 / 100),
            "{base:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn it_makes_as_many_calls_as_allowed_and_returns_the_last_error() {
    let mut calls = 0;
    let result = retry(&POLICY, always, silently, || {
        calls += 1;
        ready(Err::<(), _>(if calls == 5 { "last" } else { "down" }))
    })
    .await;
    assert_eq!((calls, result), (5, Err(RetryError::Failed("last"))));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_not_to_be_tried_again_ends_it_at_once_and_is_not_told() {
    let started = Instant::now();
    let judge = |error: &&str| (*error != "not found").then_some(Duration::ZERO);
    let mut told = Vec::new();
    let result = retry(
        &POLICY,
        judge,
        |error, _| told.push(*error),
        || ready(Err::<(), _>("not found")),
    )
    .await;
    assert_eq!(result, Err(RetryError::Failed("not found")));
    assert_eq!((started.elapsed(), told.len()), (Duration::ZERO, 0));
}

#[tokio::test(start_paused = true)]
async fn what_the_other_side_asks_for_is_waited_beside_the_random_wait() {
    let asked = Duration::from_secs(30);
    let (mut told, started) = (Vec::new(), Instant::now());
    let policy = Policy {
        tries: NonZeroUsize::new(2).unwrap(),
        ..POLICY
    };
    let tell = |_: &&str, wait| told.push(wait);
    let busy = || ready(Err::<(), _>("busy"));
    retry(&policy, |_| Some(asked), tell, busy)
        .await
        .unwrap_err();
    assert!(
        told[0] >= asked + BASE && told[0] <= asked + 2 * BASE,
        "{told:?}"
    );
    assert_at(started.elapsed(), told[0]);
}

#[tokio::test(start_paused = true)]
async fn the_time_in_all_ends_a_silent_try_and_a_long_wait() {
    let total = Duration::from_secs(10);
    let policy = Policy { total, ..POLICY };
    let started = Instant::now();
    let silent = || pending::<Result<(), &str>>();
    let ended = retry(&policy, always, silently, silent).await;
    assert_eq!(ended, Err(RetryError::OutOfTime(total)));
    assert_at(started.elapsed(), total);

    let started = Instant::now();
    let judge = |_: &&str| Some(Duration::MAX);
    let ended = retry(&policy, judge, silently, || ready(Err::<(), _>("busy"))).await;
    assert_eq!(ended, Err(RetryError::OutOfTime(total)));
    assert_at(started.elapsed(), total);
}

#[tokio::test(start_paused = true)]
async fn dropped_anywhere_it_has_dropped_the_try_under_way() {
    let running = Arc::new(());
    let points = every_await_point(
        Duration::from_secs(3600),
        async || Arc::clone(&running),
        async |running| {
            let mut tries = 0;
            retry(&POLICY, always, silently, || {
                tries += 1;
                let (running, attempt) = (Arc::clone(running), tries);
                async move {
                    let _running = running;
                    sleep(BASE).await;
                    if attempt < 3 { Err("down") } else { Ok(()) }
                }
            })
            .await
        },
        async |here, _| {
            drop(here);
            assert_eq!(Arc::strong_count(&running), 1, "a try runs on");
        },
    )
    .await;
    assert_eq!(
        points.unwrap(),
        10,
        "three tries, two waits, each for the budget and the timer"
    );
}

#[tokio::test(start_paused = true)]
async fn dropped_during_a_wait_it_makes_no_other_try() {
    let calls = AtomicUsize::new(0);
    let asked = Duration::from_secs(1000);
    let busy = retry(
        &POLICY,
        |_| Some(asked),
        silently,
        || {
            calls.fetch_add(1, Ordering::SeqCst);
            ready(Err::<(), _>("busy"))
        },
    );
    timeout(Duration::from_secs(1), busy).await.unwrap_err();
    sleep(2 * asked).await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[test]
fn harm_the_default_has_no_jitter_and_three_retries_are_four_calls() {
    let waits = || ExponentialBuilder::default().build().collect::<Vec<_>>();
    assert_eq!(waits(), [1, 2, 4].map(Duration::from_secs));
    assert_eq!(waits(), waits(), "all clients alike");
}

#[test]
fn harm_jitter_passes_the_maximum_by_as_much_again() {
    let builder = ExponentialBuilder::default()
        .with_jitter()
        .with_max_delay(CAP);
    let highest = (0..1000)
        .flat_map(|seed| builder.with_jitter_seed(seed).build())
        .max();
    assert!(
        highest.unwrap() > CAP * 19 / 10 && highest.unwrap() <= 2 * CAP,
        "{highest:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn harm_the_total_delay_counts_no_call() {
    let started = Instant::now();
    let total = Duration::from_secs(3);
    let builder = ExponentialBuilder::default().with_total_delay(Some(total));
    let slow = async || {
        sleep(Duration::from_secs(60)).await;
        Err::<(), _>("down")
    };
    slow.retry(builder).await.unwrap_err();
    // Three calls, and two waits of 1 s and 2 s.
    assert_eq!(started.elapsed(), Duration::from_secs(3 * 60 + 3));
}

#[test]
fn harm_the_total_delay_without_a_maximum_overflows() {
    let builder = ExponentialBuilder::default()
        .with_factor(f32::MAX)
        .without_max_delay()
        .with_total_delay(Some(Duration::MAX));
    catch_unwind(|| builder.build().count()).expect_err("no overflow");
}

#[tokio::test(start_paused = true)]
async fn harm_without_a_judge_what_cannot_succeed_is_tried_four_times() {
    let calls = AtomicUsize::new(0);
    let not_found = async || {
        calls.fetch_add(1, Ordering::SeqCst);
        Err::<(), _>("not found")
    };
    not_found
        .retry(ExponentialBuilder::default())
        .await
        .unwrap_err();
    assert_eq!(calls.load(Ordering::SeqCst), 4);
}

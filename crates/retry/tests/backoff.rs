//! What the retries with backoff promise.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::collections::HashMap;
use std::future::{pending, ready};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use errors::retryable::{Retry, Retryable};
use retry::backoff::{Policy, RetryError, Waits, retry};
use testing::every_await_point::{Cut, Outcome, every_await_point};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const BASE: Duration = Duration::from_millis(100);
const CAP: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(3600);

const POLICY: Policy = Policy {
    base: BASE,
    cap: CAP,
    tries: number(5),
    total: Duration::MAX,
};

const fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn seeded() -> fastrand::Rng {
    fastrand::Rng::with_seed(7)
}

/// What the seeded generator makes of the policy.
fn waits(policy: &Policy, how_many: usize) -> Vec<Duration> {
    let mut waits = Waits::new(policy, seeded());
    (0..how_many).map(|_| waits.draw()).collect()
}

fn always(_: &&str) -> Option<Duration> {
    Some(Duration::ZERO)
}

/// tokio's timers count milliseconds, and are never early.
fn assert_at(elapsed: Duration, expected: Duration) {
    assert!(
        elapsed >= expected && elapsed < expected + Duration::from_millis(5),
        "{elapsed:?}, not {expected:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn it_tries_again_after_each_drawn_wait_until_it_succeeds() {
    let started = Instant::now();
    let mut at = Vec::new();
    let result = retry(&POLICY, seeded(), always, |attempt| {
        at.push((attempt.get(), started.elapsed()));
        ready(if attempt.get() < 4 {
            Err("down")
        } else {
            Ok("up")
        })
    })
    .await;
    assert_eq!(result, Ok("up"));
    let waits = waits(&POLICY, 3);
    assert!(waits.iter().all(|wait| !wait.is_zero()));
    for (index, (attempt, elapsed)) in at.iter().enumerate() {
        assert_eq!(*attempt as usize, index + 1);
        assert_at(*elapsed, waits.iter().take(index).sum());
    }
    assert_eq!(at.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn it_stops_after_the_last_try_and_returns_its_error_without_waiting() {
    let started = Instant::now();
    let mut calls = 0;
    let result = retry(&POLICY, seeded(), always, |_| {
        calls += 1;
        ready(Err::<(), _>(if calls == 5 { "last" } else { "down" }))
    })
    .await;
    let expected = RetryError::Exhausted {
        tries: number(5),
        source: "last",
    };
    assert_eq!((calls, result), (5, Err(expected)));
    assert_at(started.elapsed(), waits(&POLICY, 4).iter().sum());
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_not_to_be_tried_again_ends_it_at_once() {
    let started = Instant::now();
    let judge = |error: &&str| (*error != "not found").then_some(Duration::ZERO);
    let result = retry(&POLICY, seeded(), judge, async |attempt| {
        Err::<(), _>(if attempt.get() == 1 {
            "down"
        } else {
            "not found"
        })
    })
    .await;
    let expected = RetryError::Permanent {
        tries: number(2),
        source: "not found",
    };
    assert_eq!(result, Err(expected));
    assert_at(started.elapsed(), waits(&POLICY, 1).iter().sum());
}

#[tokio::test(start_paused = true)]
async fn what_the_other_side_asks_for_is_waited_beside_the_random_wait() {
    let started = Instant::now();
    let asked = Duration::from_secs(30); // above the cap, and still obeyed
    let policy = Policy {
        tries: number(2),
        ..POLICY
    };
    retry(
        &policy,
        seeded(),
        |_| Some(asked),
        async |_| Err::<(), _>("busy"),
    )
    .await
    .unwrap_err();
    let drawn = waits(&policy, 1)[0];
    assert!(!drawn.is_zero());
    assert_at(started.elapsed(), asked + drawn);
}

#[tokio::test(start_paused = true)]
async fn the_time_in_all_cuts_off_a_silent_try_and_keeps_the_error_before_it() {
    let started = Instant::now();
    let total = Duration::from_secs(10);
    let policy = Policy { total, ..POLICY };
    let result = retry(&policy, seeded(), always, async |attempt| {
        if attempt.get() == 1 {
            return Err("down");
        }
        pending::<Result<(), _>>().await
    })
    .await;
    let expected = RetryError::OutOfTime {
        tries: number(2),
        total,
        source: Some("down"),
    };
    assert_eq!(result, Err(expected));
    assert_at(started.elapsed(), total);
}

#[tokio::test(start_paused = true)]
async fn a_first_try_that_is_silent_ends_without_an_error_of_its_own() {
    let total = Duration::from_secs(10);
    let policy = Policy { total, ..POLICY };
    let silent = async |_| pending::<Result<(), &str>>().await;
    let expected = RetryError::OutOfTime {
        tries: number(1),
        total,
        source: None,
    };
    assert_eq!(
        retry(&policy, seeded(), always, silent).await,
        Err(expected)
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_would_end_too_late_is_not_begun() {
    for (asked, total) in [
        (Duration::from_secs(60), Duration::from_secs(10)),
        (Duration::MAX, Duration::from_secs(10)),
        (Duration::MAX, Duration::MAX),
    ] {
        let started = Instant::now();
        let policy = Policy { total, ..POLICY };
        let judge = |_: &&str| Some(asked);
        let result = retry(&policy, seeded(), judge, async |_| Err::<(), _>("busy")).await;
        let expected = RetryError::OutOfTime {
            tries: number(1),
            total,
            source: Some("busy"),
        };
        assert_eq!(result, Err(expected));
        assert_eq!(started.elapsed(), Duration::ZERO);
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
async fn a_time_in_all_until_the_end_of_the_clock_is_no_panic() {
    let total = last_instant() - Instant::now();
    let policy = Policy { total, ..POLICY };
    let silent = async |_| pending::<Result<(), &str>>().await;
    let tries = retry(&policy, seeded(), always, silent);
    timeout(LIMIT, tries).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_wait_until_the_end_of_the_clock_is_not_begun() {
    let asked = last_instant() - Instant::now();
    let policy = Policy {
        base: Duration::ZERO, // the asked time is the wait
        ..POLICY
    };
    let judge = |_: &&str| Some(asked);
    let result = retry(&policy, seeded(), judge, async |_| Err::<(), _>("busy")).await;
    let expected = RetryError::OutOfTime {
        tries: number(1),
        total: Duration::MAX,
        source: Some("busy"),
    };
    assert_eq!(result, Err(expected));
}

#[tokio::test(start_paused = true)]
async fn a_try_that_could_still_begin_in_time_is_made() {
    let total = Duration::from_secs(10);
    let policy = Policy {
        base: Duration::ZERO, // the asked time is the wait
        total,
        ..POLICY
    };
    for (asked, expected) in [(total - Duration::from_millis(1), 2), (total, 1)] {
        let judge = |_: &&str| Some(asked);
        let result = retry(&policy, seeded(), judge, async |_| Err::<(), _>("busy")).await;
        let Err(RetryError::OutOfTime { tries, .. }) = result else {
            panic!("{result:?}")
        };
        assert_eq!(tries.get(), expected, "{asked:?}");
    }
}

#[test]
fn each_wait_is_between_zero_and_its_ceiling_and_uses_all_of_that_range() {
    let ceilings = [100, 200, 400, 800, 1600, 2000, 2000, 2000].map(Duration::from_millis);
    let mut extremes = ceilings.map(|ceiling| (ceiling, Duration::ZERO));
    for seed in 0..1000 {
        let mut waits = Waits::new(&POLICY, fastrand::Rng::with_seed(seed));
        for ((least, most), ceiling) in extremes.iter_mut().zip(ceilings) {
            let wait = waits.draw();
            assert!(wait <= ceiling, "{wait:?} of {ceiling:?}");
            (*least, *most) = ((*least).min(wait), (*most).max(wait));
        }
    }
    for ((least, most), ceiling) in extremes.iter().zip(ceilings) {
        assert!(
            *least < ceiling / 50 && *most > ceiling * 49 / 50,
            "{least:?} to {most:?}"
        );
    }
}

#[test]
fn the_hundredth_wait_neither_overflows_nor_passes_the_cap() {
    for (base, cap) in [
        (BASE, CAP),
        (Duration::from_nanos(1), Duration::from_secs(3600)),
        (Duration::from_secs(10), Duration::from_secs(1)), // the cap is above the base
        (Duration::MAX, CAP),
        (Duration::ZERO, CAP),
    ] {
        let policy = Policy {
            base,
            cap,
            ..POLICY
        };
        let mut waits = Waits::new(&policy, seeded());
        let all: Vec<_> = (0..1000).map(|_| waits.draw()).collect();
        assert!(all.iter().all(|wait| *wait <= cap), "{base:?}");
        if !base.is_zero() {
            assert!(
                all.iter().skip(99).any(|wait| *wait > cap / 2),
                "{base:?} never gets there"
            );
        }
    }
    let policy = Policy {
        base: Duration::MAX,
        cap: Duration::MAX,
        ..POLICY
    };
    let centuries = Duration::from_secs(100 * 365 * 86_400);
    assert!(waits(&policy, 100).iter().any(|wait| *wait > centuries));
}

/// How many of 1,000 clients, all of which fail at once, make their `attempt`-th call within the
/// same 10 ms.
async fn most_in_step(attempt: u32, waits: impl Fn(u64) -> Vec<Duration>) -> usize {
    let started = Instant::now();
    let arrivals = Arc::new(Mutex::new(HashMap::<u128, usize>::new()));
    let mut clients = JoinSet::new();
    for client in 0..1000 {
        let (waits, arrivals) = (waits(client), Arc::clone(&arrivals));
        clients.spawn(async move {
            for wait in waits.into_iter().take(attempt as usize - 1) {
                sleep(wait).await;
            }
            let at = started.elapsed().as_millis() / 10;
            *arrivals.lock().unwrap().entry(at).or_default() += 1;
        });
    }
    clients.join_all().await;
    let arrivals = arrivals.lock().unwrap();
    arrivals.values().copied().max().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_thousand_clients_do_not_march_in_step() {
    let drawn = |client| {
        let mut waits = Waits::new(&POLICY, fastrand::Rng::with_seed(client));
        (0..4).map(|_| waits.draw()).collect()
    };
    let most = [
        most_in_step(2, drawn).await,
        most_in_step(3, drawn).await,
        most_in_step(5, drawn).await,
    ];
    // Spread evenly over 100 ms the second call makes 100 in each 10 ms; later ones spread wider.
    assert!(most[0] < 140 && most[1] < 80 && most[2] < 30, "{most:?}");
}

#[tokio::test(start_paused = true)]
async fn harm_without_chance_all_thousand_arrive_together_each_time() {
    let exponential = |_| (0..4).map(|doubled| BASE * 2_u32.pow(doubled)).collect();
    for attempt in [2, 3, 5] {
        assert_eq!(most_in_step(attempt, exponential).await, 1000);
    }
}

#[tokio::test(start_paused = true)]
async fn harm_the_same_seed_everywhere_is_no_chance_at_all() {
    let alike = |_| waits(&POLICY, 4);
    assert_eq!(most_in_step(5, alike).await, 1000);
}

#[test]
fn harm_a_power_of_two_overflows_at_the_33rd_try() {
    assert_eq!(2_u32.checked_pow(31), Some(1 << 31));
    assert_eq!(2_u32.checked_pow(32), None, "a panic in debug builds");
    assert_eq!(
        BASE * 2_u32.wrapping_pow(32),
        Duration::ZERO,
        "no wait in release builds"
    );
}

#[tokio::test(start_paused = true)]
async fn dropped_during_a_wait_it_ends_at_once_and_makes_no_other_try() {
    let started = Instant::now();
    let asked = Duration::from_secs(1000);
    let mut calls = 0;
    let busy = retry(
        &POLICY,
        seeded(),
        |_| Some(asked),
        |_| {
            calls += 1;
            ready(Err::<(), _>("busy"))
        },
    );
    timeout(Duration::from_secs(1), busy).await.unwrap_err();
    assert_at(started.elapsed(), Duration::from_secs(1));
    sleep(2 * asked).await;
    assert_eq!(calls, 1);
}

#[tokio::test(start_paused = true)]
async fn dropped_anywhere_it_has_dropped_the_try_under_way() {
    let running = Arc::new(());
    let points = every_await_point(
        LIMIT,
        async || (Arc::clone(&running), Vec::new()),
        async |(running, begun)| {
            retry(&POLICY, seeded(), always, |attempt| {
                begun.push(attempt.get());
                let running = Arc::clone(running);
                async move {
                    let _running = running;
                    sleep(BASE).await;
                    if attempt.get() < 3 {
                        Err("down")
                    } else {
                        Ok(())
                    }
                }
            })
            .await
        },
        async |(running_here, begun), outcome| {
            drop(running_here);
            assert_eq!(Arc::strong_count(&running), 1, "a try runs on");
            let tries = begun.len();
            let expected = match outcome {
                Outcome::Completed(result) => {
                    result.unwrap();
                    3..=3
                }
                Outcome::Dropped(Cut::Suspended(_) | Cut::Woken(_)) => 1..=3,
            };
            assert!(expected.contains(&tries), "{tries}");
        },
    )
    .await
    .unwrap();
    // Each of three tries sleeps, and so do the two waits between them; each suspends for the budget
    // as well.
    assert_eq!(points, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_can_be_spawned_with_what_the_caller_moves_in() {
    let name = String::from("up");
    let task = tokio::spawn(async move {
        let name = &name;
        let policy = Policy {
            base: Duration::ZERO,
            ..POLICY
        };
        retry(&policy, fastrand::Rng::new(), always, async |attempt| {
            tokio::task::yield_now().await;
            if attempt.get() < 3 {
                Err("down")
            } else {
                Ok(name.clone())
            }
        })
        .await
    });
    assert_eq!(task.await.unwrap().unwrap(), "up");
}

#[tokio::test(start_paused = true)]
async fn it_takes_the_answer_of_an_error_that_knows_whether_to_try_again() {
    use std::io::{Error, ErrorKind};
    let judge = |error: &Error| error.retry().wait_at_least(false);
    let mut kinds = [ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset].into_iter();
    let result = retry(&POLICY, seeded(), judge, |_| {
        ready(Err::<(), _>(Error::from(kinds.next().unwrap())))
    })
    .await;
    // Refused: nothing was done. Reset: it may have been.
    let RetryError::Permanent { tries, source } = result.unwrap_err() else {
        panic!("tried again")
    };
    assert_eq!((tries.get(), source.retry()), (2, Retry::IfIdempotent));
}

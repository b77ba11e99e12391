//! What the rate limiter promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use sync::limit_rate::{NotYet, OverBurst, Rate, RateLimiter, ZeroPeriod};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, interval, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn count(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn per_second(calls: u32, burst: u32) -> RateLimiter {
    RateLimiter::new(Rate {
        calls: count(calls),
        period: SECOND,
        burst: count(burst),
    })
    .unwrap()
}

fn not_yet(millis: u32) -> Result<(), NotYet> {
    Err(NotYet { after: millis * MS })
}

/// How many calls are allowed at this instant. Takes them.
fn allowed_now(limiter: &RateLimiter) -> u32 {
    let mut allowed = 0;
    while limiter.try_now().is_ok() {
        allowed += 1;
    }
    allowed
}

/// At which instants, in ms from now, this many calls begin, one after the other.
async fn instants(limiter: &RateLimiter, calls: usize) -> Vec<u128> {
    let started = Instant::now();
    let mut instants = Vec::new();
    while instants.len() < calls {
        limiter.ready().await;
        instants.push(started.elapsed().as_millis());
    }
    instants
}

#[tokio::test(start_paused = true)]
async fn the_burst_comes_at_once_and_the_rest_evenly() {
    let limiter = per_second(10, 3);
    assert_eq!(instants(&limiter, 7).await, [0, 0, 0, 100, 200, 300, 400]);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_one_spaces_all_calls() {
    let limiter = per_second(10, 1);
    assert_eq!(instants(&limiter, 4).await, [0, 100, 200, 300]);
}

#[tokio::test(start_paused = true)]
async fn a_short_pause_earns_what_the_rate_gives() {
    let limiter = per_second(10, 3);
    assert_eq!(allowed_now(&limiter), 3);
    advance(250 * MS).await;
    // Two and a half are there.
    assert_eq!(instants(&limiter, 4).await, [0, 0, 50, 150]);
}

#[tokio::test(start_paused = true)]
async fn a_year_without_calls_earns_the_burst_and_no_more() {
    let limiter = per_second(10, 3);
    assert_eq!(allowed_now(&limiter), 3);
    advance(YEAR).await;
    assert_eq!(instants(&limiter, 5).await, [0, 0, 0, 100, 200]);
}

#[tokio::test(start_paused = true)]
async fn after_a_jump_of_the_clock_the_waiters_get_the_burst_and_no_more() {
    let limiter = per_second(10, 3);
    assert_eq!(allowed_now(&limiter), 3);
    let started = Instant::now();
    let mut waiters = JoinSet::new();
    for _ in 0..6 {
        let limiter = limiter.clone();
        waiters.spawn(async move {
            limiter.ready().await;
            started.elapsed()
        });
    }
    tokio::task::yield_now().await;
    let hour = 3_600 * SECOND;
    advance(hour).await;
    let mut begun = waiters.join_all().await;
    begun.sort();
    let after_the_jump = begun.iter().map(|begun| (*begun - hour).as_millis());
    assert_eq!(after_the_jump.collect::<Vec<_>>(), [0, 0, 0, 100, 200, 300]);
}

#[tokio::test(start_paused = true)]
async fn a_second_sees_the_calls_and_the_burst_together_and_no_more() {
    for (calls, burst, most) in [(100, 100, 200), (90, 10, 100)] {
        let instants = instants(&per_second(calls, burst), 400).await;
        let in_a_second = |from: &u128| {
            let span = *from..=*from + 1_000;
            instants.iter().filter(|at| span.contains(at)).count()
        };
        assert_eq!(instants.iter().map(in_a_second).max(), Some(most));
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_calls_at_an_odd_rate_do_not_drift() {
    // A seventh of a second is no whole number of nanoseconds.
    let limiter = per_second(7, 2);
    let instants = instants(&limiter, 10_000).await;
    for (number, instant) in (0_u128..).zip(instants) {
        // From the third on, a timer's whole millisecond after the exact instant.
        let exact = (number.saturating_sub(1) * 1_000).div_ceil(7);
        assert_eq!(instant, exact, "call {number}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_less_than_a_millisecond_between_them_calls_come_in_groups_and_none_is_lost() {
    let limiter = per_second(3_000, 4);
    let instants = instants(&limiter, 30_010).await;
    assert_eq!(instants[..11], [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3]);
    let within = |from, to| {
        let in_span = |at: &&u128| from <= **at && **at < to;
        instants.iter().filter(in_span).count()
    };
    assert_eq!(within(1, 10_001), 30_000);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_one_loses_what_timers_are_late_and_a_larger_one_does_not() {
    let in_ten_seconds = async |calls, burst| {
        let limiter = per_second(calls, burst);
        let mut begun = 0_u32;
        let count = async {
            loop {
                limiter.ready().await;
                begun += 1;
            }
        };
        timeout(10 * SECOND, count).await.unwrap_err();
        begun / 10
    };
    assert_eq!(in_ten_seconds(300, 1).await, 250);
    assert_eq!(in_ten_seconds(300, 2).await, 300);
    assert_eq!(in_ten_seconds(3_000, 1).await, 1_000);
    assert_eq!(in_ten_seconds(3_000, 4).await, 3_000);
}

#[tokio::test(start_paused = true)]
async fn waiters_get_their_turn_in_the_order_in_which_they_came() {
    let limiter = per_second(10, 1);
    assert_eq!(allowed_now(&limiter), 1);
    let mut waiters = JoinSet::new();
    for number in 0..10 {
        let limiter = limiter.clone();
        waiters.spawn(async move {
            sleep((9 - number) * MS).await; // they come in reverse
            limiter.ready().await;
            number
        });
    }
    let mut order = Vec::new();
    while let Some(number) = waiters.join_next().await {
        order.push(number.unwrap());
    }
    assert_eq!(order, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_last_of_a_thousand_waits_ten_seconds_at_a_hundred_a_second() {
    let limiter = per_second(100, 1);
    assert_eq!(allowed_now(&limiter), 1);
    let started = Instant::now();
    let mut waiters = JoinSet::new();
    for _ in 0..1_000 {
        let limiter = limiter.clone();
        waiters.spawn(async move { limiter.ready().await });
    }
    waiters.join_all().await;
    assert_eq!(started.elapsed(), 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn clones_share_the_rate() {
    let limiter = per_second(10, 3);
    let clone = limiter.clone();
    let elsewhere = tokio::spawn(async move { allowed_now(&clone) });
    assert_eq!(elsewhere.await.unwrap(), 3);
    assert_eq!(limiter.try_now(), not_yet(100));
}

#[tokio::test(start_paused = true)]
async fn a_large_request_is_not_starved_by_small_ones() {
    let limiter = per_second(10, 5);
    assert_eq!(allowed_now(&limiter), 5);
    let started = Instant::now();
    let small = limiter.clone();
    let mut loops = JoinSet::new();
    loops.spawn(async move {
        sleep(MS).await;
        loop {
            small.ready().await;
            assert!(started.elapsed() >= 600 * MS, "it overtook");
        }
    });
    let impatient = limiter.clone();
    loops.spawn(async move {
        sleep(MS).await;
        loop {
            assert!(impatient.try_now().is_err(), "it overtook");
            sleep(MS).await;
        }
    });
    limiter.ready_for(count(5)).await.unwrap();
    assert_eq!(started.elapsed(), 500 * MS);
    sleep(50 * MS).await;
    assert!(loops.try_join_next().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_comes_back_when_it_was_told_to() {
    let limiter = per_second(7, 2);
    assert_eq!(allowed_now(&limiter), 2);
    let NotYet { after } = limiter.try_now().unwrap_err();
    assert_eq!(after, Duration::from_nanos(142_857_143)); // rounded up
    advance(after - Duration::from_nanos(1)).await;
    assert_eq!(
        limiter.try_now().unwrap_err().after,
        Duration::from_nanos(1)
    );
    advance(Duration::from_nanos(1)).await;
    assert_eq!(limiter.try_now(), Ok(()));
    assert_eq!(
        limiter.try_now().unwrap_err().to_string(),
        "over the rate: try again in 142.857143ms"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_counts_nothing() {
    let limiter = per_second(10, 3);
    assert_eq!(allowed_now(&limiter), 3);
    for _ in 0..1_000 {
        assert_eq!(limiter.try_now(), not_yet(100));
        assert_eq!(limiter.try_now_for(count(3)), Ok(not_yet(300)));
    }
    assert_eq!(instants(&limiter, 2).await, [100, 200]);
}

#[tokio::test(start_paused = true)]
async fn try_now_does_not_overtake_and_tells_the_time_after_all_who_wait() {
    let limiter = per_second(10, 3);
    assert_eq!(allowed_now(&limiter), 3);
    let started = Instant::now();
    let waits = async {
        limiter.ready_for(count(2)).await.unwrap();
        started.elapsed()
    };
    let waits_too = async {
        limiter.ready().await;
        started.elapsed()
    };
    let tries = async {
        assert_eq!(limiter.try_now(), not_yet(400));
        sleep(150 * MS).await; // one is there, and the first of the waiters needs two
        assert_eq!(limiter.try_now(), not_yet(250));
        sleep(250 * MS).await;
        assert_eq!(limiter.try_now(), Ok(()));
    };
    let (waits, waits_too, ()) = tokio::join!(waits, waits_too, tries);
    assert_eq!((waits, waits_too), (200 * MS, 300 * MS));
    assert_eq!(started.elapsed(), 400 * MS);
}

#[tokio::test(start_paused = true)]
async fn several_at_once_are_counted_together() {
    let limiter = per_second(10, 5);
    assert_eq!(limiter.try_now_for(count(5)), Ok(Ok(())));
    assert_eq!(limiter.try_now_for(count(5)), Ok(not_yet(500)));
    let started = Instant::now();
    limiter.ready_for(count(2)).await.unwrap();
    assert_eq!(started.elapsed(), 200 * MS);
    limiter.ready_for(count(5)).await.unwrap();
    assert_eq!(started.elapsed(), 700 * MS);
}

#[tokio::test(start_paused = true)]
async fn more_than_the_burst_is_refused_at_once_and_counts_nothing() {
    let limiter = per_second(10, 5);
    let over = OverBurst { burst: count(5) };
    let answer = limiter.ready_for(count(6)).now_or_never();
    assert_eq!(answer, Some(Err(over)));
    assert_eq!(limiter.try_now_for(count(u32::MAX)), Err(over));
    assert_eq!(
        over.to_string(),
        "more at once than the burst of 5, so never allowed: split it, or raise the burst"
    );
    assert_eq!(allowed_now(&limiter), 5);
}

#[test]
fn a_period_of_zero_is_refused() {
    let rate = Rate {
        calls: count(1),
        period: Duration::ZERO,
        burst: count(1),
    };
    let error = RateLimiter::new(rate).unwrap_err();
    assert_eq!(error, ZeroPeriod);
    assert!(error.to_string().contains("give the time"));
}

#[tokio::test(start_paused = true)]
async fn enormous_rates_periods_and_bursts_are_no_panic() {
    const MAX: u32 = u32::MAX;
    for (calls, period, burst) in [
        (1, Duration::MAX, 1),
        (MAX, Duration::MAX, 1),
        (1, Duration::MAX, MAX),
        (MAX, Duration::MAX, MAX),
        (1, Duration::from_nanos(1), MAX),
        (MAX, Duration::from_nanos(1), 1),
        (MAX, Duration::from_nanos(1), MAX),
    ] {
        let rate = Rate {
            calls: count(calls),
            period,
            burst: count(burst),
        };
        let limiter = RateLimiter::new(rate).unwrap();
        assert_eq!(limiter.try_now_for(count(burst)), Ok(Ok(())), "{rate:?}");
        let NotYet { after } = limiter.try_now().unwrap_err();
        let one = period.as_nanos().div_ceil(calls.into());
        assert_eq!(after.as_nanos(), one, "{rate:?}");

        let mut waits = pin!(timeout(LIMIT, limiter.ready_for(count(burst))));
        assert!(waits.as_mut().now_or_never().is_none());
        limiter.try_now().unwrap_err();
        assert_eq!(waits.await.is_ok(), period < SECOND, "{rate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn enormous_requests_that_wait_do_not_make_the_sum_overflow() {
    let limiter = RateLimiter::new(Rate {
        calls: count(1),
        period: Duration::MAX,
        burst: NonZeroU32::MAX,
    })
    .unwrap();
    limiter.ready_for(NonZeroU32::MAX).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..10 {
        let mut waits = Box::pin(limiter.ready_for(NonZeroU32::MAX));
        assert!(waits.as_mut().now_or_never().is_none());
        waiting.push(waits);
        let after = Duration::MAX;
        assert_eq!(limiter.try_now(), Err(NotYet { after }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_longer_than_a_timer_goes_does_not_end_before_its_time() {
    let limiter = RateLimiter::new(Rate {
        calls: count(1),
        period: 70 * YEAR,
        burst: count(1),
    })
    .unwrap();
    assert_eq!(instants(&limiter, 2).await, [0, (70 * YEAR).as_millis()]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_ready_has_counted_nothing_and_lets_those_behind_it_move_up() {
    for large in [false, true] {
        let points = every_await_point(
            LIMIT,
            async || {
                let limiter = per_second(10, 3);
                assert_eq!(allowed_now(&limiter), 3);
                // One waits before it, which makes two await points: the queue and the timer.
                let before = tokio::spawn({
                    let limiter = limiter.clone();
                    async move { limiter.ready().await }
                });
                tokio::task::yield_now().await;
                (limiter, before, Instant::now())
            },
            async |(limiter, _, _)| {
                if large {
                    limiter.ready_for(count(3)).await.unwrap();
                } else {
                    limiter.ready().await;
                }
            },
            async |(limiter, before, started), outcome| {
                let counted = match outcome {
                    Outcome::Dropped(_) => 0,
                    Outcome::Completed(()) if large => 3,
                    Outcome::Completed(()) => 1,
                };
                let dropped_at = started.elapsed(); // once woken, its turn may be due
                limiter.ready().await;
                let due = (1 + counted + 1) * 100 * MS;
                assert_eq!(started.elapsed(), due.max(dropped_at));
                before.await.unwrap();
                sleep(SECOND).await;
                assert_eq!(allowed_now(&limiter), 3);
            },
        )
        .await;
        assert!(points.unwrap() >= 2, "the queue and the timer");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_leaves_delays_nobody() {
    for leaves_at in [50, 150] {
        let limiter = per_second(10, 3);
        assert_eq!(allowed_now(&limiter), 3);
        let started = Instant::now();
        let first = async {
            limiter.ready().await;
            started.elapsed()
        };
        let large = timeout(leaves_at * MS, limiter.ready_for(count(3)));
        let last = async {
            limiter.ready().await;
            started.elapsed()
        };
        let (first, large, last) = tokio::join!(first, large, last);
        large.expect_err("it leaves before its time");
        assert_eq!((first, last), (100 * MS, 200 * MS));
        assert_eq!(limiter.try_now(), not_yet(100), "a place is still held");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_many_threads_no_span_of_time_sees_more_than_the_bound() {
    let (calls, burst) = (2_000, 20);
    let started = Instant::now();
    let limiter = per_second(calls, burst);
    let spans = Arc::new(Mutex::new(Vec::new()));
    let mut callers = JoinSet::new();
    for caller in 0..16 {
        let (limiter, spans) = (limiter.clone(), spans.clone());
        callers.spawn(async move {
            let mut begun = 0;
            while begun < 60 {
                let before = started.elapsed();
                match caller % 3 {
                    0 if limiter.try_now().is_err() => {
                        tokio::task::yield_now().await;
                        continue;
                    }
                    0 => {}
                    // Some leave, and come back.
                    1 if timeout(3 * MS, limiter.ready()).await.is_err() => continue,
                    1 => {}
                    _ => limiter.ready().await,
                }
                spans.lock().unwrap().push((before, started.elapsed()));
                begun += 1;
            }
        });
    }
    timeout(LIMIT, callers.join_all())
        .await
        .expect("a call is lost, or a waiter");
    // The call began some time between the two instants. So those whose two are inside of a span
    // began in it.
    let mut spans = std::mem::take(&mut *spans.lock().unwrap());
    assert_eq!(spans.len(), 960);
    spans.sort_by_key(|(_, after)| *after);
    for (from, _) in &spans {
        let inside = spans.iter().filter(|(before, _)| before >= from);
        for (number, (_, to)) in (1_u32..).zip(inside) {
            let bound = f64::from(burst) + f64::from(calls) * (*to - *from).as_secs_f64();
            assert!(
                f64::from(number) <= bound + 1e-6,
                "{number} in {from:?} to {to:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_nobody_polls_holds_back_those_behind_it() {
    let limiter = per_second(10, 1);
    assert_eq!(allowed_now(&limiter), 1);
    {
        let mut aside = pin!(limiter.ready());
        timeout(MS, &mut aside).await.expect_err("it waits");
        timeout(LIMIT, limiter.ready())
            .await
            .expect_err("nothing was called for a minute, and yet it waits");
    }
    timeout(MS, limiter.ready())
        .await
        .expect("dropping it has let the next one move up");
}

#[tokio::test(start_paused = true)]
async fn ten_permits_limit_calls_of_a_millisecond_to_ten_thousand_a_second() {
    let (semaphore, begun) = (Arc::new(Semaphore::new(10)), Arc::new(AtomicU32::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let (semaphore, begun) = (semaphore.clone(), begun.clone());
        callers.spawn(async move {
            loop {
                let _permit = semaphore.acquire().await.unwrap();
                begun.fetch_add(1, Ordering::Relaxed);
                sleep(MS).await;
            }
        });
    }
    sleep(SECOND - MS / 2).await;
    callers.shutdown().await;
    assert_eq!(begun.load(Ordering::Relaxed), 10_000);
}

/// Counts calls, and starts anew every second.
struct FixedWindow {
    limit: u32,
    begun: u32,
    resets_at: Instant,
}

impl FixedWindow {
    fn try_now(&mut self) -> bool {
        if Instant::now() >= self.resets_at {
            self.resets_at += SECOND;
            self.begun = 0;
        }
        self.begun += 1;
        self.begun <= self.limit
    }
}

#[tokio::test(start_paused = true)]
async fn a_fixed_window_lets_twice_the_limit_through_around_its_reset() {
    let mut window = FixedWindow {
        limit: 10,
        begun: 0,
        resets_at: Instant::now() + SECOND,
    };
    let limiter = per_second(10, 10);
    let mut through = [0, 0];
    sleep(SECOND - MS).await;
    let started = Instant::now();
    for _ in 0..2 {
        for _ in 0..20 {
            through[0] += u32::from(window.try_now());
            through[1] += u32::from(limiter.try_now().is_ok());
        }
        sleep(MS).await;
    }
    assert_eq!(started.elapsed(), 2 * MS);
    assert_eq!(through, [20, 10]);
}

#[tokio::test(start_paused = true)]
async fn an_interval_makes_up_for_a_stall_with_calls_at_once_and_the_limiter_with_the_burst() {
    let mut ticks = interval(100 * MS);
    let limiter = per_second(10, 1);
    ticks.tick().await;
    limiter.ready().await;
    sleep(10 * SECOND).await; // the caller stalls
    let mut at_once = 0;
    while timeout(Duration::ZERO, ticks.tick()).await.is_ok() {
        at_once += 1;
    }
    assert_eq!(at_once, 100);
    assert_eq!(allowed_now(&limiter), 1);
}

#[tokio::test(start_paused = true)]
async fn ten_limiters_start_with_ten_bursts_and_allow_ten_times_the_calls() {
    let processes: Vec<_> = (0..10).map(|_| per_second(10, 10)).collect();
    assert_eq!(processes.iter().map(allowed_now).sum::<u32>(), 100);
    sleep(SECOND).await;
    assert_eq!(processes.iter().map(allowed_now).sum::<u32>(), 100);
}

#[tokio::test(start_paused = true)]
async fn one_ready_before_three_attempts_allows_three_calls() {
    let limiter = per_second(10, 1);
    let in_a_second = async |ready_for_each: bool| {
        sleep(LIMIT).await;
        let mut calls = 0;
        let work = async {
            loop {
                limiter.ready().await;
                for attempt in 0..3 {
                    if ready_for_each && attempt > 0 {
                        limiter.ready().await;
                    }
                    calls += 1; // it fails
                }
            }
        };
        timeout(SECOND - MS, work).await.unwrap_err();
        calls
    };
    assert_eq!(in_a_second(true).await, 10);
    assert_eq!(in_a_second(false).await, 30);
}

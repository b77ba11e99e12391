//! What the alarm, the idle timeout and the wait for a time of day promise.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::Cell;
use std::future::pending;
use std::time::{Duration, SystemTime};

use testing::every_await_point::{Outcome, every_await_point};
use timers::schedule_at::{Alarm, IdleTimeout, sleep_until_time};
use tokio::select;
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn an_alarm_rings_at_its_instant_and_once() {
    let started = Instant::now();
    let mut alarm = Alarm::new();
    alarm.set(started + 70 * MS);
    assert_eq!(alarm.due(), Some(started + 70 * MS));
    assert_eq!(alarm.ring().await, started + 70 * MS);
    assert_eq!(started.elapsed(), 70 * MS);
    assert_eq!(alarm.due(), None);
    timeout(HOUR, alarm.ring()).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn an_alarm_that_was_never_set_never_rings() {
    timeout(HOUR, Alarm::new().ring()).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_moved_alarm_rings_at_the_new_instant_only() {
    for (first, second) in [(100, 250), (250, 100)] {
        let started = Instant::now();
        let mut alarm = Alarm::new();
        alarm.set_after(first * MS);
        timeout(10 * MS, alarm.ring()).await.unwrap_err(); // its timer is running
        alarm.set(started + second * MS);
        alarm.ring().await;
        assert_eq!(started.elapsed(), second * MS);
        timeout(HOUR, alarm.ring()).await.unwrap_err();
    }
}

#[tokio::test(start_paused = true)]
async fn a_cleared_alarm_rings_no_more_until_it_is_set() {
    let started = Instant::now();
    let mut alarm = Alarm::new();
    alarm.set_after(100 * MS);
    timeout(10 * MS, alarm.ring()).await.unwrap_err();
    alarm.clear();
    timeout(HOUR, alarm.ring()).await.unwrap_err();
    alarm.set_after(5 * MS);
    alarm.ring().await;
    assert_eq!(started.elapsed(), HOUR + 15 * MS);
}

#[tokio::test(start_paused = true)]
async fn an_alarm_set_again_to_the_same_instant_rings_again() {
    let started = Instant::now();
    let due = started + 20 * MS;
    let mut alarm = Alarm::new();
    for _ in 0..3 {
        alarm.set(due);
        assert_eq!(alarm.ring().await, due);
    }
    assert_eq!(started.elapsed(), 20 * MS);
}

#[tokio::test(start_paused = true)]
async fn an_alarm_in_the_past_rings_at_once_and_a_far_one_never() {
    let started = Instant::now();
    sleep(HOUR).await;
    let mut alarm = Alarm::new();
    alarm.set(started);
    assert_eq!(alarm.ring().await, started);
    alarm.set_after(Duration::ZERO);
    alarm.ring().await;
    assert_eq!(started.elapsed(), HOUR);

    alarm.set_after(Duration::MAX);
    assert_eq!(alarm.due(), None);
    timeout(HOUR, alarm.ring()).await.unwrap_err();
    alarm.set_after(1_000 * 365 * 24 * HOUR); // farther than tokio's timer wheel reaches
    timeout(HOUR, alarm.ring()).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_ring_leaves_the_alarm_set() {
    let setup = async || {
        let mut alarm = Alarm::new();
        alarm.set_after(50 * MS);
        (Instant::now(), alarm)
    };
    let operation = async |(_, alarm): &mut (Instant, Alarm)| {
        alarm.ring().await;
    };
    let check = async |(started, mut alarm): (Instant, Alarm), outcome| match outcome {
        Outcome::Dropped(_) => {
            assert_eq!(alarm.ring().await, started + 50 * MS);
            assert_eq!(started.elapsed(), 50 * MS);
        }
        Outcome::Completed(()) => assert_eq!(alarm.due(), None),
    };
    let points = every_await_point(LIMIT, setup, operation, check).await;
    assert!(points.unwrap() >= 1);
}

#[tokio::test(start_paused = true)]
async fn each_event_puts_the_idle_timeout_off() {
    let started = Instant::now();
    let idle = IdleTimeout::new(100 * MS);
    let elsewhere = idle.clone();
    tokio::spawn(async move {
        for gap in [60, 99, 30, 90] {
            sleep(gap * MS).await;
            elsewhere.touch();
        }
    });
    idle.expired().await;
    assert_eq!(started.elapsed(), (60 + 99 + 30 + 90 + 100) * MS);
    assert_eq!(idle.due(), Some(Instant::now()));
}

#[tokio::test(start_paused = true)]
async fn without_events_the_idle_timeout_comes_at_its_limit() {
    for limit in [Duration::ZERO, MS, 100 * MS] {
        let started = Instant::now();
        IdleTimeout::new(limit).expired().await;
        assert_eq!(started.elapsed(), limit);
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_after_the_expiry_begins_a_new_limit() {
    let started = Instant::now();
    let idle = IdleTimeout::new(100 * MS);
    idle.expired().await;
    idle.expired().await;
    assert_eq!(started.elapsed(), 100 * MS);
    idle.touch();
    idle.expired().await;
    assert_eq!(started.elapsed(), 200 * MS);
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
async fn at_the_end_of_the_clock_there_is_no_panic_and_no_ring() {
    let mut alarm = Alarm::new();
    alarm.set(last_instant());
    timeout(LIMIT, alarm.ring()).await.unwrap_err();
    alarm.set_after(last_instant() - Instant::now());
    timeout(LIMIT, alarm.ring()).await.unwrap_err();
    let idle = IdleTimeout::new(last_instant() - Instant::now());
    timeout(LIMIT, idle.expired()).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn an_enormous_idle_timeout_never_comes() {
    let idle = IdleTimeout::new(Duration::MAX);
    assert_eq!(idle.due(), None);
    timeout(HOUR, idle.expired()).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_wait_for_idleness_still_counts_from_the_last_event() {
    let setup = async || (Instant::now(), IdleTimeout::new(50 * MS));
    let operation = async |(_, idle): &mut (Instant, IdleTimeout)| idle.expired().await;
    let check = async |(started, idle): (Instant, IdleTimeout), _| {
        idle.expired().await;
        assert_eq!(started.elapsed(), 50 * MS);
    };
    let points = every_await_point(LIMIT, setup, operation, check).await;
    assert!(points.unwrap() >= 1);
}

/// A wall clock that runs with tokio's, and can be set.
struct WallClock {
    base: SystemTime,
    started: Instant,
    put_forward: Cell<Duration>,
    put_back: Cell<Duration>,
    looked_at: Cell<usize>,
}

impl WallClock {
    fn new() -> Self {
        Self {
            base: SystemTime::UNIX_EPOCH + 1_000 * HOUR,
            started: Instant::now(),
            put_forward: Cell::default(),
            put_back: Cell::default(),
            looked_at: Cell::default(),
        }
    }

    fn now(&self) -> SystemTime {
        self.looked_at.set(self.looked_at.get() + 1);
        self.base + self.started.elapsed() + self.put_forward.get() - self.put_back.get()
    }
}

#[tokio::test(start_paused = true)]
async fn a_time_of_day_is_met_to_the_millisecond_while_nobody_sets_the_clock() {
    let clock = WallClock::new();
    sleep_until_time(|| clock.now(), clock.base + HOUR + MS, LIMIT).await;
    assert_eq!(clock.started.elapsed(), HOUR + MS);
    assert_eq!(clock.looked_at.get(), 62);
}

#[tokio::test(start_paused = true)]
async fn a_clock_put_forward_is_noticed_within_the_recheck() {
    let clock = WallClock::new();
    let jump = async {
        sleep(600 * MS).await;
        clock.put_forward.set(HOUR);
        pending::<()>().await;
    };
    select! {
        () = sleep_until_time(|| clock.now(), clock.base + HOUR, 1_000 * MS) => {}
        () = jump => {}
    }
    assert_eq!(clock.started.elapsed(), 1_000 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_clock_put_back_makes_the_wait_longer() {
    let clock = WallClock::new();
    let jump = async {
        sleep(600 * MS).await;
        clock.put_back.set(HOUR);
        pending::<()>().await;
    };
    select! {
        () = sleep_until_time(|| clock.now(), clock.base + HOUR, 1_000 * MS) => {}
        () = jump => {}
    }
    assert_eq!(clock.started.elapsed(), 2 * HOUR);
}

#[tokio::test(start_paused = true)]
async fn a_time_that_has_passed_is_not_waited_for() {
    let clock = WallClock::new();
    for time in [clock.base, SystemTime::UNIX_EPOCH] {
        sleep_until_time(|| clock.now(), time, LIMIT).await;
    }
    assert_eq!(clock.started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_recheck_of_zero_does_not_spin_and_an_enormous_one_is_harmless() {
    let clock = WallClock::new();
    sleep_until_time(|| clock.now(), clock.base + 10 * MS, Duration::ZERO).await;
    assert_eq!(clock.looked_at.get(), 11);
    sleep_until_time(|| clock.now(), clock.base + 20 * MS, Duration::MAX).await;
    assert_eq!(clock.started.elapsed(), 20 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_wait_for_a_time_of_day_waits_for_what_is_left() {
    let setup = async || WallClock::new();
    let wait = async |clock: &mut WallClock| {
        sleep_until_time(|| clock.now(), clock.base + 50 * MS, 20 * MS).await;
    };
    let check = async |mut clock: WallClock, _| {
        wait(&mut clock).await;
        assert_eq!(clock.started.elapsed(), 50 * MS);
    };
    let points = every_await_point(LIMIT, setup, wait, check).await;
    assert!(points.unwrap() >= 3);
}

#[tokio::test(start_paused = true)]
async fn harm_a_sleep_rebuilt_in_each_turn_never_comes() {
    let mut heartbeat = interval(1_000 * MS);
    let idle = async {
        loop {
            select! {
                () = sleep(LIMIT) => return,
                _ = heartbeat.tick() => {} // no event, but it puts the sleep off
            }
        }
    };
    timeout(24 * HOUR, idle).await.unwrap_err();

    let started = Instant::now();
    let idle = IdleTimeout::new(LIMIT);
    loop {
        select! {
            () = idle.expired() => break,
            _ = heartbeat.tick() => {}
        }
    }
    assert_eq!(started.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn harm_a_sleep_that_is_over_stays_over() {
    let started = Instant::now();
    let mut timer = Box::pin(sleep(100 * MS));
    for _ in 0..1_000 {
        timer.as_mut().await;
    }
    assert_eq!(started.elapsed(), 100 * MS);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "overflow")]
async fn harm_now_plus_an_enormous_duration_panics() {
    sleep_until(Instant::now() + Duration::MAX).await;
}

#[tokio::test(start_paused = true)]
async fn harm_a_sleep_until_a_time_of_day_does_not_follow_the_clock() {
    let clock = WallClock::new();
    let time = clock.base + 2 * HOUR;
    let left = time.duration_since(clock.now()).unwrap();
    clock.put_forward.set(HOUR);
    sleep(left).await;
    assert_eq!(clock.now(), time + HOUR);
}

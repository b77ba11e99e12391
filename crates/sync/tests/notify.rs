//! What the monitor promises, and what a bare `Notify` does instead.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::sync::notify::Monitor;
use real_tokio::sync::{Notify, Semaphore};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(100);

/// Takes one, as soon as there is one.
fn take_one(items: &mut usize) -> Option<()> {
    *items = items.checked_sub(1)?;
    Some(())
}

/// Whether the waiter is woken, or else sleeps on.
async fn woken(waiter: impl Future<Output = ()>) -> bool {
    timeout(LIMIT, waiter).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_the_update_that_makes_its_condition_true() {
    let monitor = Monitor::new(0);
    let started = Instant::now();
    let at_least = async |level| {
        monitor
            .wait_until(|state| (*state >= level).then_some(*state))
            .await;
        started.elapsed()
    };
    let raise = async {
        for _ in 0..3 {
            sleep(STEP).await;
            monitor.update(|state| *state += 1);
        }
    };
    let (none, one, three, ()) = tokio::join!(at_least(0), at_least(1), at_least(3), raise);
    assert_eq!((none, one, three), (Duration::ZERO, STEP, 3 * STEP));
    assert_eq!(monitor.read(|state| *state), 3);
}

#[tokio::test(start_paused = true)]
async fn what_a_waiter_takes_is_an_update_for_the_others() {
    // One place, taken. The producer waits for room, the consumer for an item.
    let place = Monitor::new(Some("first"));
    let started = Instant::now();
    let producer = place.wait_until(|place| {
        if place.is_some() {
            return None;
        }
        *place = Some("second");
        Some(())
    });
    let consumer = async {
        sleep(STEP).await;
        let first = place.wait_until(Option::take).await;
        (first, place.wait_until(Option::take).await)
    };
    let ((), taken) = timeout(LIMIT, async { tokio::join!(producer, consumer) })
        .await
        .expect("nobody told the producer");
    assert_eq!((taken, started.elapsed()), (("first", "second"), STEP));
}

#[tokio::test(start_paused = true)]
async fn each_update_costs_each_waiter_one_look_and_a_look_in_vain_costs_nobody_else_one() {
    let monitor = Arc::new(Monitor::new(0));
    let looks = Arc::new(AtomicUsize::new(0));
    let mut waiters = JoinSet::new();
    for _ in 0..10 {
        let (monitor, looks) = (Arc::clone(&monitor), Arc::clone(&looks));
        waiters.spawn(async move {
            let look = |state: &mut u32| {
                looks.fetch_add(1, Ordering::Relaxed);
                (*state == 5).then_some(())
            };
            monitor.wait_until(look).await;
        });
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        sleep(STEP).await;
        monitor.read(|_| ());
        seen.push(looks.load(Ordering::Relaxed));
        monitor.update(|state| *state += 1);
    }
    assert_eq!(seen, [10, 20, 30, 40]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads_every_item_is_taken_once_and_no_waiter_is_forgotten() {
    for _ in 0..100 {
        let monitor = Arc::new(Monitor::new(0));
        let mut takers = JoinSet::new();
        for _ in 0..20 {
            let monitor = Arc::clone(&monitor);
            takers.spawn(async move { monitor.wait_until(take_one).await });
        }
        let giver = Arc::clone(&monitor);
        let thread = std::thread::spawn(move || {
            for _ in 0..20 {
                giver.update(|items| *items += 1); // no runtime here
            }
        });
        timeout(LIMIT, takers.join_all())
            .await
            .expect("a waiter sleeps on");
        thread.join().unwrap();
        assert_eq!(monitor.read(|items| *items), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panicking_update_keeps_what_it_changed_and_wakes_the_waiters() {
    let monitor = Monitor::new(0);
    let breaks = async {
        yield_now().await;
        let change = || {
            monitor.update(|items| {
                *items += 1;
                panic!("half way");
            })
        };
        catch_unwind(AssertUnwindSafe(change)).expect_err("the panic is the caller's");
    };
    let waits = timeout(LIMIT, monitor.wait_until(take_one));
    let (taken, ()) = tokio::join!(waits, breaks);
    taken.expect("the lock is poisoned, or nobody was woken");
}

#[tokio::test(start_paused = true)]
async fn a_panicking_look_keeps_what_it_changed_and_wakes_the_other_waiters() {
    let monitor = Arc::new(Monitor::new(0));
    let waits = tokio::spawn({
        let monitor = Arc::clone(&monitor);
        async move { timeout(LIMIT, monitor.wait_until(take_one)).await }
    });
    yield_now().await;
    let breaks = tokio::spawn(async move {
        let look = |items: &mut usize| -> Option<()> {
            *items += 1;
            panic!("half way");
        };
        monitor.wait_until(look).await;
    });
    assert!(breaks.await.unwrap_err().is_panic());
    waits.await.unwrap().expect("nobody was woken");
}

#[tokio::test]
async fn a_loop_of_waits_that_need_not_wait_lets_other_tasks_run() {
    let monitor = Monitor::new(());
    let other = tokio::spawn(async {});
    let mut waits = 0;
    while !other.is_finished() && waits < 100_000 {
        monitor.wait_until(|()| Some(())).await;
        waits += 1;
    }
    assert!(other.is_finished(), "{waits} waits, and it never ran");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_wait_has_taken_nothing() {
    let points = every_await_point(
        LIMIT,
        async || {
            let monitor = Arc::new(Monitor::new(1));
            let giver = tokio::spawn({
                let monitor = Arc::clone(&monitor);
                async move {
                    sleep(STEP).await;
                    monitor.update(|items| *items += 1);
                }
            });
            (monitor, giver, 0)
        },
        async |(monitor, _, taken)| {
            for _ in 0..2 {
                monitor.wait_until(take_one).await; // one is there, one comes
                *taken += 1;
            }
        },
        async |(monitor, giver, taken), outcome| {
            giver.await.unwrap();
            assert_eq!(taken + monitor.read(|items| *items), 2, "one is lost");
            assert_eq!(taken == 2, outcome == Outcome::Completed(()));
        },
    )
    .await;
    assert!(points.unwrap() >= 2, "for a turn, and for the second item");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_waiter_costs_no_other_waiter_its_wakeup() {
    let monitor = Monitor::new(0);
    let impatient = async { timeout(STEP, monitor.wait_until(take_one)).await.is_ok() };
    let patient = timeout(LIMIT, monitor.wait_until(take_one));
    let give = async {
        sleep(STEP).await; // at this very instant the first one leaves
        monitor.update(|items| *items += 1);
    };
    let (first, second, ()) = tokio::join!(impatient, patient, give);
    assert_ne!(first, second.is_ok(), "one item, one taker");
}

#[tokio::test(start_paused = true)]
async fn without_an_update_a_wait_has_no_end_unless_the_state_has_one() {
    let monitor = Arc::new(Monitor::new((0, false)));
    let take = |(items, closed): &mut (usize, bool)| match take_one(items) {
        Some(()) => Some(true),
        None => closed.then_some(false),
    };
    timeout(LIMIT, monitor.wait_until(take))
        .await
        .expect_err("nobody else has the monitor, and it waits");
    monitor.update(|(_, closed)| *closed = true);
    assert_eq!(timeout(LIMIT, monitor.wait_until(take)).await, Ok(false));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_needs_two_starves_behind_those_that_need_one_but_not_at_a_semaphore() {
    let monitor = Monitor::new(0);
    let semaphore = Semaphore::new(0);
    let by_ones = async {
        for _ in 0..100 {
            monitor.wait_until(take_one).await;
        }
    };
    let by_twos = timeout(
        LIMIT,
        monitor.wait_until(|items| items.checked_sub(2).map(|left| *items = left)),
    );
    let give = async {
        for _ in 0..100 {
            sleep(STEP).await;
            monitor.update(|items| *items += 1);
        }
    };
    let (starved, (), ()) = tokio::join!(by_twos, by_ones, give);
    assert!(starved.is_err(), "a hundred items, and never two at once");

    let started = Instant::now();
    let by_twos = async {
        semaphore.acquire_many(2).await.unwrap().forget();
        started.elapsed()
    };
    let by_ones = async {
        for _ in 0..98 {
            semaphore.acquire().await.unwrap().forget();
        }
    };
    let give = async {
        for _ in 0..100 {
            sleep(STEP).await;
            semaphore.add_permits(1);
        }
    };
    let (served, (), ()) = tokio::join!(by_twos, by_ones, give);
    assert_eq!(served, 2 * STEP);
}

#[tokio::test]
async fn a_closure_that_calls_its_own_monitor_deadlocks() {
    let (done, ended) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let monitor = Monitor::new(());
        monitor.update(|()| monitor.read(|()| ()));
        done.send(()).unwrap();
    });
    ended
        .recv_timeout(Duration::from_millis(200))
        .expect_err("it got the lock twice");
}

#[tokio::test(start_paused = true)]
async fn notify_waiters_keeps_nothing_but_reaches_what_was_made_before() {
    let notify = Notify::new();
    let before = notify.notified(); // never polled yet
    notify.notify_waiters();
    let after = notify.notified();
    assert!(woken(before).await);
    assert!(!woken(after).await);
}

#[tokio::test(start_paused = true)]
async fn notify_one_keeps_one_permit_however_often_it_is_called() {
    for enabled in [false, true] {
        let notify = Notify::new();
        let (mut first, mut second) = (Box::pin(notify.notified()), Box::pin(notify.notified()));
        if enabled {
            assert!(!first.as_mut().enable() && !second.as_mut().enable());
        }
        notify.notify_one();
        notify.notify_one();
        assert!(woken(first).await);
        assert_eq!(woken(second).await, enabled);
    }
}

#[tokio::test(start_paused = true)]
async fn notify_one_wakes_the_one_that_has_waited_longest_though_it_waits_for_something_else() {
    // The loop of the recipe, with an update that wakes one waiter.
    let (state, notify) = (std::sync::Mutex::new(0), Notify::new());
    let until = async |level| {
        loop {
            let mut changed = Box::pin(notify.notified());
            changed.as_mut().enable();
            if *state.lock().unwrap() == level {
                return;
            }
            changed.await;
        }
    };
    let raise = async {
        sleep(STEP).await;
        *state.lock().unwrap() = 1;
        notify.notify_one();
    };
    let (other, right, ()) = tokio::join!(woken(until(2)), woken(until(1)), raise);
    assert_eq!((other, right), (false, false), "both sleep on");
    assert_eq!(*state.lock().unwrap(), 1, "though one need not");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_dropped_after_notify_one_passes_it_on_unless_enable_has_taken_it() {
    let notify = Notify::new();
    {
        let (mut first, second) = (Box::pin(notify.notified()), notify.notified());
        assert!(!first.as_mut().enable());
        notify.notify_one();
        drop(first);
        assert!(woken(second).await, "it was not passed on");
    }
    notify.notify_one();
    let (mut first, second) = (Box::pin(notify.notified()), notify.notified());
    assert!(first.as_mut().enable(), "a permit was kept");
    drop(first);
    assert!(!woken(second).await, "it went with the one that took it");
}

// Every order of events. The recipe's file is compiled once more, into this test, and there `tokio`
// means this test: tokio itself, but for a `Notify` that lets shuttle switch to another thread
// around each of its operations. The recipe's lock is never held at a switch, so the parts between
// two switches happen at once for the other threads, as they do in earnest.
extern crate self as tokio;
extern crate tokio as real_tokio;
pub use real_tokio::{join, pin, runtime, spawn, task, test, time};

#[path = "../src/notify.rs"]
#[expect(unreachable_pub, reason = "it is a library's file")]
mod explored;

#[expect(missing_docs, reason = "what they do is in tokio's")]
pub mod sync {
    pub use real_tokio::sync::*;

    /// Lets shuttle run another thread. Its `yield_now` would also wake the waiter.
    fn switch() {
        shuttle::thread::sleep(std::time::Duration::ZERO);
    }

    #[derive(Debug, Default)]
    pub struct Notify(real_tokio::sync::Notify);

    impl Notify {
        #[must_use]
        pub fn new() -> Self {
            Self::default()
        }

        pub fn notified(&self) -> impl Future<Output = ()> {
            switch();
            let notified = self.0.notified();
            switch();
            async move {
                switch();
                notified.await;
            }
        }

        pub fn notify_waiters(&self) {
            switch();
            self.0.notify_waiters();
        }
    }
}

mod every_order {
    use super::{Arc, AtomicUsize, Ordering, explored, sync, take_one};

    /// Runs `scenario` once for each order of events; returns how many there were. Panics at the
    /// first that hangs.
    fn explore(scenario: impl Fn() + Send + Sync + 'static) -> usize {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let counts = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            scenario();
        };
        shuttle::check_dfs(counts, None);
        runs.load(Ordering::Relaxed)
    }

    #[test]
    #[should_panic(expected = "deadlock!")]
    fn the_naive_form_hangs_in_some_order_of_events() {
        explore(|| {
            let shared = Arc::new((std::sync::Mutex::new(false), sync::Notify::new()));
            let ready = Arc::clone(&shared);
            shuttle::thread::spawn(move || {
                *ready.0.lock().unwrap() = true;
                ready.1.notify_waiters();
            });
            shuttle::future::block_on(async {
                while !*shared.0.lock().unwrap() {
                    shared.1.notified().await;
                }
            });
        });
    }

    #[test]
    fn one_waiter_hangs_in_no_order_of_events() {
        let orders = explore(|| {
            let monitor = Arc::new(explored::Monitor::new(0));
            let giver = Arc::clone(&monitor);
            shuttle::thread::spawn(move || giver.update(|items| *items += 1));
            shuttle::future::block_on(monitor.wait_until(take_one));
        });
        assert!(orders > 10, "{orders}");
    }

    #[test]
    fn a_waiter_that_another_waiter_must_wake_hangs_in_no_order_of_events() {
        let orders = explore(|| {
            // One item is given, the first taker passes it on as another.
            let monitor = Arc::new(explored::Monitor::new(0));
            let taker = Arc::clone(&monitor);
            shuttle::thread::spawn(move || {
                shuttle::future::block_on(
                    taker.wait_until(|state| (*state == 1).then(|| *state = 2)),
                );
            });
            let last = Arc::clone(&monitor);
            let last = shuttle::thread::spawn(move || {
                shuttle::future::block_on(
                    last.wait_until(|state| (*state == 2).then(|| *state = 3)),
                );
            });
            monitor.update(|state| *state = 1);
            last.join().unwrap();
            assert_eq!(monitor.read(|state| *state), 3);
        });
        assert!(orders > 1_000, "{orders}");
    }

    #[test]
    fn two_waiters_and_two_updates_hang_in_no_order_of_events() {
        let orders = explore(|| {
            let monitor = Arc::new(explored::Monitor::new(0));
            let (giver, taker) = (Arc::clone(&monitor), Arc::clone(&monitor));
            shuttle::thread::spawn(move || giver.update(|items| *items += 1));
            shuttle::thread::spawn(move || shuttle::future::block_on(taker.wait_until(take_one)));
            monitor.update(|items| *items += 1);
            shuttle::future::block_on(monitor.wait_until(take_one));
        });
        assert!(orders > 1_000, "{orders}");
    }
}

//! What guards and cleanups by drop promise.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use shutdown::close_by_drop::{Guard, LastDrop, OnDrop, StillHeld, close_by_drop};
use testing::capture_events::Capture;
use testing::every_await_point::{Outcome, every_await_point};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const LIMIT: Duration = Duration::from_secs(60);
const TAKES: Duration = Duration::from_millis(100);

fn left(holders: usize, limit: Duration) -> Result<(), StillHeld> {
    Err(StillHeld { holders, limit })
}

// Guards.

#[tokio::test(start_paused = true)]
async fn the_last_drop_is_noticed_at_that_instant_and_none_before_it() {
    let (guard, mut last_drop) = close_by_drop();
    for holder in 1..=3 {
        let guard = guard.clone();
        tokio::spawn(async move {
            let _guard = guard;
            sleep(holder * TAKES).await;
        });
    }
    drop(guard);
    let started = Instant::now();
    assert_eq!(last_drop.holders(), 3);
    assert_eq!(last_drop.wait(LIMIT).await, Ok(()));
    assert_eq!(started.elapsed(), 3 * TAKES);
    assert_eq!(last_drop.wait(LIMIT).await, Ok(()), "and from then on");
}

struct Circle {
    _guard: Guard,
    itself: OnceLock<Arc<Circle>>,
}

#[tokio::test(start_paused = true)]
async fn a_leaked_guard_ends_the_wait_at_its_limit_and_is_counted() {
    let (guard, mut last_drop) = close_by_drop();
    std::mem::forget(guard.clone());
    let circle = Arc::new(Circle {
        _guard: guard.clone(),
        itself: OnceLock::new(),
    });
    circle.itself.set(Arc::clone(&circle)).ok();
    drop(circle);
    drop(guard);
    let started = Instant::now();
    let held = last_drop.wait(TAKES).await;
    assert_eq!(held, left(2, TAKES));
    assert_eq!(started.elapsed(), TAKES);
    let message = held.unwrap_err().to_string();
    assert!(
        message.starts_with("guards held after 100ms: 2; "),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_has_given_up_can_be_repeated() {
    let (guard, mut last_drop) = close_by_drop();
    assert_eq!(last_drop.wait(TAKES).await, left(1, TAKES));
    drop(guard);
    assert_eq!(last_drop.wait(TAKES).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_panics_or_is_aborted_counts_as_gone() {
    let (guard, mut last_drop) = close_by_drop();
    let panics = guard.clone();
    tokio::spawn(async move {
        let _guard = panics;
        sleep(TAKES).await;
        panic!("on purpose");
    });
    let aborted = tokio::spawn(async move {
        let _guard = guard;
        pending::<()>().await;
    });
    let started = Instant::now();
    assert_eq!(last_drop.wait(2 * TAKES).await, left(1, 2 * TAKES));
    aborted.abort();
    assert_eq!(last_drop.wait(LIMIT).await, Ok(()));
    assert_eq!(started.elapsed(), 2 * TAKES);
}

#[tokio::test]
async fn holders_in_other_threads_are_noticed_a_panicking_one_too() {
    for round in 0..500 {
        let (guard, mut last_drop) = close_by_drop();
        let threads = [0, 1, 2].map(|number| {
            let guard = guard.clone();
            thread::spawn(move || {
                let _guard = guard;
                assert_ne!((number, round), (2, 250), "on purpose");
            })
        });
        drop(guard);
        assert_eq!(last_drop.wait(LIMIT).await, Ok(()), "round {round}");
        let panicked = threads.map(|thread| thread.join().is_err());
        assert_eq!(panicked, [false, false, round == 250]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_keeps_the_first_guard_waits_for_itself() {
    let (guard, mut last_drop) = close_by_drop();
    let clone = guard.clone();
    tokio::spawn(async move { drop(clone) });
    let started = Instant::now();
    assert_eq!(last_drop.wait(LIMIT).await, left(1, LIMIT));
    assert_eq!(started.elapsed(), LIMIT);
    drop(guard);
}

/// Notes in its drop how many guards are held.
struct Probe(Arc<LastDrop>, Arc<AtomicUsize>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.1.store(self.0.holders(), Ordering::Relaxed);
    }
}

#[test]
fn a_guard_in_the_first_field_is_gone_before_the_other_fields_are() {
    struct First {
        _guard: Guard,
        _probe: Probe,
    }
    struct Last {
        _probe: Probe,
        _guard: Guard,
    }
    let seen = |make: fn(Probe, Guard) -> Box<dyn Send>| {
        let (guard, last_drop) = close_by_drop();
        let seen = Arc::new(AtomicUsize::new(usize::MAX));
        drop(make(Probe(Arc::new(last_drop), Arc::clone(&seen)), guard));
        seen.load(Ordering::Relaxed)
    };
    assert_eq!(seen(|_probe, _guard| Box::new(First { _guard, _probe })), 0);
    assert_eq!(seen(|_probe, _guard| Box::new(Last { _probe, _guard })), 1);
}

#[tokio::test(start_paused = true)]
async fn a_block_that_mentions_only_another_field_leaves_the_guard_outside() {
    struct Session {
        lasts: Duration,
        _guard: Guard,
    }
    fn start(session: Session, whole: bool) {
        if whole {
            tokio::spawn(async move {
                let session = session;
                sleep(session.lasts).await;
            });
        } else {
            tokio::spawn(async move { sleep(session.lasts).await });
        }
    }
    for (whole, held_for) in [(false, Duration::ZERO), (true, TAKES)] {
        let (_guard, mut last_drop) = close_by_drop();
        start(
            Session {
                lasts: TAKES,
                _guard,
            },
            whole,
        );
        let started = Instant::now();
        assert_eq!(last_drop.wait(LIMIT).await, Ok(()));
        assert_eq!(started.elapsed(), held_for);
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_zero_tells_the_present_state_and_an_enormous_one_is_no_panic() {
    let (guard, mut last_drop) = close_by_drop();
    assert_eq!(
        last_drop.wait(Duration::ZERO).await,
        left(1, Duration::ZERO)
    );
    tokio::spawn(async move {
        sleep(TAKES).await;
        drop(guard);
    });
    assert_eq!(last_drop.wait(Duration::MAX).await, Ok(()));
    assert_eq!(last_drop.wait(Duration::ZERO).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_wait_has_changed_nothing() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (guard, last_drop) = close_by_drop();
            let clone = guard.clone();
            tokio::spawn(async move {
                sleep(TAKES).await;
                drop(clone);
            });
            tokio::spawn(async move {
                sleep(2 * TAKES).await;
                drop(guard);
            });
            (last_drop, Instant::now())
        },
        async |(last_drop, _)| last_drop.wait(LIMIT).await,
        async |(mut last_drop, started), outcome| {
            if let Outcome::Completed(result) = outcome {
                assert_eq!(result, Ok(()));
            }
            assert_eq!(last_drop.wait(LIMIT).await, Ok(()));
            assert_eq!(started.elapsed(), 2 * TAKES);
        },
    )
    .await;
    assert!(points.unwrap() >= 1);
}

#[tokio::test(start_paused = true)]
async fn a_drop_guard_acts_at_the_first_drop_and_a_task_tracker_once_it_is_closed() {
    let token = CancellationToken::new();
    let (first, second) = (token.clone().drop_guard(), token.clone().drop_guard());
    drop(first);
    assert!(token.is_cancelled());
    drop(second);

    let tracker = TaskTracker::new();
    drop(tracker.token());
    timeout(LIMIT, tracker.wait())
        .await
        .expect_err("none is left, and more may come");
    tracker.close();
    timeout(LIMIT, tracker.wait()).await.expect("none is left");
}

// Cleanups.

/// Adds one when it is run for as long as this takes.
fn counting(done: &Arc<AtomicUsize>) -> impl Future<Output = ()> + Send + 'static {
    let done = Arc::clone(done);
    async move {
        sleep(TAKES).await;
        done.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cleanup_begins_with_the_drop_of_its_last_handle_and_is_waited_for() {
    let log = Capture::of("shutdown");
    let _listening = log.start();
    let (guard, mut last_drop) = close_by_drop();
    let done = Arc::new(AtomicUsize::new(0));
    let handle = guard.on_drop("count", LIMIT, counting(&done));
    drop(guard);
    let clone = handle.clone();
    drop(handle);
    sleep(10 * TAKES).await;
    assert_eq!(done.load(Ordering::Relaxed), 0, "a clone is left");

    let started = Instant::now();
    drop(clone);
    assert_eq!(last_drop.holders(), 1, "the cleanup");
    assert_eq!(last_drop.wait(LIMIT).await, Ok(()));
    assert_eq!(started.elapsed(), TAKES);
    assert_eq!(done.load(Ordering::Relaxed), 1);
    assert!(log.events().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cleanup_is_stopped_at_its_limit_and_logged() {
    let log = Capture::of("shutdown");
    let _listening = log.start();
    let (guard, mut last_drop) = close_by_drop();
    let inside = Arc::new(());
    let held = Arc::clone(&inside);
    drop(guard.on_drop("lease 7", TAKES, async move {
        let _held = held;
        pending::<()>().await;
    }));
    drop(guard);
    let started = Instant::now();
    assert_eq!(last_drop.wait(LIMIT).await, Ok(()));
    assert_eq!(started.elapsed(), TAKES);
    assert_eq!(Arc::strong_count(&inside), 1, "it is gone");
    let text = log.lines().join("\n");
    assert!(
        text.contains("a cleanup was stopped at its limit"),
        "{text}"
    );
    assert!(text.contains("lease 7") && text.contains("100ms"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_cleanup_with_a_limit_of_zero_gets_to_its_first_wait_and_an_enormous_one_is_no_panic() {
    let log = Capture::of("shutdown");
    let _listening = log.start();
    let (guard, mut last_drop) = close_by_drop();
    let (first, second) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let started = Arc::clone(&first);
    let waits = counting(&second);
    drop(guard.on_drop("zero", Duration::ZERO, async move {
        started.store(1, Ordering::Relaxed);
        waits.await;
    }));
    let third = Arc::new(AtomicUsize::new(0));
    drop(guard.on_drop("enormous", Duration::MAX, counting(&third)));
    drop(guard);
    assert_eq!(last_drop.wait(LIMIT).await, Ok(()));
    let done = [first, second, third].map(|done| done.load(Ordering::Relaxed));
    assert_eq!(done, [1, 0, 1]);
    let text = log.lines().join("\n");
    assert!(
        text.contains("zero") && !text.contains("enormous"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cleanup_that_panics_is_logged_with_its_message_and_counts_as_gone() {
    let (guard, mut last_drop) = close_by_drop();
    let log = Capture::of("shutdown");
    let _listening = log.start();
    drop(guard.on_drop("literal", LIMIT, async { panic!("half way") }));
    drop(guard.on_drop("formatted", LIMIT, async {
        sleep(TAKES).await;
        assert_eq!(1, 2, "the sum");
    }));
    drop(guard.on_drop("other", LIMIT, async { std::panic::panic_any(7) }));
    drop(guard);
    assert_eq!(last_drop.wait(LIMIT).await, Ok(()));
    let text = log.lines().join("\n");
    assert_eq!(text.matches("a cleanup panicked").count(), 3, "{text}");
    for part in [
        "literal",
        "half way",
        "formatted",
        "the sum",
        "other",
        "no message",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_guard_is_dropped_after_what_the_cleanup_owns() {
    for limit in [TAKES, LIMIT] {
        let (guard, last_drop) = close_by_drop();
        let last_drop = Arc::new(last_drop);
        let seen = Arc::new(AtomicUsize::new(usize::MAX));
        let probe = Probe(Arc::clone(&last_drop), Arc::clone(&seen));
        drop(guard.on_drop("probe", limit, async move {
            let _probe = probe;
            sleep(2 * TAKES).await;
        }));
        drop(guard);
        sleep(LIMIT).await;
        assert_eq!((seen.load(Ordering::Relaxed), last_drop.holders()), (1, 0));
    }
    // And when the runtime shuts down, with the cleanup not begun.
    let (guard, last_drop) = close_by_drop();
    let last_drop = Arc::new(last_drop);
    let seen = Arc::new(AtomicUsize::new(usize::MAX));
    let probe = Probe(Arc::clone(&last_drop), Arc::clone(&seen));
    let other = thread::spawn(move || {
        let runtime = runtime();
        runtime.block_on(async {
            let handle = guard.on_drop("probe", LIMIT, async move {
                let _probe = probe;
            });
            drop(guard);
            yield_now().await; // its task waits
            handle
        })
    });
    drop(other.join().unwrap());
    assert_eq!((seen.load(Ordering::Relaxed), last_drop.holders()), (1, 0));
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
}

#[test]
fn a_handle_dropped_outside_of_a_runtime_or_in_a_panic_starts_its_cleanup() {
    let runtime = runtime();
    let done = Arc::new(AtomicUsize::new(0));
    let (guard, mut last_drop) = close_by_drop();
    let make = || guard.on_drop("count", LIMIT, counting(&done));
    let (here, there, in_panic) = runtime.block_on(async { (make(), make(), make()) });
    drop(here);
    thread::spawn(move || drop(there)).join().unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(move || {
        let _handle = in_panic;
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    drop(guard);
    assert_eq!(
        runtime.block_on(async { last_drop.wait(LIMIT).await }),
        Ok(())
    );
    assert_eq!(done.load(Ordering::Relaxed), 3);
}

#[test]
fn a_runtime_that_shuts_down_loses_the_cleanups_that_are_not_done_and_each_is_logged() {
    let log = Capture::of("shutdown");
    let _listening = log.start();
    let done = Arc::new(AtomicUsize::new(0));
    let runtime = runtime();
    let (guard, last_drop) = close_by_drop();
    let alive = runtime.block_on(async {
        drop(guard.on_drop("under way", LIMIT, counting(&done)));
        sleep(TAKES / 2).await;
        drop(guard.on_drop("not begun", LIMIT, counting(&done)));
        guard.on_drop("value alive", LIMIT, counting(&done))
    });
    drop(guard);
    assert_eq!(last_drop.holders(), 3);
    drop(runtime);
    assert_eq!(done.load(Ordering::Relaxed), 0, "of three");
    let text = log.lines().join("\n");
    for name in ["under way", "not begun", "value alive"] {
        assert!(text.contains(name), "{name}: {text}");
    }
    assert_eq!(text.matches("a cleanup is lost").count(), 3, "{text}");
    assert_eq!(last_drop.holders(), 0);
    drop(alive); // no panic, and nothing more
    assert_eq!(log.lines().join("\n"), text);
}

#[test]
fn a_runtime_that_waits_for_the_last_guard_loses_no_cleanup() {
    let log = Capture::of("shutdown");
    let _listening = log.start();
    let done = Arc::new(AtomicUsize::new(0));
    let runtime = runtime();
    runtime.block_on(async {
        let (guard, mut last_drop) = close_by_drop();
        for limit in [LIMIT, 2 * LIMIT, 3 * LIMIT] {
            drop(guard.on_drop("count", limit, counting(&done)));
        }
        drop(guard);
        assert_eq!(last_drop.wait(LIMIT).await, Ok(()));
    });
    drop(runtime);
    assert_eq!((done.load(Ordering::Relaxed), log.lines()), (3, vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cleanup_that_blocks_is_not_stopped_at_its_limit() {
    let (guard, mut last_drop) = close_by_drop();
    let (release, released) = std::sync::mpsc::sync_channel(1);
    let done = Arc::new(AtomicUsize::new(0));
    let ended = Arc::clone(&done);
    drop(guard.on_drop("blocks", Duration::ZERO, async move {
        released.recv().unwrap();
        ended.store(1, Ordering::Relaxed);
    }));
    drop(guard);
    assert_eq!(last_drop.wait(TAKES).await, left(1, TAKES));
    release.send(()).unwrap();
    assert_eq!(last_drop.wait(LIMIT).await, Ok(()));
    assert_eq!(done.load(Ordering::Relaxed), 1);
}

#[test]
fn a_runtime_without_timers_cannot_limit_a_cleanup_and_says_so() {
    let log = Capture::of("shutdown");
    let _listening = log.start();
    let runtime = Builder::new_current_thread().build().unwrap();
    let (guard, last_drop) = close_by_drop();
    runtime.block_on(async {
        drop(guard.on_drop("untimed", LIMIT, async {}));
        drop(guard);
        for _ in 0..10 {
            yield_now().await;
        }
    });
    assert_eq!(last_drop.holders(), 0);
    let text = log.lines().join("\n");
    assert!(
        text.contains("a cleanup panicked") && text.contains("timers"),
        "{text}"
    );
}

#[test]
#[should_panic(expected = "there is no reactor running")]
fn making_a_cleanup_outside_of_a_runtime_panics() {
    drop(close_by_drop().0.on_drop("nowhere", LIMIT, async {}));
}

#[test]
fn a_value_with_a_handle_can_be_shared_although_its_cleanup_cannot() {
    fn is_shared<T: Send + Sync + Clone + 'static>(_: &T) {}
    runtime().block_on(async {
        let (guard, _last_drop) = close_by_drop();
        let not_sync = std::cell::Cell::new(7);
        let handle: OnDrop = guard.on_drop("cell", LIMIT, async move {
            not_sync.set(8);
        });
        is_shared(&(guard, handle));
    });
}

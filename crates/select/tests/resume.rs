//! What the slot promises, and what is lost without it.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::Cell;
use std::future::ready;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use select::resume::{Busy, Slot};
use testing::every_await_point::every_await_point;
use tokio::select;
use tokio::sync::Mutex;
use tokio::time::{Instant, interval, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);

/// Ten steps of 30 ms. Counts every step that is done, kept or not.
async fn work(steps: &Cell<u32>) -> &'static str {
    for _ in 0..10 {
        sleep(30 * MS).await;
        steps.set(steps.get() + 1);
    }
    "done"
}

#[tokio::test(start_paused = true)]
async fn kept_it_makes_progress_rebuilt_it_loses_it() {
    let steps = Cell::new(0);
    let started = Instant::now();
    let mut heartbeat = interval(100 * MS);
    let mut slot = Slot::new();
    slot.start(work(&steps)).unwrap();
    let result = loop {
        select! {
            result = slot.done() => break result,
            _ = heartbeat.tick() => {}
        }
    };
    assert_eq!((result, steps.get()), ("done", 10));
    assert_eq!(started.elapsed(), 300 * MS);

    // The harm: three steps in each turn, a thousand turns, and all of them lost.
    steps.set(0);
    let mut heartbeat = interval(100 * MS);
    heartbeat.tick().await;
    for _ in 0..1_000 {
        select! {
            _ = work(&steps) => unreachable!("each turn begins anew"),
            _ = heartbeat.tick() => {}
        }
    }
    assert_eq!(steps.get(), 3_000);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_around_done_keeps_the_work_and_one_around_the_work_loses_it() {
    let steps = Cell::new(0);
    let mut slot = Slot::new();
    slot.start(work(&steps)).unwrap();
    let mut tries = 0;
    while timeout(100 * MS, slot.done()).await.is_err() {
        tries += 1;
    }
    assert_eq!((tries, steps.get()), (2, 10)); // ready at 300 ms, with the third limit

    steps.set(0);
    for _ in 0..100 {
        timeout(100 * MS, work(&steps)).await.unwrap_err();
    }
    assert_eq!(steps.get(), 300);
}

#[tokio::test(start_paused = true)]
async fn a_busy_slot_hands_the_other_future_back_unbegun() {
    let begun = Cell::new(0);
    let job = || async {
        begun.set(begun.get() + 1);
        sleep(MS).await;
    };
    let mut slot = Slot::new();
    slot.start(job()).unwrap();
    let Busy(second) = slot.start(job()).unwrap_err();
    assert!(slot.is_busy());
    slot.done().await;
    assert_eq!(begun.get(), 1);
    assert!(!slot.is_busy());
    slot.start(second).unwrap();
    slot.done().await;
    assert_eq!(begun.get(), 2);
    let busy = Busy(());
    assert!(busy.to_string().contains("await its end, or replace"));
    assert_eq!(format!("{busy:?}"), "Busy(..)");
}

#[tokio::test(start_paused = true)]
async fn replace_and_cancel_drop_what_was_there() {
    let alive = Arc::new(());
    let job = |result: u32| {
        let alive = Arc::clone(&alive);
        async move {
            sleep(50 * MS).await;
            drop(alive);
            result
        }
    };
    let started = Instant::now();
    let mut slot = Slot::default();
    assert!(!slot.replace(job(1)));
    timeout(40 * MS, slot.done()).await.unwrap_err();
    assert!(slot.replace(job(2)));
    assert_eq!(Arc::strong_count(&alive), 2);
    assert_eq!(slot.done().await, 2);
    assert_eq!(started.elapsed(), 90 * MS);

    slot.start(job(3)).unwrap();
    assert!(slot.cancel() && !slot.cancel());
    assert_eq!(Arc::strong_count(&alive), 1);
    slot.start(job(4)).unwrap();
    drop(slot);
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[tokio::test(start_paused = true)]
async fn an_empty_slot_waits_for_ever() {
    let mut slot = Slot::new();
    timeout(LIMIT, slot.done()).await.unwrap_err();
    slot.start(ready(1)).unwrap();
    assert_eq!(format!("{slot:?}"), "Slot { busy: true }");
    assert_eq!(slot.done().await, 1);
    timeout(LIMIT, slot.done()).await.unwrap_err();
    assert_eq!(format!("{slot:?}"), "Slot { busy: false }");
}

#[tokio::test(start_paused = true)]
async fn a_panic_empties_the_slot() {
    let mut slot = Slot::new();
    slot.start(async { panic!("on purpose") }).unwrap();
    {
        let mut done = pin!(slot.done());
        let mut poll = || done.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        catch_unwind(AssertUnwindSafe(&mut poll)).unwrap_err();
    }
    assert!(!slot.is_busy());
    let never = async { timeout(LIMIT, slot.done()).await.map(|(): ()| ()) };
    never.await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn done_dropped_at_any_await_loses_no_progress() {
    struct State {
        begun: Arc<AtomicU32>,
        slot: Slot<Pin<Box<dyn Future<Output = u32>>>>,
    }
    let setup = async || {
        let begun = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&begun);
        let work: Pin<Box<dyn Future<Output = u32>>> = Box::pin(async move {
            count.fetch_add(1, Ordering::SeqCst);
            for _ in 0..3 {
                sleep(10 * MS).await;
            }
            7
        });
        let mut slot = Slot::new();
        slot.start(work).unwrap();
        State { begun, slot }
    };
    let operation = async |state: &mut State| state.slot.done().await;
    let check = async |mut state: State, outcome| {
        use testing::every_await_point::Outcome;
        let result = match outcome {
            Outcome::Dropped(_) => state.slot.done().await,
            Outcome::Completed(result) => result,
        };
        assert_eq!(result, 7);
        assert_eq!(state.begun.load(Ordering::SeqCst), 1, "it began once");
    };
    let points = every_await_point(LIMIT, setup, operation, check).await;
    assert!(points.unwrap() >= 3);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "resumed after completion")]
async fn harm_a_kept_future_that_has_ended_panics_when_awaited_again() {
    let mut work = pin!(async {});
    for _ in 0..2 {
        work.as_mut().await;
    }
}

#[tokio::test(start_paused = true)]
async fn harm_it_stands_still_with_its_lock_while_another_branch_runs() {
    let lock = Mutex::new(());
    let mut slot = Slot::new();
    let holds = async {
        let _guard = lock.lock().await;
        sleep(50 * MS).await;
    };
    slot.start(holds).unwrap();
    select! {
        biased;
        () = slot.done() => unreachable!("it takes 50 ms"),
        () = sleep(10 * MS) => {
            // A day passes, and the holder has only to be polled.
            timeout(24 * 60 * LIMIT, lock.lock()).await.unwrap_err();
        }
    }
    timeout(LIMIT, slot.done()).await.unwrap();
    drop(timeout(LIMIT, lock.lock()).await.unwrap());
}

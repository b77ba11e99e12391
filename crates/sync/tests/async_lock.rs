//! What the async lock promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use sync::async_lock::{AsyncLock, Busy, UpdateError};
use testing::every_await_point::{AwaitPointError, Outcome, every_await_point};
use tokio::select;
use tokio::sync::Mutex;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const TAKES: Duration = Duration::from_millis(10);

type Accounts = (i32, i32);

/// Takes ten from the one, and gives them to the other 10 ms later.
async fn transfer(accounts: &mut Accounts) -> Result<i32, Infallible> {
    accounts.0 -= 10;
    sleep(TAKES).await;
    accounts.1 += 10;
    Ok(accounts.1)
}

async fn value<T: Clone>(lock: &AsyncLock<T>) -> T {
    let draft = lock.draft(Duration::ZERO).await;
    T::clone(&draft.expect("the lock is held"))
}

/// A task that has the lock from now on, for as long as is said.
async fn hold(lock: &AsyncLock<Accounts>, time: Duration) {
    let draft = lock.draft(LIMIT).await.unwrap();
    tokio::spawn(async move {
        sleep(time).await;
        drop(draft);
    });
}

#[tokio::test(start_paused = true)]
async fn what_is_awaited_under_the_lock_adds_up_and_what_is_awaited_before_it_does_not() {
    for (under_the_lock, milliseconds) in [(true, 1_000), (false, 10)] {
        let count = AsyncLock::new(0);
        let started = Instant::now();
        let mut callers = JoinSet::new();
        for _ in 0..100 {
            let count = count.clone();
            callers.spawn(async move {
                if !under_the_lock {
                    sleep(TAKES).await;
                }
                let change = async |count: &mut u32| {
                    if under_the_lock {
                        sleep(TAKES).await;
                    }
                    *count += 1;
                    Ok::<_, Infallible>(())
                };
                count.update(LIMIT, change).await.unwrap();
            });
        }
        callers.join_all().await;
        assert_eq!(started.elapsed(), Duration::from_millis(milliseconds));
        assert_eq!(value(&count).await, 100);
    }
}

#[tokio::test(start_paused = true)]
async fn the_lock_goes_to_who_asked_first() {
    let lock = AsyncLock::new(Vec::new());
    let mut callers = JoinSet::new();
    let started = Instant::now();
    for caller in 0..10 {
        let lock = lock.clone();
        callers.spawn(async move {
            let note = async |log: &mut Vec<_>| {
                log.push((caller, started.elapsed().as_millis()));
                sleep(TAKES).await;
                Ok::<_, Infallible>(())
            };
            // The later they ask, the less they will wait: the place counts, not the time limit.
            let wait = LIMIT - TAKES * u32::try_from(caller).unwrap();
            lock.update(wait, note).await.unwrap();
        });
    }
    callers.join_all().await;
    let expected: Vec<_> = (0..10).map(|caller| (caller, caller * 10)).collect();
    assert_eq!(value(&lock).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_returns_an_error_changes_nothing() {
    let lock = AsyncLock::new((100, 0));
    let change = async |accounts: &mut Accounts| {
        transfer(accounts).await.unwrap();
        Err::<(), _>("not allowed")
    };
    let failed = lock.update(LIMIT, change).await;
    assert_eq!(failed, Err(UpdateError::Failed("not allowed")));
    assert_eq!(value(&lock).await, (100, 0));
    assert_eq!(lock.update(LIMIT, transfer).await, Ok(10));
    assert_eq!(value(&lock).await, (90, 10));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_panics_changes_nothing() {
    let lock = AsyncLock::new((100, 0));
    let change = async |accounts: &mut Accounts| {
        accounts.0 -= 10;
        sleep(TAKES).await;
        panic!("half way");
    };
    let update = lock.update::<(), Infallible>(LIMIT, change);
    AssertUnwindSafe(update).catch_unwind().await.unwrap_err();
    assert_eq!(value(&lock).await, (100, 0));
}

#[tokio::test(start_paused = true)]
async fn with_a_bare_guard_a_panic_leaves_half_a_change() {
    let accounts = Arc::new(Mutex::new((100, 0)));
    let shared = Arc::clone(&accounts);
    let task = tokio::spawn(async move {
        let mut accounts = shared.lock().await;
        accounts.0 -= 10;
        assert_eq!(accounts.1, 10, "half way");
        accounts.1 += 10;
    });
    task.await.unwrap_err();
    assert_eq!(
        *accounts.lock().await,
        (90, 0),
        "no poison, and ten are gone"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dropped_update_has_changed_nothing() {
    let points = every_await_point(
        LIMIT,
        async || {
            let lock = AsyncLock::new((100, 0));
            hold(&lock, TAKES).await;
            lock
        },
        async |lock| lock.update(LIMIT, transfer).await,
        async |lock, outcome| {
            sleep(2 * TAKES).await; // the first holder is done by now
            let expected = match outcome {
                Outcome::Completed(result) => {
                    assert_eq!(result, Ok(10));
                    (90, 10)
                }
                Outcome::Dropped(_) => (100, 0),
            };
            assert_eq!(value(&lock).await, expected);
        },
    )
    .await;
    assert!(
        points.unwrap() >= 2,
        "the wait for the lock, and the change"
    );
}

#[tokio::test(start_paused = true)]
async fn with_a_bare_guard_a_drop_leaves_half_a_change() {
    let found = every_await_point(
        LIMIT,
        async || Mutex::new((100, 0)),
        async |lock| transfer(&mut *lock.lock().await).await,
        async |lock, _| {
            let accounts = *lock.lock().await;
            assert_eq!(accounts.0 + accounts.1, 100, "{accounts:?}");
        },
    )
    .await;
    let AwaitPointError::Broken { message, .. } = found.unwrap_err() else {
        panic!("something else is wrong");
    };
    assert!(message.contains("(90, 0)"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn what_a_change_did_elsewhere_stays_done() {
    let (lock, sent) = (AsyncLock::new((100, 0)), AtomicU32::new(0));
    let change = async |accounts: &mut Accounts| {
        sent.fetch_add(1, Ordering::Relaxed);
        transfer(accounts).await
    };
    timeout(TAKES / 2, lock.update(LIMIT, change))
        .await
        .unwrap_err();
    assert_eq!(value(&lock).await, (100, 0));
    assert_eq!(sent.into_inner(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_is_for_the_wait_and_not_for_the_change() {
    let lock = AsyncLock::new((100, 0));
    hold(&lock, 3 * TAKES).await;
    let started = Instant::now();
    let (early, late) = tokio::join!(
        lock.update(2 * TAKES, async |_| -> Result<(), Infallible> {
            panic!("it never has the lock")
        }),
        lock.update(4 * TAKES, async |accounts| {
            sleep(5 * TAKES).await;
            transfer(accounts).await
        })
    );
    let busy = Busy { waited: 2 * TAKES };
    assert_eq!(early, Err(UpdateError::Busy(busy)));
    assert_eq!(late, Ok(10));
    assert_eq!(started.elapsed(), 9 * TAKES);
    let message = early.unwrap_err().to_string();
    assert!(message.contains("not free within 20ms"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn no_time_at_all_is_enough_for_a_free_lock_and_endless_time_is_no_panic() {
    let lock = AsyncLock::new((100, 0));
    for round in 1..=300 {
        // More than a task's budget: the lock suspends some of these, though it is free.
        let step = async |accounts: &mut Accounts| {
            accounts.1 += 1;
            Ok::<_, Infallible>(())
        };
        let done = lock.update(Duration::ZERO, step).await;
        assert_eq!(done, Ok(()), "round {round}");
    }
    hold(&lock, TAKES).await;
    let waited = Duration::ZERO;
    assert_eq!(lock.draft(waited).await.unwrap_err(), Busy { waited });
    let draft = lock.draft(Duration::MAX).await.unwrap();
    assert_eq!(*draft, (100, 300));
}

#[tokio::test(start_paused = true)]
async fn a_draft_moves_into_a_task_and_counts_only_if_it_is_committed() {
    let lock = AsyncLock::new((100, 0));
    for (commits, expected) in [(false, (100, 0)), (true, (90, 10))] {
        let mut draft = lock.draft(LIMIT).await.unwrap();
        let task = tokio::spawn(async move {
            transfer(&mut draft).await.unwrap();
            if commits {
                draft.commit();
            }
        });
        let meanwhile = lock.draft(TAKES / 2).await;
        assert!(meanwhile.is_err(), "the task has the lock");
        task.await.unwrap();
        assert_eq!(value(&lock).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_wait_loses_its_place_and_blocks_nobody() {
    let points = every_await_point(
        LIMIT,
        async || {
            let lock = AsyncLock::new((100, 0));
            hold(&lock, TAKES).await;
            lock
        },
        async |lock| drop(lock.draft(LIMIT).await.unwrap()),
        async |lock, _| {
            let next = lock.draft(2 * TAKES).await;
            drop(next.expect("its place is kept, and nobody is there"));
        },
    )
    .await;
    assert!(points.unwrap() >= 1);
}

#[tokio::test(start_paused = true)]
async fn an_update_inside_of_an_update_waits_for_itself_until_its_time_is_up() {
    let lock = AsyncLock::new((100, 0));
    let started = Instant::now();
    let nested = async |_: &mut Accounts| lock.update(LIMIT, transfer).await;
    let result = lock.update(LIMIT, nested).await;
    let busy = UpdateError::Busy(Busy { waited: LIMIT });
    assert_eq!(result, Err(UpdateError::Failed(busy)));
    assert_eq!(started.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_future_that_waits_first_and_is_not_polled_stops_the_bare_mutex_for_ever() {
    let lock = Arc::new(Mutex::new(()));
    let held = Arc::clone(&lock).lock_owned().await;
    tokio::spawn(async move {
        sleep(2 * TAKES).await;
        drop(held);
    });
    let stuck = async {
        let mut waiting = pin!(lock.lock());
        select! {
            _guard = &mut waiting => {}
            () = sleep(TAKES) => drop(lock.lock().await),
        }
    };
    timeout(LIMIT, stuck)
        .await
        .expect_err("the lock was given to `waiting`, 20 ms after the start");
}

#[tokio::test(start_paused = true)]
async fn a_future_given_to_select_itself_makes_room_for_the_branch() {
    let lock = AsyncLock::new((100, 0));
    hold(&lock, 2 * TAKES).await;
    let started = Instant::now();
    let result = select! {
        result = lock.update(LIMIT, transfer) => result,
        () = sleep(TAKES) => lock.update(LIMIT, async |_| Ok(0)).await,
    };
    assert_eq!(result, Ok(0));
    assert_eq!(started.elapsed(), 2 * TAKES);
}

#[tokio::test(start_paused = true)]
async fn with_a_time_limit_the_branch_behind_an_unpolled_future_is_told() {
    let lock = AsyncLock::new((100, 0));
    hold(&lock, 2 * TAKES).await;
    let started = Instant::now();
    let mut waiting = pin!(lock.update(LIMIT, transfer));
    let branch = select! {
        result = &mut waiting => result,
        () = sleep(TAKES) => lock.update(5 * TAKES, transfer).await,
    };
    let waited = 5 * TAKES;
    assert_eq!(branch, Err(UpdateError::Busy(Busy { waited })));
    assert_eq!(started.elapsed(), 6 * TAKES);
    assert_eq!(waiting.await, Ok(10), "it still has its place");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads_no_update_is_lost() {
    let count = AsyncLock::new(0);
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let count = count.clone();
        tasks.spawn(async move {
            for _ in 0..20 {
                let add = async |count: &mut u32| {
                    let seen = *count;
                    yield_now().await;
                    *count = seen + 1;
                    Ok::<_, Infallible>(())
                };
                count.update(LIMIT, add).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(value(&count).await, 1_000);
}

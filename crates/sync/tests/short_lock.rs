//! What the short lock promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use sync::short_lock::{Poisoned, Shared};
use tokio::runtime::Builder;
use tokio::task::{JoinSet, yield_now};

/// For what comes: a loaded machine may be slow.
const LIMIT: Duration = Duration::from_secs(60);
/// For what never comes.
const WHILE: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_from_many_tasks_are_all_there() {
    let count = Shared::new(0);
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let count = count.clone();
        tasks.spawn(async move {
            for _ in 0..100 {
                // Not `+= 1`: there is time for another between the two.
                let changed = count.with(|count| {
                    let seen = *count;
                    thread::yield_now();
                    *count = seen + 1;
                });
                changed.unwrap();
                yield_now().await;
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(count.with(|count| *count), Ok(10_000));
}

/// Ten of a hundred leave the one account and never get to the other.
fn panic_half_way(accounts: &Shared<(i32, i32)>) {
    let transfer = || {
        accounts.with(|(from, to)| {
            *from -= 10;
            assert_eq!(*to, 10, "half way");
            *to += 10;
        })
    };
    catch_unwind(AssertUnwindSafe(transfer)).expect_err("the panic is the caller's");
}

#[test]
fn after_a_panic_the_state_is_refused_until_it_is_mended() {
    let accounts = Shared::new((100, 0));
    panic_half_way(&accounts);
    let clone = accounts.clone();
    for _ in 0..2 {
        let refused = clone.with(|_| panic!("called with half a change"));
        assert_eq!(refused, Err::<(), _>(Poisoned));
    }
    assert_eq!(accounts.heal(|(from, to)| *from = 100 - *to), Some(()));
    assert_eq!(clone.with(|accounts| *accounts), Ok((100, 0)));
    assert!(Poisoned.to_string().contains("mend it in `heal`"));
}

#[test]
fn of_several_who_find_it_poisoned_one_mends_it() {
    let accounts = Shared::new((100, 0));
    assert_eq!(accounts.heal(|_| panic!("nothing is broken")), None::<()>);
    panic_half_way(&accounts);
    let mended = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                if accounts.with(|_| ()) == Err(Poisoned) {
                    accounts.heal(|accounts| {
                        mended.fetch_add(1, Ordering::Relaxed);
                        *accounts = (100, 0);
                    });
                }
                // A second reset would take this away again.
                accounts.with(|(from, _)| *from += 1).unwrap();
            });
        }
    });
    assert_eq!(mended.into_inner(), 1);
    assert_eq!(accounts.with(|accounts| *accounts), Ok((108, 0)));
}

#[test]
fn a_panic_while_mending_leaves_it_poisoned() {
    let accounts = Shared::new((100, 0));
    panic_half_way(&accounts);
    let mend = || accounts.heal(|_| panic!("cannot"));
    catch_unwind(AssertUnwindSafe(mend)).expect_err("the panic is the caller's");
    assert_eq!(accounts.with(|_| ()), Err(Poisoned));
    assert_eq!(accounts.heal(|_| ()), Some(()));
}

#[test]
fn a_locked_state_can_be_printed() {
    let number = Shared::new(7);
    assert!(format!("{number:?}").contains('7'));
    let inside = number.with(|_| format!("{number:?}")).unwrap();
    assert!(inside.contains("<locked>"), "{inside}");
}

#[test]
fn with_the_bare_mutex_one_panic_is_a_panic_of_each_later_caller() {
    let numbers = Mutex::new(0);
    let change = |fails: bool| {
        let mut number = numbers.lock().unwrap();
        assert!(!fails, "the only fault");
        *number += 1;
    };
    let panics = (0..10).filter(|index| catch_unwind(|| change(*index == 0)).is_err());
    assert_eq!(panics.count(), 10);
}

#[test]
fn with_the_poison_ignored_half_a_change_goes_on_being_used() {
    let accounts = Mutex::new((100, 0));
    let transfer = |fails: bool| {
        let mut accounts = accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.0 -= 10;
        assert!(!fails, "half way");
        accounts.1 += 10;
        accounts.0 + accounts.1
    };
    catch_unwind(|| transfer(true)).unwrap_err();
    assert_eq!(transfer(false), 90, "ten of a hundred are gone");
}

/// Runs `stuck` on a thread that nobody waits for: it ends with the process.
fn on_a_thread_of_its_own(
    stuck: impl FnOnce(SyncSender<&'static str>) + Send + 'static,
) -> Receiver<&'static str> {
    let (report, reports) = sync_channel(10);
    thread::spawn(move || stuck(report));
    reports
}

#[test]
fn a_bare_guard_across_an_await_deadlocks_one_thread_without_a_warning_of_the_compiler() {
    let numbers = Arc::new(Mutex::new(0));
    let shared = Arc::clone(&numbers);
    let reports = on_a_thread_of_its_own(move |report| {
        #[expect(clippy::await_holding_lock, reason = "the fault that is shown")]
        let change = async |asks: &'static str, has_changed: &'static str| {
            report.send(asks).unwrap();
            let mut number = shared.lock().unwrap();
            yield_now().await;
            *number += 1;
            drop(number);
            report.send(has_changed).unwrap();
        };
        let timer = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            report.send("a timer").unwrap();
        };
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            tokio::join!(
                change("one asks", "one has changed"),
                change("two asks", "two has changed"),
                timer
            )
        });
    });
    assert_eq!(reports.recv_timeout(LIMIT), Ok("one asks"));
    assert_eq!(reports.recv_timeout(LIMIT), Ok("two asks"));
    // Neither a change, nor the timer, nor the end of the thread.
    assert_eq!(reports.recv_timeout(WHILE), Err(RecvTimeoutError::Timeout));
    assert!(
        numbers.try_lock().is_err(),
        "held by a task that never runs"
    );
}

#[test]
fn tasks_of_one_thread_that_await_between_closures_do_not_deadlock() {
    let number = Shared::new(0);
    let runtime = Builder::new_current_thread().build().unwrap();
    let change = async || {
        let seen = number.with(|number| *number).unwrap();
        yield_now().await;
        number.with(|number| *number += 1).unwrap();
        seen
    };
    let seen = runtime.block_on(async { tokio::join!(change(), change()) });
    assert_eq!(seen, (0, 0), "both were between their closures");
    assert_eq!(number.with(|number| *number), Ok(2));
}

#[test]
fn with_inside_of_with_on_the_same_state_is_a_deadlock() {
    let number = Shared::new(0);
    let reports = on_a_thread_of_its_own(move |report| {
        let outer = number.with(|_| {
            report.send("inside").unwrap();
            number.with(|_| ()).unwrap();
        });
        outer.unwrap();
        report.send("done").ok();
    });
    assert_eq!(reports.recv_timeout(LIMIT), Ok("inside"));
    // A panic would end the thread, and so the reports.
    assert_eq!(reports.recv_timeout(WHILE), Err(RecvTimeoutError::Timeout));
}

#[test]
fn two_states_taken_in_opposite_orders_are_a_deadlock() {
    let (left, right) = (Shared::new(0), Shared::new(0));
    let meet = Arc::new(Barrier::new(2));
    let thread = |outer: Shared<i32>, inner: Shared<i32>| {
        let meet = Arc::clone(&meet);
        on_a_thread_of_its_own(move |report| {
            let both = outer.with(|_| {
                meet.wait(); // each has its first
                report.send("inside").unwrap();
                inner.with(|_| ()).unwrap();
            });
            both.unwrap();
            report.send("done").ok();
        })
    };
    let both = [thread(left.clone(), right.clone()), thread(right, left)];
    for reports in &both {
        assert_eq!(reports.recv_timeout(LIMIT), Ok("inside"));
    }
    for reports in &both {
        assert_eq!(reports.recv_timeout(WHILE), Err(RecvTimeoutError::Timeout));
    }
}

#[tokio::test]
async fn a_task_that_waits_for_the_lock_stops_the_other_tasks_of_its_thread() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let note = {
        let log = Arc::clone(&log);
        move |text| log.lock().unwrap().push(text)
    };
    let state = Shared::new(());
    let (held, holds) = sync_channel(1);
    let (asks, asked) = sync_channel::<()>(1);
    let holder = thread::spawn({
        let (state, note) = (state.clone(), note.clone());
        move || {
            let held = state.with(|()| {
                held.send(()).unwrap();
                asked.recv_timeout(LIMIT).unwrap();
                // Long enough for another task to run, if there were a thread to run it.
                assert!(asked.recv_timeout(WHILE).is_err());
                note("the holder is done");
            });
            held.unwrap();
        }
    });
    holds.recv_timeout(LIMIT).unwrap();
    let (waiter, other) = (note.clone(), note);
    let waiter = tokio::spawn(async move {
        asks.send(()).unwrap();
        state.with(|()| waiter("the waiter has it")).unwrap();
        drop(asks);
    });
    let other = tokio::spawn(async move { other("the other task runs") });
    waiter.await.unwrap();
    other.await.unwrap();
    holder.join().unwrap();
    assert_eq!(
        *log.lock().unwrap(),
        [
            "the holder is done",
            "the waiter has it",
            "the other task runs"
        ]
    );
}

//! What the store of a value that is mostly read promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Barrier};
use std::thread::{self, ThreadId};
use std::time::Duration;

use sync::read_mostly::Store;
use tokio::sync::RwLock;
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const TAKES: Duration = Duration::from_millis(100);

fn add_one(number: &u32) -> u32 {
    number + 1
}

#[test]
fn an_update_is_seen_by_all_and_gives_the_version_it_replaced() {
    let store = Store::new(1);
    let clone = store.clone();
    assert_eq!(*store.update(add_one), 1);
    assert_eq!(*clone.snapshot(), 2);
    assert_eq!(clone.read(|number| number * 10), 20);
    assert!(format!("{clone:?}").contains("Store(2)"));
}

#[test]
fn updates_from_several_threads_are_all_there_and_none_sees_a_version_twice() {
    let store = Store::new(0);
    let calls = AtomicU32::new(0);
    let start = Barrier::new(4);
    let mut replaced: Vec<u32> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let update = || {
                        let change = |number: &u32| {
                            calls.fetch_add(1, Ordering::Relaxed);
                            thread::yield_now(); // another comes in between
                            add_one(number)
                        };
                        *store.update(change)
                    };
                    (0..1_000).map(|_| update()).collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect()
    });
    replaced.sort_unstable();
    assert_eq!(replaced, (0..4_000).collect::<Vec<_>>());
    assert_eq!(*store.snapshot(), 4_000);
    assert!(calls.into_inner() >= 4_000);
}

#[test]
fn a_change_that_was_overtaken_is_made_again_on_the_latest_version() {
    let store = Store::new(1);
    let mut seen = Vec::new();
    let change = |number: &u32| {
        seen.push(*number);
        if seen.len() == 1 {
            store.update(|number| number * 10);
        }
        add_one(number)
    };
    assert_eq!(*store.update(change), 10);
    assert_eq!(seen, [1, 10]);
    assert_eq!(*store.snapshot(), 11);
}

#[test]
fn an_update_in_each_call_of_an_update_never_ends() {
    let store = Store::new(0);
    let mut calls = 0;
    let change = |number: &u32| {
        calls += 1;
        if calls < 10_000 {
            store.update(add_one); // the test stops what would go on
        }
        add_one(number)
    };
    store.update(change);
    assert_eq!(calls, 10_000);
}

#[test]
fn a_change_that_fails_or_panics_changes_nothing() {
    let store = Store::new(7);
    let refused = store.try_update(|_| Err("no such port"));
    assert_eq!(refused, Err("no such port"));
    let update = || store.update(|_| panic!("broken"));
    catch_unwind(AssertUnwindSafe(update)).unwrap_err();
    assert_eq!(*store.snapshot(), 7);
    assert_eq!(*store.update(add_one), 7);
}

#[test]
fn a_value_built_from_an_old_version_is_given_back_with_the_latest() {
    let store = Store::new(1);
    let seen = store.snapshot();
    store.update(add_one);
    let outdated = store.replace(&seen, 100).unwrap_err();
    assert_eq!((*outdated.refused, *outdated.latest), (100, 2));
    assert!(outdated.to_string().contains("build it again"));
    assert_eq!(*store.snapshot(), 2);
    store.replace(&outdated.latest, outdated.refused).unwrap();
    assert_eq!(*store.snapshot(), 100);
}

#[test]
fn it_is_the_version_that_counts_and_not_what_is_in_it() {
    let store = Store::new(1);
    let seen = store.snapshot();
    store.update(add_one);
    store.update(|number| number - 1);
    assert_eq!(seen, store.snapshot());
    store.replace(&seen, 100).unwrap_err();
}

#[test]
fn with_a_bare_store_an_update_in_between_is_lost() {
    let number = arc_swap::ArcSwap::from_pointee(0);
    let (first, second) = (number.load_full(), number.load_full());
    number.store(Arc::new(*first + 1));
    number.store(Arc::new(*second + 1));
    assert_eq!(**number.load(), 1, "two updates, one is there");
}

#[test]
fn readers_never_see_half_a_version_nor_an_older_one_after_a_newer_one() {
    let store = Store::new((0, 0));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for reader in 0..3 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let (left, right) = if reader == 0 {
                        *store.snapshot()
                    } else {
                        store.read(|pair| *pair)
                    };
                    assert_eq!(left, right);
                    assert!(left >= last, "{left} after {last}");
                    last = left;
                }
            });
        }
        for _ in 0..10_000 {
            let next = |(left, right): &(u32, u32)| (left + 1, right + 1);
            store.update(next);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(*store.snapshot(), (10_000, 10_000));
}

#[test]
fn a_snapshot_keeps_its_version_and_nothing_else_does() {
    let store = Store::new(String::from("first"));
    let snapshot = store.snapshot();
    let alive = Arc::downgrade(&snapshot);
    let replace = |value: &'static str| {
        drop(store.update(|_| value.to_owned()));
    };
    let second = Arc::downgrade(&store.snapshot());
    replace("second");
    replace("third");
    assert_eq!(*snapshot, "first");
    assert_eq!(
        alive.upgrade().as_deref().map(String::as_str),
        Some("first")
    );
    drop(snapshot);
    assert_eq!((alive.strong_count(), second.strong_count()), (0, 0));
    assert_eq!(Arc::strong_count(&store.snapshot()), 2);
}

/// Tells which thread destroyed it.
struct Destroyed(SyncSender<ThreadId>);

impl Drop for Destroyed {
    fn drop(&mut self) {
        self.0.send(thread::current().id()).ok();
    }
}

#[test]
fn whoever_drops_the_last_snapshot_destroys_the_version() {
    let (report, destroyed) = sync_channel(2);
    let store = Store::new(Destroyed(report.clone()));
    let snapshot = store.snapshot();
    drop(store.update(|_| Destroyed(report.clone())));
    assert!(destroyed.try_recv().is_err(), "a reader has it");
    let reader = thread::spawn(move || drop(snapshot));
    let id = reader.thread().id();
    reader.join().unwrap();
    assert_eq!(destroyed.try_recv(), Ok(id));
}

#[test]
fn two_snapshots_may_be_two_versions() {
    let store = Store::new((1, 1));
    let left = store.snapshot().0;
    store.update(|_| (2, 2));
    let right = store.snapshot().1;
    assert_ne!(left, right, "a pair that never was");
}

#[tokio::test(start_paused = true)]
async fn a_nested_read_of_a_rwlock_waits_for_ever_behind_a_writer_that_waits() {
    for writer_waits in [false, true] {
        let lock = Arc::new(RwLock::new(0));
        let nested_read = async {
            let outer = lock.read().await;
            sleep(TAKES).await; // here the writer comes
            let inner = lock.read().await;
            *outer + *inner
        };
        let write = async {
            if writer_waits {
                sleep(TAKES / 2).await;
                *lock.write().await += 1;
            }
        };
        let both = timeout(LIMIT, async { tokio::join!(nested_read, write) });
        assert_eq!(both.await.is_err(), writer_waits);
    }
}

#[test]
#[cfg(target_os = "linux")] // std promises no order between readers and writers
fn a_nested_read_of_the_rwlock_of_std_waits_for_ever_behind_a_writer_that_waits() {
    let (report, reports) = sync_channel(2);
    // Threads that nobody waits for: they end with the process.
    thread::spawn(move || {
        let lock = Arc::new(std::sync::RwLock::new(0));
        let outer = lock.read().unwrap();
        let writer = Arc::clone(&lock);
        thread::spawn(move || *writer.write().unwrap() += 1);
        while lock.try_read().is_ok() {
            thread::yield_now(); // until the writer waits
        }
        report.send("a writer waits").unwrap();
        let inner = lock.read().unwrap();
        assert_eq!(*outer, *inner);
        report.send("read").unwrap();
    });
    assert_eq!(reports.recv_timeout(LIMIT), Ok("a writer waits"));
    let nothing = reports.recv_timeout(Duration::from_millis(300));
    assert_eq!(nothing, Err(RecvTimeoutError::Timeout));
}

#[tokio::test(start_paused = true)]
async fn one_slow_reader_of_a_rwlock_holds_up_a_writer_and_that_one_all_other_readers() {
    let lock = Arc::new(RwLock::new(0));
    let slow = async {
        let _guard = lock.read().await;
        sleep(10 * TAKES).await;
    };
    let write = async {
        sleep(TAKES).await;
        *lock.write().await += 1;
    };
    let started = Instant::now();
    let read = async {
        sleep(2 * TAKES).await;
        (*lock.read().await, started.elapsed())
    };
    let ((), (), read) = tokio::join!(slow, write, read);
    assert_eq!(read, (1, 10 * TAKES), "it came at 200 ms");
}

#[tokio::test(start_paused = true)]
async fn a_nested_read_of_the_store_and_a_writer_in_between_wait_for_nobody() {
    let store = Store::new(0);
    let started = Instant::now();
    let nested_read = async {
        let outer = store.snapshot();
        sleep(TAKES).await;
        let inner = store.snapshot();
        let nested = store.read(|_| store.read(|number| *number));
        (*outer, *inner, nested, started.elapsed())
    };
    let write = async {
        sleep(TAKES / 2).await;
        store.update(add_one);
        started.elapsed()
    };
    let (read, written) = tokio::join!(nested_read, write);
    assert_eq!(read, (0, 1, 1, TAKES));
    assert_eq!(written, TAKES / 2);
}

#[test]
fn a_writer_gets_through_although_a_read_goes_on() {
    let store = Store::new(0);
    store.read(|before| {
        thread::scope(|scope| {
            let writer = scope.spawn(|| store.update(add_one));
            assert_eq!(*writer.join().unwrap(), 0);
        });
        assert_eq!((*before, *store.snapshot()), (0, 1));
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_goes_across_awaits_and_threads() {
    let store = Store::new(1);
    let snapshot = store.snapshot();
    let task = tokio::spawn(async move {
        tokio::task::yield_now().await;
        *snapshot
    });
    store.update(add_one);
    assert_eq!(task.await.unwrap(), 1);
}

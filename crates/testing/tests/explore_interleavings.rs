//! What the harness finds, and that the mended forms hold in every order of events.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use shuttle::future::block_on;
use shuttle::rand::{RngCore, thread_rng};
use shuttle::sync::Arc;
use shuttle::thread::spawn;
use testing::every_await_point::{Outcome, every_await_point};
use testing::explore_interleavings::{
    ExploreError, Explored, Strategy, explore, replay, switch, with_switches,
};

const LIMIT: Duration = Duration::from_secs(60);

fn number(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

fn all() -> Strategy {
    Strategy::All {
        at_most: number(10_000),
    }
}

fn random(runs: usize, seed: u64) -> Strategy {
    let runs = number(runs);
    Strategy::Random { runs, seed }
}

fn pct(runs: usize, seed: u64) -> Strategy {
    Strategy::Pct {
        runs: number(runs),
        seed,
        depth: number(3),
    }
}

/// The message, the schedule and the number of the run that failed.
fn failure(found: Result<Explored, ExploreError>) -> (String, String, usize) {
    match found {
        Err(ExploreError::Failed {
            message,
            schedule,
            run,
        }) => (message, schedule, run),
        other => panic!("nothing was found: {other:?}"),
    }
}

fn schedules(held: Result<Explored, ExploreError>) -> usize {
    held.unwrap().schedules
}

/// The code under test. It names its primitives through one module, and is compiled with both: a
/// crate of yours does that with a `cfg`, as the recipe shows.
macro_rules! library {
    ($name:ident, $primitives:ident) => {
        mod $name {
            use std::future::poll_fn;
            use std::task::{Poll, Waker};

            use $primitives::sync::Mutex;
            use $primitives::sync::atomic::{AtomicBool, AtomicU32, Ordering};

            #[derive(Default)]
            pub(super) struct Counter(AtomicU32);

            impl Counter {
                pub(super) fn add_naively(&self) {
                    let value = self.0.load(Ordering::SeqCst);
                    self.0.store(value + 1, Ordering::SeqCst);
                }

                pub(super) fn add(&self) {
                    self.0.fetch_add(1, Ordering::SeqCst);
                }

                pub(super) fn value(&self) -> u32 {
                    self.0.load(Ordering::SeqCst)
                }
            }

            #[derive(Default)]
            pub(super) struct Flag {
                raised: AtomicBool,
                waker: Mutex<Option<Waker>>,
            }

            impl Flag {
                pub(super) fn raise(&self) {
                    self.raised.store(true, Ordering::SeqCst);
                    let waker = self.waker.lock().unwrap().take();
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                }

                /// Checks, then registers: raised in between, it wakes nobody.
                pub(super) async fn wait_naively(&self) {
                    poll_fn(|cx| {
                        if self.raised.load(Ordering::SeqCst) {
                            return Poll::Ready(());
                        }
                        *self.waker.lock().unwrap() = Some(cx.waker().clone());
                        Poll::Pending
                    })
                    .await;
                }

                /// Registers, then checks.
                pub(super) async fn wait(&self) {
                    poll_fn(|cx| {
                        *self.waker.lock().unwrap() = Some(cx.waker().clone());
                        if self.raised.load(Ordering::SeqCst) {
                            return Poll::Ready(());
                        }
                        Poll::Pending
                    })
                    .await;
                }
            }

            pub(super) struct Bank([Mutex<u32>; 2]);

            impl Default for Bank {
                fn default() -> Self {
                    Self([Mutex::new(100), Mutex::new(100)])
                }
            }

            impl Bank {
                /// Locks in the order of the arguments.
                pub(super) fn transfer_naively(&self, from: usize, to: usize) {
                    let mut source = self.0[from].lock().unwrap();
                    let mut target = self.0[to].lock().unwrap();
                    *source -= 10;
                    *target += 10;
                }

                /// Locks in the order of the accounts.
                pub(super) fn transfer(&self, from: usize, to: usize) {
                    let mut first = self.0[from.min(to)].lock().unwrap();
                    let mut second = self.0[from.max(to)].lock().unwrap();
                    let (source, target) = if from < to {
                        (&mut first, &mut second)
                    } else {
                        (&mut second, &mut first)
                    };
                    **source -= 10;
                    **target += 10;
                }

                pub(super) fn sum(&self) -> u32 {
                    *self.0[0].lock().unwrap() + *self.0[1].lock().unwrap()
                }
            }
        }
    };
}

library!(explored, shuttle);
library!(in_earnest, std);

/// Two threads do the same, and then both have been counted.
fn two_count(add: fn(&explored::Counter)) -> impl Fn() + Send + Sync {
    move || {
        let counter = Arc::new(explored::Counter::default());
        let threads = [0, 1].map(|_| {
            let counter = Arc::clone(&counter);
            spawn(move || add(&counter))
        });
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(counter.value(), 2, "one is lost");
    }
}

fn two_transfer(transfer: fn(&explored::Bank, usize, usize)) -> impl Fn() + Send + Sync {
    move || {
        let bank = Arc::new(explored::Bank::default());
        let there = Arc::clone(&bank);
        let thread = spawn(move || transfer(&there, 0, 1));
        transfer(&bank, 1, 0);
        thread.join().unwrap();
        assert_eq!(bank.sum(), 200);
    }
}

/// One thread waits, another raises the flag.
fn one_waits<F: Future>(wait: fn(Arc<explored::Flag>) -> F) -> impl Fn() + Send + Sync {
    move || {
        let flag = Arc::new(explored::Flag::default());
        let raised = Arc::clone(&flag);
        spawn(move || raised.raise());
        block_on(wait(flag));
    }
}

#[test]
fn a_lost_wakeup_is_found_and_mended_in_every_order() {
    let naive = one_waits(|flag| async move { flag.wait_naively().await });
    let (message, ..) = failure(explore(all(), naive));
    assert!(
        message.starts_with("deadlock! blocked tasks: [main-thread"),
        "{message}"
    );
    let mended = one_waits(|flag| async move { flag.wait().await });
    assert_eq!(schedules(explore(all(), mended)), 48);
}

#[test]
fn a_lost_update_is_found_and_mended_in_every_order() {
    let (message, ..) = failure(explore(all(), two_count(explored::Counter::add_naively)));
    assert!(message.contains("one is lost"), "{message}");
    let mended = two_count(explored::Counter::add);
    assert_eq!(schedules(explore(all(), mended)), 19);
}

#[test]
fn a_deadlock_by_lock_order_is_found_with_who_waits_and_mended_in_every_order() {
    let naive = two_transfer(explored::Bank::transfer_naively);
    let (message, ..) = failure(explore(all(), naive));
    let waits = message.matches("pending future").count();
    assert!(message.starts_with("deadlock!") && waits == 2, "{message}");
    let mended = two_transfer(explored::Bank::transfer);
    assert_eq!(schedules(explore(all(), mended)), 12);
}

#[test]
fn the_same_code_runs_on_the_types_of_std() {
    let counter = in_earnest::Counter::default();
    let (flag, bank) = (in_earnest::Flag::default(), in_earnest::Bank::default());
    std::thread::scope(|scope| {
        scope.spawn(|| counter.add());
        scope.spawn(|| bank.transfer(0, 1));
        scope.spawn(|| flag.raise());
        counter.add();
        bank.transfer(1, 0);
        block_on_tokio(flag.wait());
    });
    counter.add_naively();
    bank.transfer_naively(0, 1);
    block_on_tokio(flag.wait_naively());
    assert_eq!((counter.value(), bank.sum()), (3, 200));
}

/// A runtime of tokio's, for what needs neither time nor sockets.
fn block_on_tokio<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(work)
}

#[test]
fn every_order_of_the_steps_comes_up_and_each_but_once() {
    // Two threads of two steps each: 4! / (2! * 2!).
    static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let ran = schedules(explore(all(), move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let steps = Arc::new(Mutex::new(String::new()));
        let threads = ["a", "b"].map(|name| {
            let steps = Arc::clone(&steps);
            spawn(move || {
                for _ in 0..2 {
                    switch();
                    steps.lock().unwrap().push_str(name);
                }
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        SEEN.lock().unwrap().insert(steps.lock().unwrap().clone());
    }));
    let seen = SEEN.lock().unwrap();
    let seen: Vec<_> = seen.iter().map(String::as_str).collect();
    assert_eq!(seen, ["aabb", "abab", "abba", "baab", "baba", "bbaa"]);
    assert_eq!(ran, runs.load(Ordering::Relaxed), "one of them twice");
}

#[test]
fn a_scenario_with_a_single_order_is_one_schedule_however_often_it_is_run() {
    assert_eq!(schedules(explore(all(), || ())), 1);
    assert_eq!(schedules(explore(random(1_000, 1), || ())), 1);
    let (message, ..) = failure(explore(pct(1_000, 1), || ()));
    assert_eq!(message, "test closure did not exercise any concurrency");
}

#[test]
fn more_orders_than_allowed_are_an_error_and_as_many_are_not() {
    let at_most = |at_most| Strategy::All {
        at_most: number(at_most),
    };
    let mended = || two_count(explored::Counter::add);
    let found = explore(at_most(18), mended()).unwrap_err();
    assert_eq!(
        found,
        ExploreError::TooMany {
            at_most: number(18)
        }
    );
    assert_eq!(schedules(explore(at_most(19), mended())), 19);
}

#[test]
fn random_orders_are_counted_once_each_and_are_those_of_the_seed() {
    let mended = || two_count(explored::Counter::add);
    assert_eq!(schedules(explore(random(1_000, 1), mended())), 19, "all");
    let few: Vec<_> = (0..4)
        .map(|seed| schedules(explore(random(10, seed), mended())))
        .collect();
    assert!(few.iter().all(|few| (2..10).contains(few)), "{few:?}");
    let (first, again) = (
        failure(explore(
            random(1_000, 7),
            two_count(explored::Counter::add_naively),
        )),
        failure(explore(
            random(1_000, 7),
            two_count(explored::Counter::add_naively),
        )),
    );
    assert_eq!(first, again);
    let other = failure(explore(
        random(1_000, 8),
        two_count(explored::Counter::add_naively),
    ));
    assert_ne!(first.1, other.1);
}

#[test]
fn shuttles_own_random_numbers_are_those_of_the_seed_and_differ_from_run_to_run() {
    let drawn = |seed| {
        let numbers = Arc::new(Mutex::new(BTreeSet::new()));
        let to_fill = Arc::clone(&numbers);
        let draw = move || {
            to_fill.lock().unwrap().insert(thread_rng().next_u64());
        };
        _ = explore(random(10, seed), draw).unwrap();
        let numbers = numbers.lock().unwrap();
        numbers.clone()
    };
    assert_eq!(drawn(1).len(), 10);
    assert_eq!(drawn(1), drawn(1));
    assert!(drawn(1).is_disjoint(&drawn(2)));
}

#[test]
fn pct_finds_what_depends_on_few_events_and_follows_its_seed() {
    let found = || {
        let naive = || one_waits(|flag| async move { flag.wait_naively().await });
        (0..20)
            .map(|seed| failure(explore(pct(1_000, seed), naive())))
            .collect::<Vec<_>>()
    };
    let first = found();
    assert_eq!(first, found());
    let different: BTreeSet<_> = first.iter().collect();
    assert!(different.len() > 1, "{different:?}");
    let mended = || one_waits(|flag| async move { flag.wait().await });
    let many = schedules(explore(pct(1_000, 7), mended()));
    assert!((10..48).contains(&many), "{many}");
}

#[test]
fn a_failure_is_run_again_by_its_schedule_and_mended_code_leaves_it() {
    let (message, schedule, run) =
        failure(explore(all(), two_count(explored::Counter::add_naively)));
    assert_eq!((schedule.as_str(), run), ("0 0 0 1 1 2 2 1 0 2 0 0", 8));
    let again = replay(&schedule, two_count(explored::Counter::add_naively));
    let expected = ExploreError::Failed {
        message,
        schedule: schedule.clone(),
        run: 1,
    };
    assert_eq!(again, Err(expected));
    let mended = replay(&schedule, two_count(explored::Counter::add));
    assert_eq!(mended, Err(ExploreError::Diverged { steps: 7 }));
}

#[test]
fn a_replay_passes_only_if_it_follows_the_schedule_to_its_own_end() {
    let one_step_each = || {
        spawn(switch);
        switch();
    };
    let whole = "0 0 0 1 1 0";
    assert_eq!(replay(whole, one_step_each), Ok(()));
    for (wrong, steps) in [
        ("", 0),
        ("0 0 0 1", 4),        // there is more to run
        ("0 0 0 1 1 0 0", 6),  // it has ended
        ("0 0 0 2 1 0", 3),    // no such thread
        ("0 0 0 1 1 main", 0), // no schedule
    ] {
        let left = replay(wrong, one_step_each);
        assert_eq!(left, Err(ExploreError::Diverged { steps }), "{wrong}");
    }
}

#[test]
fn the_error_says_what_happened_and_how_to_see_it_again() {
    let found = explore(all(), || panic!("broken {}", 1)).unwrap_err();
    assert_eq!(found.to_string(), "run 1: broken 1\nschedule: 0");
    let odd = failure(explore(all(), || std::panic::panic_any(1)));
    assert_eq!(odd.0, "no message");
}

#[test]
fn harm_code_with_the_types_of_std_has_few_orders_and_hides_its_bug() {
    let scenario = || {
        let counter = Arc::new(in_earnest::Counter::default());
        let threads = [0, 1].map(|_| {
            let counter = Arc::clone(&counter);
            spawn(move || counter.add_naively())
        });
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(counter.value(), 2, "one is lost");
    };
    assert_eq!(schedules(explore(all(), scenario)), 5);
}

#[test]
fn harm_a_missing_release_is_in_no_order_of_events() {
    use shuttle::sync::atomic::{AtomicBool, AtomicU32};
    let scenario = || {
        let shared = Arc::new((AtomicU32::new(0), AtomicBool::new(false)));
        let writes = Arc::clone(&shared);
        spawn(move || {
            writes.0.store(42, Ordering::Relaxed);
            writes.1.store(true, Ordering::Relaxed); // wrong: should be Release
        });
        if shared.1.load(Ordering::Relaxed) {
            assert_eq!(shared.0.load(Ordering::Relaxed), 42);
        }
    };
    assert_eq!(schedules(explore(all(), scenario)), 10);
}

#[test]
fn harm_a_lock_of_std_held_at_a_switch_hangs_the_test() {
    let (done, ended) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let explored = explore(all(), || {
            let lock = Arc::new(Mutex::new(()));
            let other = Arc::clone(&lock);
            let thread = spawn(move || drop(other.lock().unwrap()));
            let held = lock.lock().unwrap();
            switch();
            drop(held);
            thread.join().unwrap();
        });
        done.send(explored).unwrap();
    });
    ended
        .recv_timeout(Duration::from_millis(500))
        .expect_err("it got the lock, or the deadlock was found");
}

#[test]
fn harm_what_only_a_time_limit_saves_is_a_deadlock_and_tokio_has_no_runtime() {
    let scenario = || {
        let (lock, condition) = (shuttle::sync::Mutex::new(()), shuttle::sync::Condvar::new());
        let held = lock.lock().unwrap();
        drop(condition.wait_timeout(held, Duration::from_millis(1)));
    };
    let (message, ..) = failure(explore(all(), scenario));
    assert!(message.starts_with("deadlock!"), "{message}");
    let (message, ..) = failure(explore(all(), || {
        shuttle::thread::park_timeout(Duration::ZERO);
    }));
    assert!(message.starts_with("deadlock!"), "{message}");
    let (message, ..) = failure(explore(all(), || {
        block_on(tokio::time::sleep(Duration::ZERO));
    }));
    assert!(message.contains("no reactor running"), "{message}");
    let (message, ..) = failure(explore(all(), || drop(tokio::spawn(async {}))));
    assert!(message.contains("no reactor running"), "{message}");
}

#[test]
fn harm_a_loop_that_spins_is_stopped_after_10_000_steps() {
    use shuttle::sync::atomic::AtomicBool;
    let scenario = || {
        let done = Arc::new(AtomicBool::new(false));
        let other = Arc::clone(&done);
        spawn(move || other.store(true, Ordering::SeqCst));
        while !done.load(Ordering::SeqCst) {
            shuttle::thread::yield_now();
        }
    };
    let (message, schedule, run) = failure(explore(all(), scenario));
    assert!(
        message.starts_with("exceeded max_steps bound 10000"),
        "{message}"
    );
    assert_eq!((schedule.split(' ').count(), run), (10_000, 1));
}

#[test]
fn harm_a_failure_that_a_static_has_caused_does_not_come_again() {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let scenario = || {
        let earlier = RUNS.fetch_add(1, Ordering::Relaxed);
        spawn(switch);
        assert_ne!(earlier, 2, "the third time");
    };
    let (message, schedule, run) = failure(explore(all(), scenario));
    assert!(message.contains("the third time") && run == 3, "{message}");
    let again = replay(&schedule, scenario);
    assert!(
        matches!(again, Err(ExploreError::Diverged { .. })),
        "{again:?}"
    );
}

/// One thread waits with tokio's `Notify` until another has set the flag.
fn one_notified<F: Future>(wait: fn(Arc<Notified>) -> F) -> impl Fn() + Send + Sync {
    move || {
        let shared = Arc::new(Notified::default());
        let other = Arc::clone(&shared);
        spawn(move || {
            *other.flag.lock().unwrap() = true;
            switch();
            other.notify.notify_waiters();
        });
        block_on(wait(shared));
    }
}

#[derive(Default)]
struct Notified {
    flag: shuttle::sync::Mutex<bool>,
    notify: tokio::sync::Notify,
}

impl Notified {
    fn is_set(&self) -> bool {
        *self.flag.lock().unwrap()
    }
}

#[test]
fn tokio_primitives_are_explored_where_a_switch_is_put_before_each_operation() {
    let naive = one_notified(|shared| async move {
        while !shared.is_set() {
            switch();
            let notified = shared.notify.notified();
            with_switches(notified).await;
        }
    });
    let (message, ..) = failure(explore(all(), naive));
    assert!(message.starts_with("deadlock!"), "{message}");
    let mended = one_notified(|shared| async move {
        loop {
            switch();
            let mut notified = pin!(shared.notify.notified());
            switch();
            notified.as_mut().enable();
            if shared.is_set() {
                return;
            }
            with_switches(notified).await;
        }
    });
    assert_eq!(schedules(explore(all(), mended)), 142);
}

#[test]
fn harm_what_happens_when_a_future_is_made_is_before_its_switches() {
    // Like the naive form above, but nothing can come in between the check and `notified()`.
    let naive = one_notified(|shared| async move {
        while !shared.is_set() {
            with_switches(shared.notify.notified()).await;
        }
    });
    assert_eq!(schedules(explore(all(), naive)), 53, "and the bug in none");
}

#[test]
fn a_thread_has_room_for_what_a_debug_build_puts_on_its_stack() {
    let explored = explore(all(), || {
        let sum = spawn(|| {
            std::hint::black_box([1_u8; 100 * 1024])
                .iter()
                .map(|it| u32::from(*it))
                .sum::<u32>()
        });
        assert_eq!(sum.join().unwrap(), 100 * 1024);
    });
    assert_eq!(schedules(explored), 1);
}

#[test]
fn tasks_of_shuttle_are_explored_like_threads() {
    static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let explored = explore(all(), || {
        let order = Arc::new(Mutex::new(String::new()));
        let tasks = ["a", "b"].map(|name| {
            let order = Arc::clone(&order);
            shuttle::future::spawn(async move { order.lock().unwrap().push_str(name) })
        });
        block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
        SEEN.lock().unwrap().insert(order.lock().unwrap().clone());
    });
    assert!(schedules(explored) >= 2);
    let seen = SEEN.lock().unwrap();
    assert_eq!(Vec::from_iter(seen.iter()), ["ab", "ba"]);
}

#[test]
fn dropped_at_any_await_point_with_switches_drops_its_work_where_it_stands() {
    let explored = explore(all(), || {
        block_on_tokio_paused(async {
            let points = every_await_point(
                LIMIT,
                async || Arc::new(AtomicUsize::new(0)),
                async |steps| {
                    let alive = Arc::clone(steps);
                    with_switches(async move {
                        for _ in 0..3 {
                            tokio::task::consume_budget().await;
                            alive.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                    .await;
                },
                async |steps, outcome| {
                    assert_eq!(Arc::strong_count(&steps), 1, "the work lives on");
                    let ended = steps.load(Ordering::Relaxed) == 3;
                    assert_eq!(ended, outcome == Outcome::Completed(()));
                },
            );
            assert_eq!(points.await.unwrap(), 3);
        });
    });
    assert_eq!(schedules(explored), 1, "nobody else is there");
}

fn block_on_tokio_paused<F: Future>(work: F) -> F::Output {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    runtime.unwrap().block_on(work)
}

#[test]
fn with_switches_lets_others_run_before_and_after_each_poll() {
    let scenario = || {
        let steps = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&steps);
        spawn(move || seen.fetch_add(1, Ordering::Relaxed));
        let mut work = pin!(with_switches(poll_fn(|_| {
            Poll::Ready(steps.load(Ordering::Relaxed))
        })));
        let poll = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let during = match poll {
            Poll::Ready(during) => during,
            Poll::Pending => panic!("it waits"),
        };
        let after = steps.load(Ordering::Relaxed);
        SEEN.lock().unwrap().insert((during, after));
    };
    static SEEN: Mutex<BTreeSet<(usize, usize)>> = Mutex::new(BTreeSet::new());
    assert!(schedules(explore(all(), scenario)) >= 3);
    let seen = SEEN.lock().unwrap();
    assert_eq!(
        Vec::from_iter(seen.iter().copied()),
        [(0, 0), (0, 1), (1, 1)]
    );
}

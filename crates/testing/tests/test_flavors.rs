//! What the flavors show and hide, and that the limit holds on all of them.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::Cell;
use std::future::pending;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use testing::test_flavors::{Failure, Failures, Fault, Flavor, on_each_flavor, run_on};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{LocalSet, spawn_blocking, spawn_local, yield_now};
use tokio::time::{Instant, interval, sleep};

/// What a run may take that is expected to end.
const LIMIT: Duration = Duration::from_secs(60);
/// What a run is given that is expected to hang.
const SHORT: Duration = Duration::from_millis(100);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

const TWO: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);
const TWO_WORKERS: Flavor = Flavor::MultiThread(TWO);
const EACH: [Flavor; 3] = [Flavor::CurrentThread, Flavor::Paused, TWO_WORKERS];

/// Waits until `is_so`, without an await, for `limit` of real time at the most.
fn spin_until(limit: Duration, is_so: impl Fn() -> bool) -> bool {
    let (_sender, receiver) = sync_channel::<()>(0);
    let tick = Duration::from_millis(1);
    let mut left = limit;
    while !is_so() && !left.is_zero() {
        receiver.recv_timeout(tick).unwrap_err();
        left = left.saturating_sub(tick);
    }
    is_so()
}

/// A channel on which a test lets go what it has made hang.
fn gate() -> (SyncSender<()>, Mutex<Receiver<()>>) {
    let (open, gate) = sync_channel(8);
    (open, Mutex::new(gate))
}

fn blocked_at(gate: &Mutex<Receiver<()>>) {
    let gate = gate.lock().unwrap();
    gate.recv_timeout(LIMIT).unwrap();
}

// -------------------------------------------------------------------------------- the tool

#[test]
fn the_body_runs_on_each_flavor_as_often_as_asked() {
    let runs = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&runs);
    on_each_flavor(&EACH, TWO, LIMIT, async move || {
        let runtime = Handle::current();
        let before = Instant::now();
        spin_until(Duration::from_millis(1), || false);
        let is_paused = before.elapsed().is_zero();
        let run = (
            runtime.runtime_flavor() == RuntimeFlavor::MultiThread,
            runtime.metrics().num_workers(),
            is_paused,
        );
        seen.lock().unwrap().push(run);
    })
    .unwrap();
    let expected = [(false, 1, false), (false, 1, true), (true, 2, false)];
    let twice = expected.into_iter().flat_map(|run| [run, run]);
    assert_eq!(*runs.lock().unwrap(), twice.collect::<Vec<_>>());
}

#[test]
fn each_flavor_has_timers_and_input_and_output() {
    on_each_flavor(&EACH, NonZeroUsize::MIN, LIMIT, async || {
        sleep(Duration::from_millis(1)).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, connected) =
            tokio::join!(listener.accept(), tokio::net::TcpStream::connect(address));
        assert_eq!(
            accepted.unwrap().1,
            connected.unwrap().local_addr().unwrap()
        );
    })
    .unwrap();
}

#[test]
fn a_run_gives_its_value_once_its_runtime_has_ended() {
    for flavor in EACH {
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        let value = run_on(flavor, LIMIT, async move || {
            spawn_blocking(move || {
                spin_until(SHORT, || false);
                flag.store(true, Ordering::SeqCst);
            });
            7
        });
        assert_eq!(value, Ok(7));
        assert!(ended.load(Ordering::SeqCst), "{flavor}");
    }
}

#[test]
fn a_failure_names_the_flavor_the_round_and_the_panic_and_the_other_flavors_still_run() {
    let runs = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&runs);
    let three = TWO.saturating_add(1);
    let failures = on_each_flavor(&EACH, three, LIMIT, async move || {
        let run = count.fetch_add(1, Ordering::SeqCst);
        assert!(run != 1 && run != 4, "in run {run}");
    })
    .unwrap_err();
    // The first flavor stops at its second round; then the second one begins, with run 2.
    assert_eq!(runs.load(Ordering::SeqCst), 2 + 3 + 3);
    let failure = |flavor, round, message: &str| Failure {
        flavor,
        round,
        fault: Fault::Panicked(message.to_owned()),
    };
    let expected = [
        failure(Flavor::CurrentThread, 2, "in run 1"),
        failure(Flavor::Paused, 3, "in run 4"),
    ];
    assert_eq!(failures, Failures(expected.to_vec()));
    let shown = "current-thread, round 2: panicked: in run 1\n\
                 current-thread, paused, round 3: panicked: in run 4";
    assert_eq!(failures.to_string(), shown);
    assert_eq!(format!("{failures:?}"), shown, "what unwrap prints");
}

#[test]
fn a_panic_without_a_text_is_a_failure_too_and_the_thread_is_named_after_the_flavor() {
    for flavor in EACH {
        let textless = run_on(flavor, LIMIT, async || std::panic::panic_any(7));
        assert_eq!(textless, Err(Fault::Panicked("no message".to_owned())));
        let name = run_on(flavor, LIMIT, async || {
            thread::current().name().map(str::to_owned)
        });
        assert_eq!(name.unwrap(), Some(flavor.to_string()));
    }
}

#[test]
fn a_body_that_waits_for_ever_is_dropped_at_the_limit_with_its_tasks() {
    for flavor in EACH {
        let (alive, dropped) = sync_channel::<()>(0);
        let waits = run_on(flavor, SHORT, async move || {
            let in_a_task = alive.clone();
            tokio::spawn(async move {
                let _alive = in_a_task;
                pending::<()>().await;
            });
            let _alive = alive;
            pending::<()>().await;
        });
        assert_eq!(waits, Err(Fault::Waiting(SHORT)), "{flavor}");
        let is_dropped = Err(RecvTimeoutError::Disconnected);
        assert_eq!(dropped.recv_timeout(LIMIT), is_dropped, "{flavor}");
    }
}

#[test]
fn a_body_that_is_never_idle_is_found_waiting_although_a_paused_clock_runs_ahead() {
    for flavor in EACH {
        let yields = async || loop {
            yield_now().await;
        };
        assert_eq!(run_on(flavor, SHORT, yields), Err(Fault::Waiting(SHORT)));
        let ticks = async || {
            let mut interval = interval(Duration::from_secs(1));
            loop {
                interval.tick().await;
            }
        };
        assert_eq!(run_on(flavor, SHORT, ticks), Err(Fault::Waiting(SHORT)));
    }
}

#[test]
fn a_body_that_blocks_its_thread_is_a_failure_and_its_thread_is_left_behind() {
    for flavor in EACH {
        let (open, gate) = gate();
        let (went_on, goes_on) = sync_channel(1);
        let blocked = run_on(flavor, SHORT, async move || {
            blocked_at(&gate);
            went_on.send(()).unwrap();
        });
        let fault = Fault::Blocked(SHORT);
        let shown = fault.to_string();
        assert_eq!(blocked, Err(fault), "{flavor}");
        assert!(shown.starts_with("still blocked after 100ms: "), "{shown}");
        // It is still there: let go, it runs on to its end.
        goes_on.try_recv().unwrap_err();
        open.send(()).unwrap();
        goes_on.recv_timeout(LIMIT).unwrap();
    }
}

/// Blocks its thread until it is past the limit by so much, which is less than the second of grace.
fn blocked_beyond_the_limit(by: Duration) {
    let (_kept, silence) = sync_channel::<()>(0);
    silence.recv_timeout(SHORT + by).unwrap_err();
}

#[test]
fn a_body_that_blocked_beyond_the_limit_and_then_ended_did_not_wait() {
    for flavor in EACH {
        let ended = run_on(flavor, SHORT, async || {
            blocked_beyond_the_limit(Duration::from_millis(900));
        });
        assert_eq!(ended, Err(Fault::Blocked(SHORT)), "{flavor}");
    }
}

#[test]
fn a_panic_a_little_beyond_the_limit_is_told() {
    for flavor in EACH {
        let panicked = run_on(flavor, SHORT, async || {
            blocked_beyond_the_limit(Duration::from_millis(50));
            panic!("the reason");
        });
        let reason = Fault::Panicked("the reason".to_owned());
        assert_eq!(panicked, Err::<(), _>(reason), "{flavor}");
    }
}

#[test]
fn a_runtime_that_a_blocking_task_keeps_from_ending_is_a_failure() {
    for flavor in EACH {
        let (open, gate) = gate();
        let body = async move || drop(spawn_blocking(move || blocked_at(&gate)));
        let limit = Duration::from_secs(1); // the body must get to its end in that time
        assert_eq!(run_on(flavor, limit, body), Err(Fault::NotEnding(limit)));
        open.send(()).unwrap();
    }
}

#[test]
fn more_workers_than_there_can_be_are_a_failure_and_no_panic() {
    let flavor = Flavor::MultiThread(NonZeroUsize::MAX);
    let fault = run_on(flavor, LIMIT, async || ()).unwrap_err();
    let shown = "not started: the runtime's builder panicked";
    assert_eq!(fault.to_string(), shown);
}

// --------------------------------------------------------- what only several threads show

/// Two tasks add one each, in two steps. Between the steps each waits for the other to be there too,
/// for `patience` at the most: on a single thread nobody comes.
fn sum_of_two(flavor: Flavor, patience: Duration) -> u32 {
    let adds = async move || {
        let sum = Arc::new(AtomicU32::new(0));
        let between = Arc::new(AtomicU32::new(0));
        let tasks = [1, 2].map(|number| {
            let (its_sum, its_between) = (Arc::clone(&sum), Arc::clone(&between));
            let task = tokio::spawn(async move {
                let seen = its_sum.load(Ordering::SeqCst);
                its_between.fetch_add(1, Ordering::SeqCst);
                spin_until(patience, || its_between.load(Ordering::SeqCst) == 2);
                its_sum.store(seen + 1, Ordering::SeqCst);
            });
            // Else one worker may take both at once.
            spin_until(patience, || between.load(Ordering::SeqCst) == number);
            task
        });
        for task in tasks {
            task.await.unwrap();
        }
        sum.load(Ordering::SeqCst)
    };
    run_on(flavor, LIMIT, adds).unwrap()
}

#[test]
fn an_update_lost_between_a_load_and_a_store_shows_on_several_threads_only() {
    assert_eq!(sum_of_two(Flavor::CurrentThread, SHORT), 2);
    assert_eq!(sum_of_two(Flavor::Paused, SHORT), 2);
    assert_eq!(sum_of_two(TWO_WORKERS, LIMIT), 1, "one addition is lost");
}

#[test]
fn an_order_taken_for_granted_holds_on_one_thread_only() {
    let order = |flavor, patience| {
        let body = async move || {
            let order = Arc::new(Mutex::new(Vec::new()));
            let begun = Arc::new(AtomicU32::new(0));
            let tasks = ["first", "second"].map(|name| {
                let (order, its_begun) = (Arc::clone(&order), Arc::clone(&begun));
                let task = tokio::spawn(async move {
                    its_begun.fetch_add(1, Ordering::SeqCst);
                    if name == "first" {
                        // Another thread may be as slow as this at any time.
                        spin_until(patience, || !order.lock().unwrap().is_empty());
                    }
                    order.lock().unwrap().push(name);
                });
                // Else one worker may take both at once.
                spin_until(patience, || begun.load(Ordering::SeqCst) > 0);
                task
            });
            for task in tasks {
                task.await.unwrap();
            }
            Arc::into_inner(order).unwrap().into_inner().unwrap()
        };
        run_on(flavor, LIMIT, body).unwrap()
    };
    assert_eq!(order(Flavor::CurrentThread, SHORT), ["first", "second"]);
    assert_eq!(order(Flavor::Paused, SHORT), ["first", "second"]);
    assert_eq!(order(TWO_WORKERS, LIMIT), ["second", "first"]);
}

// ------------------------------------------------------------- what only one thread shows

#[test]
fn a_blocking_wait_for_another_task_hangs_on_one_thread_and_is_forgiven_on_several() {
    let waits_for_a_task = async || {
        let (answer, answered) = sync_channel(1);
        tokio::spawn(async move { answer.send(()).unwrap() });
        answered.recv().unwrap(); // should have been tokio's channel, and an await
    };
    for one_thread in [Flavor::CurrentThread, Flavor::Paused] {
        let outcome = run_on(one_thread, SHORT, waits_for_a_task);
        assert_eq!(outcome, Err(Fault::Blocked(SHORT)));
    }
    assert_eq!(run_on(TWO_WORKERS, LIMIT, waits_for_a_task), Ok(()));
}

#[test]
fn several_threads_forgive_only_until_all_of_them_block() {
    let (open, gate) = gate();
    let gate = Arc::new(gate);
    let begun = Arc::new(AtomicU32::new(0));
    let all_blocked = run_on(TWO_WORKERS, SHORT, async move || {
        for number in 1..=2 {
            let (gate, begins) = (Arc::clone(&gate), Arc::clone(&begun));
            tokio::spawn(async move {
                begins.fetch_add(1, Ordering::SeqCst);
                blocked_at(&gate);
            });
            // One after the other: a worker may take both at once, and nobody takes the second from it.
            assert!(spin_until(LIMIT, || begun.load(Ordering::SeqCst) == number));
        }
        tokio::spawn(async {}).await.unwrap();
    });
    assert_eq!(all_blocked, Err(Fault::Waiting(SHORT)));
    open.send(()).unwrap();
    open.send(()).unwrap();
}

#[test]
fn a_spawned_task_runs_on_one_thread_only_while_the_body_awaits() {
    let runs_by_itself = |flavor, patience| {
        let body = async move || {
            let ran = Arc::new(AtomicBool::new(false));
            let flag = Arc::clone(&ran);
            let task = tokio::spawn(async move { flag.store(true, Ordering::SeqCst) });
            let by_itself = spin_until(patience, || ran.load(Ordering::SeqCst));
            task.await.unwrap();
            assert!(ran.load(Ordering::SeqCst));
            by_itself
        };
        run_on(flavor, LIMIT, body).unwrap()
    };
    assert!(!runs_by_itself(Flavor::CurrentThread, SHORT));
    assert!(!runs_by_itself(Flavor::Paused, SHORT));
    assert!(runs_by_itself(TWO_WORKERS, LIMIT));
}

// ----------------------------------------------------------------------------- watch out

#[test]
fn the_body_of_a_multi_thread_test_is_not_on_a_worker() {
    let on_a_worker = |flavor| {
        run_on(flavor, LIMIT, async || {
            let body = thread::current().id();
            let task = tokio::spawn(async { thread::current().id() });
            task.await.unwrap() == body
        })
        .unwrap()
    };
    assert!(on_a_worker(Flavor::CurrentThread));
    assert!(!on_a_worker(Flavor::MultiThread(NonZeroUsize::MIN)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nor_is_that_of_tokios_own() {
    let body = thread::current().id();
    let task = tokio::spawn(async { thread::current().id() });
    assert_ne!(task.await.unwrap(), body);
}

#[test]
fn harm_an_assertion_in_a_task_that_nobody_awaits_fails_no_test() {
    let asserted = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asserted);
    on_each_flavor(&EACH, NonZeroUsize::MIN, LIMIT, async move || {
        let count = Arc::clone(&count);
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(async move {
            let _ended = ended;
            count.fetch_add(1, Ordering::SeqCst);
            assert_eq!(1 + 1, 3, "seen on the screen at the most");
        });
        end.await.unwrap_err();
    })
    .expect("it passes");
    assert_eq!(asserted.load(Ordering::SeqCst), 3);
}

thread_local! {
    static SUBSCRIBED: Cell<bool> = const { Cell::new(false) };
}

#[test]
fn the_body_does_not_have_the_thread_local_state_of_the_test() {
    SUBSCRIBED.set(true);
    for flavor in EACH {
        let inside = run_on(flavor, LIMIT, async || SUBSCRIBED.get());
        assert_eq!(inside, Ok(false), "{flavor}");
    }
}

#[test]
fn rc_is_fine_in_the_body_on_each_flavor_and_spawn_local_needs_a_local_set() {
    on_each_flavor(&EACH, NonZeroUsize::MIN, LIMIT, async || {
        let shared = Rc::new(Cell::new(1));
        yield_now().await;
        let cell = Rc::clone(&shared);
        let set = LocalSet::new();
        let task = async move { spawn_local(async move { cell.set(2) }).await };
        set.run_until(task).await.unwrap();
        assert_eq!(shared.get(), 2);
    })
    .unwrap();
    for flavor in EACH {
        let bare = run_on(flavor, LIMIT, async || drop(spawn_local(async {})));
        let Err(Fault::Panicked(message)) = bare else {
            panic!("{flavor}: {bare:?}")
        };
        assert!(
            message.starts_with("`spawn_local` called from outside"),
            "{message}"
        );
    }
}

#[test]
fn harm_a_timeout_inside_the_runtime_does_not_end_a_body_that_blocks() {
    let (open, gate) = gate();
    let limited = async move || {
        tokio::time::timeout(Duration::from_millis(1), async move { blocked_at(&gate) })
            .await
            .ok();
    };
    let outcome = run_on(Flavor::CurrentThread, SHORT, limited);
    assert_eq!(outcome, Err(Fault::Blocked(SHORT)));
    open.send(()).unwrap();
}

#[test]
fn on_a_paused_clock_a_year_takes_no_time() {
    let year = async || {
        let started = Instant::now();
        sleep(YEAR).await;
        started.elapsed()
    };
    assert_eq!(run_on(Flavor::Paused, LIMIT, year), Ok(YEAR));
    let waits = run_on(Flavor::CurrentThread, SHORT, year);
    assert_eq!(waits, Err(Fault::Waiting(SHORT)));
}

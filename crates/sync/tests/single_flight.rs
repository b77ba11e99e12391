//! What a single flight promises, and what a bare `OnceCell` does instead.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::future::{Future, pending, poll_fn, ready};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use sync::single_flight::{Panicked, SingleFlight};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::sync::OnceCell;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

const LIMIT: Duration = Duration::from_secs(60);
const TAKES: Duration = Duration::from_millis(100);

type Flights = Arc<SingleFlight<&'static str, usize>>;

/// Counts how often it was started and how often it came to its end. Each run takes 100 ms and
/// returns its number.
#[derive(Clone, Default)]
struct Work {
    started: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl Work {
    async fn run(self) -> usize {
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        sleep(TAKES).await;
        self.ended.fetch_add(1, Ordering::Relaxed);
        number
    }

    fn compute(
        &self,
    ) -> impl FnOnce() -> std::pin::Pin<Box<dyn Future<Output = usize> + Send>> + use<> {
        let work = self.clone();
        || Box::pin(work.run())
    }

    fn counts(&self) -> (usize, usize) {
        (
            self.started.load(Ordering::Relaxed),
            self.ended.load(Ordering::Relaxed),
        )
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_come_while_it_runs_share_one_computation_and_later_ones_get_a_new_one() {
    let (flights, work, started) = (Flights::default(), Work::default(), Instant::now());
    let call = async |comes: Duration| {
        sleep(comes).await;
        let result = flights.run("key", work.compute()).await;
        (result, started.elapsed())
    };
    let (first, joined, later) =
        tokio::join!(call(Duration::ZERO), call(TAKES / 2), call(TAKES * 3 / 2));
    assert_eq!(first, (Ok(1), TAKES));
    assert_eq!(joined, (Ok(1), TAKES));
    assert_eq!(later, (Ok(2), TAKES * 5 / 2));
    assert_eq!((work.counts(), flights.in_flight()), ((2, 2), 0));
}

#[tokio::test(start_paused = true)]
async fn keys_do_not_wait_for_each_other() {
    let (flights, work, started) = (Flights::default(), Work::default(), Instant::now());
    let call = async |key| flights.run(key, work.compute()).await;
    let (a, b) = tokio::join!(call("a"), call("b"));
    assert_eq!((a, b, started.elapsed()), (Ok(1), Ok(2), TAKES));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_shared_where_a_once_cell_lets_each_caller_fail_in_turn() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let fail = || {
        let attempts = Arc::clone(&attempts);
        || async move {
            sleep(TAKES).await;
            Err::<(), _>(attempts.fetch_add(1, Ordering::Relaxed) + 1)
        }
    };
    let mut callers = JoinSet::new();
    let (cell, started) = (Arc::new(OnceCell::new()), Instant::now());
    for _ in 0..10 {
        let (cell, fail) = (Arc::clone(&cell), fail());
        callers.spawn(async move { cell.get_or_try_init(fail).await.copied() });
    }
    callers.join_all().await;
    let last = started.elapsed();
    assert_eq!(
        (attempts.swap(0, Ordering::Relaxed), last),
        (10, 10 * TAKES)
    );

    let mut callers = JoinSet::new();
    let (flights, started) = (Arc::new(SingleFlight::new()), Instant::now());
    for _ in 0..10 {
        let (flights, fail) = (Arc::clone(&flights), fail());
        callers.spawn(async move { flights.run("key", fail).await });
    }
    assert_eq!(callers.join_all().await, vec![Ok(Err(1)); 10]);
    let last = started.elapsed();
    assert_eq!((attempts.load(Ordering::Relaxed), last), (1, TAKES));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_callers_work_is_taken_over_where_a_once_cell_starts_again() {
    let (work, started) = (Work::default(), Instant::now());
    let cell = OnceCell::new();
    let leaver = timeout(TAKES * 9 / 10, cell.get_or_init(work.compute()));
    let stayer = async { (*cell.get_or_init(work.compute()).await, started.elapsed()) };
    let (_, stayed) = tokio::join!(leaver, stayer);
    assert_eq!((stayed, work.counts()), ((2, TAKES * 19 / 10), (2, 1)));

    let (flights, work, started) = (Flights::default(), Work::default(), Instant::now());
    let leaver = timeout(TAKES * 9 / 10, flights.run("key", work.compute()));
    let stayer = async { (flights.run("key", work.compute()).await, started.elapsed()) };
    let (_, stayed) = tokio::join!(leaver, stayer);
    assert_eq!((stayed, work.counts()), ((Ok(1), TAKES), (1, 1)));
}

#[tokio::test(start_paused = true)]
async fn the_computation_is_dropped_at_once_with_its_last_caller() {
    let (flights, alive) = (SingleFlight::new(), Arc::new(()));
    let compute = || {
        let alive = Arc::clone(&alive);
        || async move {
            let _alive = alive;
            pending::<()>().await;
        }
    };
    let mut first = Box::pin(flights.run("key", compute()));
    let mut second = Box::pin(flights.run("key", compute()));
    assert!(timeout(TAKES, &mut first).await.is_err());
    assert!(timeout(TAKES, &mut second).await.is_err());
    assert_eq!(
        (Arc::strong_count(&alive), flights.in_flight()),
        (2, 1),
        "the second's is unused"
    );
    drop(first);
    assert_eq!((Arc::strong_count(&alive), flights.in_flight()), (2, 1));
    assert_eq!(format!("{flights:?}"), "SingleFlight { in_flight: 1 }");
    drop(second);
    assert_eq!((Arc::strong_count(&alive), flights.in_flight()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_for_all_who_wait_and_the_next_call_starts_anew() {
    let flights = Flights::default();
    for before_the_first_await in [true, false] {
        let call = async || {
            let compute = move || {
                assert!(!before_the_first_await, "early");
                async {
                    sleep(TAKES).await;
                    panic!("late");
                }
            };
            flights.run("key", compute).await
        };
        let message = if before_the_first_await {
            "early"
        } else {
            "late"
        }
        .to_owned();
        let panicked = Panicked { message };
        let both = tokio::join!(call(), call());
        if before_the_first_await {
            assert_eq!(both.0, Err(panicked)); // it was over when the second came
        } else {
            assert_eq!(both, (Err(panicked.clone()), Err(panicked)));
        }
        assert_eq!(flights.in_flight(), 0);
    }
    assert_eq!(flights.run("key", || ready(1)).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_panic_with_any_payload_is_reported() {
    let flights = Flights::default();
    let formatted = flights.run("key", || async { panic!("{}", 1) }).await;
    assert_eq!(
        formatted.unwrap_err().to_string(),
        "the computation panicked: 1"
    );
    let other = flights
        .run("key", || async { std::panic::panic_any(7) })
        .await;
    assert_eq!(other.unwrap_err().message, "no message");
}

#[tokio::test(start_paused = true)]
async fn a_joined_result_may_be_older_than_the_call_unless_the_key_is_forgotten() {
    let (flights, table) = (Flights::default(), Arc::new(AtomicUsize::new(1)));
    let read = async || {
        let table = Arc::clone(&table);
        let compute = || async move {
            let value = table.load(Ordering::Relaxed);
            sleep(TAKES).await;
            value
        };
        flights.run("key", compute).await
    };
    let write_then_read = async {
        sleep(TAKES / 2).await;
        table.store(2, Ordering::Relaxed);
        let joined = read();
        let mut joined = pin!(joined);
        assert!(timeout(TAKES / 4, &mut joined).await.is_err());
        flights.forget(&"key");
        assert_eq!(flights.in_flight(), 0);
        let mut fresh = pin!(read());
        assert!(
            timeout(TAKES / 2, &mut fresh).await.is_err(),
            "it ends with the first"
        );
        assert_eq!(
            flights.in_flight(),
            1,
            "the end of the first has taken the second's place"
        );
        (joined.await, fresh.await)
    };
    let (first, (joined, fresh)) = tokio::join!(read(), write_then_read);
    assert_eq!((first, joined, fresh), (Ok(1), Ok(1), Ok(2)));
    assert_eq!(flights.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_is_kept_and_not_polled_holds_the_others_up_unless_in_a_task_of_its_own() {
    for in_a_task in [false, true] {
        let (flights, work, started) = (Flights::default(), Work::default(), Instant::now());
        let kept = {
            let (flights, compute) = (Arc::clone(&flights), work.compute());
            async move { flights.run("key", compute).await }
        };
        let mut kept: std::pin::Pin<Box<dyn Future<Output = _>>> = if in_a_task {
            Box::pin(AbortOnDropHandle::new(tokio::spawn(kept)))
        } else {
            Box::pin(async { Ok(kept.await) })
        };
        let keeps = async {
            assert!(timeout(TAKES / 2, &mut kept).await.is_err()); // as by a `select!`
            sleep(10 * TAKES).await; // busy elsewhere
            assert_eq!(kept.await.unwrap(), Ok(1));
        };
        let waits = async {
            assert_eq!(flights.run("key", work.compute()).await, Ok(1));
            started.elapsed()
        };
        let ((), waited) = tokio::join!(keeps, waits);
        assert_eq!(waited, if in_a_task { TAKES } else { TAKES * 21 / 2 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_computation_that_waits_for_its_own_key_is_never_freed_until_then_forget_helps() {
    let (flights, alive) = (Flights::default(), Arc::new(()));
    let (itself, held) = (Arc::clone(&flights), Arc::clone(&alive));
    let compute = || async move {
        let _held = held;
        itself.run("key", || ready(1)).await.unwrap_or_default()
    };
    timeout(LIMIT, flights.run("key", compute))
        .await
        .expect_err("it waits for itself");
    assert_eq!(
        (Arc::strong_count(&alive), flights.in_flight()),
        (2, 1),
        "nobody waits for it"
    );
    timeout(LIMIT, flights.run("key", || ready(2)))
        .await
        .expect_err("it joins the first");
    flights.forget(&"key");
    assert_eq!(flights.run("key", || ready(3)).await, Ok(3));
    assert_eq!(Arc::strong_count(&alive), 2, "and that is for ever");
}

/// Uses the flights when it is dropped.
struct CallsBack(Flights);

impl Drop for CallsBack {
    fn drop(&mut self) {
        assert!(self.0.in_flight() <= 1);
    }
}

#[test]
fn what_is_dropped_may_call_back() {
    let (done, ended) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let flights = Flights::default();
        let call = || {
            let held = CallsBack(Arc::clone(&flights));
            let compute = || async move {
                yield_now().await;
                drop(held);
                1
            };
            Box::pin(flights.run("key", compute))
        };
        let (mut first, mut joined) = (call(), call());
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut joined).now_or_never().is_none()); // its compute is dropped unused
        flights.forget(&"key");
        let mut fresh = call();
        assert!((&mut fresh).now_or_never().is_none());
        drop(fresh);
        drop(first);
        assert_eq!(joined.now_or_never(), Some(Ok(1)));
        assert_eq!(flights.in_flight(), 0);
        done.send(()).unwrap();
    });
    ended
        .recv_timeout(LIMIT)
        .expect("a drop ran under the lock");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_that_nobody_joined_leaves_nothing_behind() {
    let points = every_await_point(
        LIMIT,
        async || (Flights::default(), Work::default()),
        async |(flights, work)| flights.run("key", work.compute()).await,
        async |(flights, work), outcome| {
            let ended = usize::from(outcome == Outcome::Completed(Ok(1)));
            assert_eq!((work.counts().1, flights.in_flight()), (ended, 0));
            assert_eq!(
                Arc::strong_count(&work.ended),
                1,
                "the computation lives on"
            );
        },
    )
    .await;
    assert!(
        points.unwrap() >= 3,
        "for its turn, for the lock, for the work"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_leaves_its_work_to_those_who_joined() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (flights, work) = (Flights::default(), Work::default());
            let call = || {
                let (flights, compute) = (Arc::clone(&flights), work.compute());
                Box::pin(async move { flights.run("key", compute).await })
            };
            let mut first = call();
            assert!(timeout(TAKES / 4, &mut first).await.is_err()); // it has begun
            let joined = tokio::spawn(call());
            sleep(TAKES / 4).await;
            (flights, work, Some(first), joined)
        },
        async |(_, _, first, _)| first.take().unwrap().await,
        async |(flights, work, _, joined), _| {
            assert_eq!(joined.await.unwrap(), Ok(1));
            assert_eq!((work.counts(), flights.in_flight()), ((1, 1), 0));
        },
    )
    .await;
    assert!(points.unwrap() >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads_no_caller_is_forgotten_and_nothing_is_left() {
    let (flights, running) = (Arc::new(SingleFlight::new()), Arc::new(AtomicUsize::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..2_000 {
        let (flights, running) = (Arc::clone(&flights), Arc::clone(&running));
        callers.spawn(async move {
            let compute = || async move {
                assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                yield_now().await;
                running.fetch_sub(1, Ordering::SeqCst);
            };
            flights.run((), compute).await
        });
    }
    for result in timeout(LIMIT, callers.join_all())
        .await
        .expect("a caller sleeps on")
    {
        assert_eq!(result, Ok(()));
    }
    assert_eq!(flights.in_flight(), 0);
}

mod every_order {
    use super::{Arc, AtomicUsize, Duration, Future, Ordering, Poll, SingleFlight, pin, poll_fn};
    use futures_util::FutureExt;
    use shuttle::future::block_on;
    use shuttle::thread::spawn;
    use tokio::sync::watch;

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

    /// Lets shuttle run another thread. Its `yield_now` would also wake the waiter.
    fn switch() {
        shuttle::thread::sleep(Duration::ZERO);
    }

    /// Lets other threads run before and after each poll.
    async fn with_switches<T>(work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            switch();
            let poll = work.as_mut().poll(cx);
            switch();
            poll
        })
        .await
    }

    /// Polls once, and drops it.
    fn leave(run: impl Future) {
        block_on(async {
            let mut run = pin!(run);
            poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx).is_ready())).await;
            switch();
        });
    }

    /// One caller leaves, one stays, and a third thread brings what the computation waits for.
    fn one_leaves<F>(call: impl Fn(watch::Receiver<u32>) -> (F, F))
    where
        F: Future<Output = u32> + Send + 'static,
    {
        let (event, arrives) = watch::channel(0);
        let (leaves, stays) = call(arrives);
        spawn(move || leave(leaves));
        spawn(move || event.send_replace(7));
        assert_eq!(block_on(stays), 7);
    }

    async fn wait_for(mut event: watch::Receiver<u32>) -> u32 {
        let arrived = event.wait_for(|value| *value == 7).await;
        arrived.map_or(0, |value| *value)
    }

    #[test]
    #[should_panic(expected = "deadlock!")]
    fn a_shared_future_hangs_in_some_order_of_events() {
        explore(|| {
            one_leaves(|event| {
                let shared = with_switches(wait_for(event)).boxed().shared();
                (shared.clone(), shared)
            });
        });
    }

    #[test]
    fn who_stays_is_forgotten_in_no_order_of_events() {
        let orders = explore(|| {
            let flights = Arc::new(SingleFlight::new());
            one_leaves(|event| {
                let call = |event| {
                    let flights = Arc::clone(&flights);
                    async move {
                        let compute = || with_switches(wait_for(event));
                        flights.run((), compute).await.unwrap()
                    }
                };
                (call(event.clone()), call(event))
            });
        });
        assert!(orders > 10, "{orders}");
    }

    /// Checks, in the middle of every order of events, that no two of its computations run at once.
    #[derive(Clone, Default)]
    struct Alone(Arc<AtomicUsize>);

    impl Alone {
        async fn compute(self) {
            assert_eq!(self.0.fetch_add(1, Ordering::Relaxed), 0, "two at once");
            let running = Running(self);
            with_switches(shuttle::future::yield_now()).await;
            drop(running);
        }
    }

    /// Ends a computation that ends or is dropped, and lets other threads run before what follows.
    struct Running(Alone);

    impl Drop for Running {
        fn drop(&mut self) {
            self.0.0.fetch_sub(1, Ordering::Relaxed);
            switch();
        }
    }

    #[test]
    fn computations_run_alone_and_leave_nothing_in_every_order_of_arrival_leaving_and_end() {
        let orders = explore(|| {
            let (flights, alone) = (Arc::new(SingleFlight::new()), Alone::default());
            let call = || {
                let (flights, alone) = (Arc::clone(&flights), alone.clone());
                async move { flights.run((), || alone.compute()).await }
            };
            let (leaves, stays) = (call(), call());
            let leaver = spawn(move || leave(leaves));
            let stayer = spawn(move || block_on(stays));
            assert_eq!(block_on(call()), Ok(()));
            assert_eq!(stayer.join().unwrap(), Ok(()));
            leaver.join().unwrap();
            assert_eq!(flights.in_flight(), 0);
        });
        assert!(orders > 10, "{orders}");
    }

    #[test]
    fn a_key_that_is_forgotten_leaves_nobody_and_nothing_behind_in_every_order_of_events() {
        let orders = explore(|| {
            let flights = Arc::new(SingleFlight::new());
            let call = || {
                let flights = Arc::clone(&flights);
                let compute = || with_switches(shuttle::future::yield_now());
                async move { flights.run((), compute).await }
            };
            let (leaves, stays) = (call(), call());
            let leaver = spawn(move || leave(leaves));
            let stayer = spawn(move || block_on(stays));
            flights.forget(&());
            assert_eq!(block_on(call()), Ok(()));
            assert_eq!(stayer.join().unwrap(), Ok(()));
            leaver.join().unwrap();
            assert_eq!(flights.in_flight(), 0);
        });
        assert!(orders > 10, "{orders}");
    }
}

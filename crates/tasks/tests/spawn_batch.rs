//! What the batch promises.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tasks::spawn_batch::{TaskError, spawn_batch};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const TAKES: Duration = Duration::from_millis(100);

fn at_once(limit: usize) -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(limit - 1)
}

/// Counts what is alive, and the most that ever was.
#[derive(Default)]
struct Gauge {
    now: AtomicUsize,
    peak: AtomicUsize,
}

struct Alive(Arc<Gauge>);

impl Alive {
    fn new(gauge: &Arc<Gauge>) -> Self {
        let now = gauge.now.fetch_add(1, Ordering::SeqCst) + 1;
        gauge.peak.fetch_max(now, Ordering::SeqCst);
        Self(Arc::clone(gauge))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Gauge {
    fn now(&self) -> usize {
        self.now.load(Ordering::SeqCst)
    }

    fn peak(&self) -> usize {
        self.peak.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn results_come_in_the_order_of_the_inputs_and_not_of_their_ends() {
    let started = Instant::now();
    let ended = std::sync::Mutex::new(Vec::new());
    let ended = Arc::new(ended);
    let results = spawn_batch(at_once(4), [40, 10, 30, 20], |millis| {
        let ended = Arc::clone(&ended);
        async move {
            sleep(Duration::from_millis(millis)).await;
            ended.lock().unwrap().push(millis);
            millis
        }
    });
    assert_eq!(results.await, [40, 10, 30, 20].map(Ok));
    assert_eq!(*ended.lock().unwrap(), [10, 20, 30, 40]);
    assert_eq!(started.elapsed(), Duration::from_millis(40));
}

#[tokio::test(start_paused = true)]
async fn as_many_tasks_as_the_limit_are_alive_and_never_more() {
    let gauge = Arc::new(Gauge::default());
    let started = Instant::now();
    let results = spawn_batch(at_once(3), 0..9, |_| {
        let alive = Alive::new(&gauge);
        async move {
            sleep(TAKES).await;
            drop(alive);
        }
    });
    assert_eq!(results.await.len(), 9);
    assert_eq!(gauge.peak(), 3);
    assert_eq!(started.elapsed(), 3 * TAKES, "nine inputs, three at a time");
}

#[tokio::test(start_paused = true)]
async fn a_place_is_used_again_as_soon_as_it_is_free() {
    let started = Instant::now();
    // The first takes as long as the five others together: it must not hold their place up.
    let results = spawn_batch(at_once(2), [500, 100, 100, 100, 100, 100], |millis| {
        sleep(Duration::from_millis(millis))
    });
    assert_eq!(results.await.len(), 6);
    assert_eq!(started.elapsed(), Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn a_panicked_input_is_reported_with_its_index_and_the_others_are_unharmed() {
    struct PanicsInDrop(bool);
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            assert!(!self.0, "while dropped");
        }
    }
    let results = spawn_batch(at_once(2), 0..6, |input: u32| {
        assert_ne!(input, 1, "before the future is there");
        async move {
            let _dropped_at_the_end = PanicsInDrop(input == 5);
            assert_ne!(input, 2, "at the first poll");
            sleep(TAKES).await;
            assert_ne!(input, 3, "after an await");
            input
        }
    });
    let results = results.await;
    assert_eq!((&results[0], &results[4]), (&Ok(0), &Ok(4)));
    for (at, says) in [
        (1, "before the future is there"),
        (2, "at the first poll"),
        (3, "after an await"),
        (5, "while dropped"),
    ] {
        let Err(TaskError::Panicked { index, message }) = &results[at] else {
            panic!("input {at}: {:?}", results[at]);
        };
        assert!(*index == at && message.contains(says), "{index} {message}");
    }
    assert_eq!(results.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_future_whose_own_destructor_panics_is_reported_too() {
    struct Bomb;
    impl Future for Bomb {
        type Output = ();
        fn poll(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("late");
        }
    }
    let results = spawn_batch(at_once(1), [()], |()| Bomb).await;
    let message = "late".to_owned();
    assert_eq!(results, [Err(TaskError::Panicked { index: 0, message })]);
}

#[tokio::test(start_paused = true)]
async fn an_input_is_taken_only_when_its_task_can_start() {
    let taken = Cell::new(0);
    let inputs = (0..).inspect(|_| taken.set(taken.get() + 1));
    let endless = spawn_batch(at_once(3), inputs, |_: u32| sleep(TAKES));
    timeout(TAKES * 5 / 2, endless)
        .await
        .expect_err("the inputs never end");
    assert_eq!(taken.get(), 9, "three rounds of three have started");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_batch_stops_the_tasks_under_way_and_starts_no_other() {
    let gauge = Arc::new(Gauge::default());
    let batch = spawn_batch(at_once(3), 0..9, |_| {
        let alive = Alive::new(&gauge);
        async move {
            sleep(2 * TAKES).await;
            drop(alive);
        }
    });
    timeout(TAKES, batch).await.unwrap_err();
    tokio::task::yield_now().await;
    assert_eq!((gauge.now(), gauge.peak()), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_batch_dropped_at_any_await_point_leaves_no_task_and_takes_no_input() {
    struct State {
        gauge: Arc<Gauge>,
        taken: Arc<AtomicUsize>,
    }
    let points = every_await_point(
        LIMIT,
        async || State {
            gauge: Arc::default(),
            taken: Arc::default(),
        },
        async |state: &mut State| {
            let inputs = (0..6).inspect(|_| _ = state.taken.fetch_add(1, Ordering::SeqCst));
            let results = spawn_batch(at_once(2), inputs, |_| {
                let alive = Alive::new(&state.gauge);
                async move {
                    sleep(TAKES).await;
                    drop(alive);
                }
            });
            results.await.len()
        },
        async |state, round| {
            let taken = state.taken.load(Ordering::SeqCst);
            sleep(10 * TAKES).await;
            assert_eq!(state.gauge.now(), 0, "a task lives on");
            assert_eq!(state.taken.load(Ordering::SeqCst), taken);
            match round {
                Outcome::Completed(results) => assert_eq!((taken, results), (6, 6)),
                Outcome::Dropped(_) => assert!((1..=6).contains(&taken)),
            }
        },
    )
    .await;
    // Six spawns that may use the budget up, and three rounds of two ends.
    assert!(
        points.as_ref().is_ok_and(|points| *points >= 8),
        "{points:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_huge_limit_leaves_other_tasks_their_turns() {
    let taken = Arc::new(AtomicUsize::new(0));
    let taken_at_my_turn = tokio::spawn({
        let taken = Arc::clone(&taken);
        async move { taken.load(Ordering::SeqCst) }
    });
    let inputs = (0..10_000).inspect(|_| _ = taken.fetch_add(1, Ordering::SeqCst));
    let results = spawn_batch(NonZeroUsize::MAX, inputs, async |_| ()).await;
    assert_eq!(results.len(), 10_000);
    let taken = taken_at_my_turn.await.unwrap();
    assert!(
        (1..=200).contains(&taken),
        "{taken} of 10,000 spawned before another task's turn"
    );
}

#[tokio::test(start_paused = true)]
async fn an_enormous_limit_and_an_enormous_size_hint_are_no_panic() {
    struct Boasts(u8);
    impl Iterator for Boasts {
        type Item = u8;
        fn next(&mut self) -> Option<u8> {
            self.0 = self.0.checked_sub(1)?;
            Some(self.0)
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            (usize::MAX, None)
        }
    }
    let results = spawn_batch(NonZeroUsize::MAX, Boasts(3), async |input| input).await;
    assert_eq!(results, [2, 1, 0].map(Ok));
}

#[tokio::test(start_paused = true)]
async fn no_inputs_are_no_results_and_no_wait() {
    let started = Instant::now();
    assert!(spawn_batch(at_once(1), 0..0, async |_| ()).await.is_empty());
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[test]
fn the_tasks_run_on_several_threads_at_once() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    // Each blocks its thread until the other is there: on one thread they wait in vain. That they may
    // on two, when a worker takes both at once and nobody takes the second from it; but seldom.
    let meet = |_| {
        let came = Arc::new(AtomicUsize::new(0));
        let both = spawn_batch(at_once(2), 0..2, |_| {
            let came = Arc::clone(&came);
            async move {
                came.fetch_add(1, Ordering::SeqCst);
                let until = Instant::now() + Duration::from_secs(2);
                while came.load(Ordering::SeqCst) < 2 && Instant::now() < until {
                    std::thread::yield_now();
                }
                came.load(Ordering::SeqCst) == 2
            }
        });
        let both = runtime.block_on(async { timeout(LIMIT, both).await.unwrap() });
        both == [Ok(true), Ok(true)]
    };
    assert!((0..3).any(meet));
}

#[test]
fn what_a_shutdown_of_the_runtime_cancels_is_reported_as_cancelled() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    };
    let (stops, goes_on) = (runtime(), runtime());
    let mut batch = pin!(spawn_batch(
        at_once(2),
        0..2,
        |_| std::future::pending::<()>()
    ));
    let first_poll = stops.block_on(async {
        let mut cx = Context::from_waker(Waker::noop());
        batch.as_mut().poll(&mut cx)
    });
    assert!(first_poll.is_pending());
    drop(stops);
    assert_eq!(
        goes_on.block_on(batch),
        [0, 1].map(|index| Err(TaskError::Cancelled { index }))
    );
}

#[tokio::test(start_paused = true)]
async fn a_loop_of_bare_spawns_has_everything_alive_at_once() {
    let gauge = Arc::new(Gauge::default());
    let handles: Vec<_> = (0..1000)
        .map(|_| {
            let alive = Alive::new(&gauge);
            tokio::spawn(async move {
                sleep(TAKES).await;
                drop(alive);
            })
        })
        .collect();
    for handle in handles {
        handle.await.unwrap();
    }
    assert_eq!(gauge.peak(), 1000);
}

#[tokio::test(start_paused = true)]
async fn join_all_of_a_join_set_mixes_the_order_and_one_panic_takes_all_results() {
    let after = async |millis| {
        sleep(Duration::from_millis(millis)).await;
        assert_ne!(millis, 30, "thirty");
        millis
    };
    let tasks: JoinSet<_> = [20, 10].into_iter().map(after).collect();
    assert_eq!(tasks.join_all().await, [10, 20]);

    let tasks: JoinSet<_> = [20, 30, 10].into_iter().map(after).collect();
    let all = tokio::spawn(tasks.join_all()).await;
    assert!(all.unwrap_err().is_panic(), "10 and 20 had their results");
}

#[tokio::test(start_paused = true)]
async fn the_tasks_of_a_dropped_vec_of_handles_run_on() {
    let gauge = Arc::new(Gauge::default());
    let naive = async {
        let handles: Vec<_> = (0..5)
            .map(|_| {
                let alive = Alive::new(&gauge);
                tokio::spawn(async move {
                    sleep(10 * TAKES).await;
                    drop(alive);
                })
            })
            .collect();
        for handle in handles {
            handle.await.unwrap();
        }
    };
    timeout(TAKES, naive).await.unwrap_err();
    sleep(TAKES).await;
    assert_eq!(gauge.now(), 5, "nobody waits, nobody stops them");
}

#[test]
fn a_task_that_never_awaits_runs_to_its_end_although_the_batch_is_dropped() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (started, mut has_started) = mpsc::channel(1);
    let (ended, mut has_ended) = mpsc::channel(1);
    let go = Arc::new(AtomicBool::new(false));
    let seen_go = Arc::clone(&go);
    runtime.block_on(async {
        let batch = spawn_batch(at_once(1), [()], move |()| {
            let (started, ended) = (started.clone(), ended.clone());
            let go = Arc::clone(&seen_go);
            async move {
                started.try_send(()).unwrap();
                while !go.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                ended.try_send(()).unwrap();
            }
        });
        tokio::select! {
            _ = batch => panic!("it waits for the flag"),
            started = has_started.recv() => started.unwrap(),
        }
        // The batch is dropped, and the abort has nowhere to take effect.
        go.store(true, Ordering::SeqCst);
        let ended = timeout(LIMIT, has_ended.recv()).await.unwrap();
        assert_eq!(ended, Some(()), "it ran to its end");
    });
}

//! What the batch promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::Cell;
use std::future::pending;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::try_join_all;
use structured::batch::{Failure, OnFailure, Report, batch, batch_keyed};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, advance, sleep, timeout};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(60);
const TAKES: Duration = Duration::from_millis(100);

fn at_once(limit: usize) -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(limit - 1)
}

fn panicked<T, E>(message: &str) -> Result<T, Failure<E>> {
    let message = message.to_owned();
    Err(Failure::Panicked { message })
}

/// Counts what is alive, the most that ever was, and how many there were.
#[derive(Default)]
struct Gauge {
    now: AtomicUsize,
    peak: AtomicUsize,
    ever: AtomicUsize,
}

struct Alive(Arc<Gauge>);

impl Alive {
    fn new(gauge: &Arc<Gauge>) -> Self {
        let now = gauge.now.fetch_add(1, Ordering::SeqCst) + 1;
        gauge.peak.fetch_max(now, Ordering::SeqCst);
        gauge.ever.fetch_add(1, Ordering::SeqCst);
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

    fn ever(&self) -> usize {
        self.ever.load(Ordering::SeqCst)
    }
}

/// Sleeps for so long; then it fails with the time, if that is odd.
async fn even(millis: u64) -> Result<u64, u64> {
    sleep(Duration::from_millis(millis)).await;
    if millis.is_multiple_of(2) {
        Ok(millis)
    } else {
        Err(millis)
    }
}

/// The inputs that never began.
fn rest<T, E, I: Iterator>(report: &mut Report<T, E, I>) -> Vec<I::Item> {
    report.never_began.take().expect("it was stopped").collect()
}

fn two_workers() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn a_report_made_by_hand_whose_first_failure_is_beyond_its_ends_is_no_panic() {
    for (first_failure, ends) in [(0, vec![]), (1, vec![Ok(7)])] {
        let values: Vec<u8> = ends.iter().flatten().copied().collect();
        let report: Report<_, (), [u8; 0]> = Report {
            ends,
            first_failure: Some(first_failure),
            never_began: None,
        };
        assert_eq!(report.into_values(), Ok(values));
    }
}

#[tokio::test(start_paused = true)]
async fn values_come_in_the_order_of_the_inputs_and_not_of_their_ends() {
    let started = Instant::now();
    let inputs = [40, 10, 30, 20];
    let report = batch(at_once(4), OnFailure::Stop, pending(), inputs, even).await;
    assert_eq!(started.elapsed(), Duration::from_millis(40));
    assert_eq!(
        (report.first_failure, report.never_began.is_none()),
        (None, true)
    );
    assert_eq!(report.into_values(), Ok(inputs.to_vec()));
}

#[tokio::test(start_paused = true)]
async fn the_first_error_stops_the_rest_and_each_input_is_accounted_for() {
    let started = Instant::now();
    let inputs = [20, 90, 31, 80, 70, 60, 50];
    let mut report = batch(at_once(3), OnFailure::Stop, pending(), inputs, even).await;
    // 20 ends and makes place for 80. 31 fails, and nothing waits for 80 or 90.
    assert_eq!(started.elapsed(), Duration::from_millis(31));
    let cut_off = || Err(Failure::CutOff);
    assert_eq!(
        report.ends,
        [Ok(20), cut_off(), Err(Failure::Failed(31)), cut_off()]
    );
    assert_eq!(report.first_failure, Some(2));
    assert_eq!(rest(&mut report), [70, 60, 50]);
    assert_eq!(report.into_values(), Err(Failure::Failed(31)));
}

#[tokio::test(start_paused = true)]
async fn nothing_begins_after_the_stop() {
    // By the work, by the iterator, and after more starts than a turn allows.
    for (last, by_the_work) in [(2, true), (2, false), (127, true), (128, true), (300, true)] {
        let stop = CancellationToken::new();
        let inputs = (0..1_000).inspect(|input| {
            if *input == last && !by_the_work {
                stop.cancel();
            }
        });
        let work = |input| {
            if input == last {
                stop.cancel();
            }
            pending::<Result<(), ()>>()
        };
        let mut report = batch(
            at_once(1_000),
            OnFailure::GoOn,
            stop.cancelled(),
            inputs,
            work,
        )
        .await;
        let begun = usize::try_from(last).unwrap() + 1;
        assert_eq!(report.ends, vec![Err(Failure::CutOff); begun]);
        assert_eq!(rest(&mut report).first(), Some(&(last + 1)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_needs_budget_to_be_heard_is_heard_before_the_next_start() {
    for last in 0..300 {
        yield_now().await; // each begins with the whole budget, which is 128
        let (stop, stopped) = oneshot::channel();
        let mut stop = Some(stop);
        let work = |input| {
            if input == last {
                stop.take().unwrap().send(()).unwrap();
            }
            pending::<Result<(), ()>>()
        };
        let until = stopped.map(Result::unwrap);
        let report = batch(at_once(1_000), OnFailure::GoOn, until, 0..1_000, work).await;
        assert_eq!(report.ends.len(), last + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_fires_while_inputs_begin_is_heard_after_128_more_at_the_latest() {
    for last in [0, 2, 127, 128, 300] {
        let work = |input| {
            if input == last {
                advance(LIMIT).now_or_never(); // the clock has moved, and no timer fired
            }
            pending::<Result<(), ()>>()
        };
        let deadline = sleep(LIMIT);
        let report = batch(at_once(1_000), OnFailure::GoOn, deadline, 0..1_000, work).await;
        let after = report.ends.len() - (last + 1);
        assert!(after <= 128, "{after} after {last}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_stops_the_rest_as_an_error_does_wherever_it_happens() {
    struct PanicsInDrop;
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("while dropped");
        }
    }
    for (at, says) in [
        (0, "before the future is there"),
        (1, "at the first poll"),
        (2, "after an await"),
        (3, "while dropped"),
    ] {
        let started = Instant::now();
        let mut report = batch(
            at_once(2),
            OnFailure::Stop,
            pending(),
            [9, at, 9],
            |input| {
                assert!(input != 0, "before the future is there");
                async move {
                    assert!(input != 1, "at the first poll");
                    if input == 9 {
                        sleep(LIMIT).await;
                    }
                    yield_now().await;
                    assert!(input != 2, "after an await");
                    let _dropped_at_the_end = (input == 3).then(|| PanicsInDrop);
                    Ok::<_, ()>(input)
                }
            },
        )
        .await;
        assert_eq!(report.ends, [Err(Failure::CutOff), panicked(says)]);
        assert_eq!(report.first_failure, Some(1));
        assert_eq!(rest(&mut report), [9]);
        assert_eq!(started.elapsed(), Duration::ZERO, "{says}");
        assert_eq!(report.into_values(), panicked(says));
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_the_future_is_there_stops_the_next_input_from_beginning() {
    let work =
        |input: u8| -> std::future::Ready<Result<(), ()>> { panic!("no future for {input}") };
    let mut report = batch(at_once(3), OnFailure::Stop, pending(), [1, 2, 3], work).await;
    assert_eq!(report.ends, [panicked("no future for 1")]);
    assert_eq!(rest(&mut report), [2, 3]);
    let report = batch(at_once(1), OnFailure::GoOn, pending(), [1, 2], work).await;
    assert_eq!(
        report.ends,
        [panicked("no future for 1"), panicked("no future for 2")]
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_without_a_text_is_told_all_the_same() {
    let work = |_: u8| async { std::panic::panic_any(7) };
    let report = batch::<_, (), (), _>(at_once(1), OnFailure::Stop, pending(), [1], work).await;
    assert_eq!(report.ends, [panicked("no message")]);
}

#[tokio::test(start_paused = true)]
async fn a_future_whose_own_destructor_panics_is_reported_when_it_ends_and_when_it_is_cut_off() {
    struct Bomb(bool);
    impl Future for Bomb {
        type Output = Result<(), ()>;
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
            if self.0 {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            }
        }
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("late");
        }
    }
    let report = batch(at_once(2), OnFailure::Stop, pending(), [true], Bomb).await;
    assert_eq!(report.ends, [panicked("late")]);
    let report = batch(at_once(2), OnFailure::Stop, sleep(TAKES), [false], Bomb).await;
    assert_eq!(report.ends, [panicked("late")]);
    assert_eq!(report.first_failure, Some(0));
}

#[tokio::test(start_paused = true)]
async fn go_on_collects_every_end_and_tells_the_first_failure_in_time() {
    let started = Instant::now();
    let inputs = [50, 31, 11, 20];
    let report = batch(at_once(2), OnFailure::GoOn, pending(), inputs, even).await;
    // 31 ends first and makes place for 11, then 20.
    assert_eq!(started.elapsed(), Duration::from_millis(62));
    assert_eq!(
        report.ends,
        [
            Ok(50),
            Err(Failure::Failed(31)),
            Err(Failure::Failed(11)),
            Ok(20)
        ]
    );
    assert_eq!(report.first_failure, Some(1));
    assert!(report.never_began.is_none());
    assert_eq!(report.into_values(), Err(Failure::Failed(31)));
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_is_the_first_in_time_and_not_in_order() {
    let report = batch(at_once(2), OnFailure::GoOn, pending(), [51, 31], even).await;
    assert_eq!(report.first_failure, Some(1));
    assert_eq!(report.into_values(), Err(Failure::Failed(31)));
}

#[tokio::test(start_paused = true)]
async fn what_ended_before_the_stop_was_read_keeps_its_value() {
    // All three end in the same turn: the set is read only after the last.
    let inputs = [1, 2, 4];
    let mut report = batch(
        at_once(3),
        OnFailure::Stop,
        pending(),
        inputs,
        async |input| {
            if input == 1 { Err(input) } else { Ok(input) }
        },
    )
    .await;
    assert_eq!(report.ends, [Err(Failure::Failed(1)), Ok(2), Ok(4)]);
    assert!(rest(&mut report).is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_input_begins_after_a_failure_that_could_have_been_read() {
    // The first four end in the same turn. Whatever the order in which they are read, the failure
    // among them is read before any of the places is used again.
    for fails in 0..4 {
        let gauge = Arc::new(Gauge::default());
        let report = batch(at_once(4), OnFailure::Stop, pending(), 0..8, |input| {
            let alive = Alive::new(&gauge);
            async move {
                sleep(TAKES).await;
                drop(alive);
                if input == fails { Err(()) } else { Ok(()) }
            }
        })
        .await;
        assert_eq!((gauge.ever(), report.ends.len()), (4, 4), "{fails} fails");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_heard_while_a_large_limit_still_begins_inputs() {
    let inputs = 0..100_000;
    let mut report = batch(
        NonZeroUsize::MAX,
        OnFailure::Stop,
        pending(),
        inputs,
        async |_| Err::<(), _>("at once"),
    )
    .await;
    let began = report.ends.len();
    assert!((1..=200).contains(&began), "{began} of 100,000 began");
    assert_eq!(rest(&mut report).len(), 100_000 - began);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_stops_it_and_keeps_what_is_done() {
    let started = Instant::now();
    let until = sleep(Duration::from_millis(50));
    let mut report = batch(at_once(2), OnFailure::Stop, until, [20, 80, 60, 40], even).await;
    assert_eq!(started.elapsed(), Duration::from_millis(50));
    let cut_off = || Err(Failure::CutOff);
    assert_eq!(report.ends, [Ok(20), cut_off(), cut_off()]);
    assert_eq!(report.first_failure, None);
    assert_eq!(rest(&mut report), [40]);
    assert_eq!(report.into_values(), Err(Failure::CutOff));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_stopped_between_two_inputs_does_not_pass_for_a_whole_one() {
    let until = sleep(Duration::from_millis(30));
    let paced = (0..3).map(|_| 20);
    // One at a time; the third would end after 60 ms. None is cut off: the second ends at 40 ms.
    let report = batch(at_once(1), OnFailure::GoOn, until, paced, even).await;
    assert_eq!(report.ends, [Ok(20), Err(Failure::CutOff)]);
    assert_eq!(report.into_values(), Err(Failure::CutOff));

    let stopped = CancellationToken::new();
    stopped.cancel();
    let mut report = batch(at_once(1), OnFailure::GoOn, stopped.cancelled(), [20], even).await;
    assert_eq!((report.ends.len(), rest(&mut report)), (0, vec![20]));
    let report = batch(at_once(1), OnFailure::GoOn, stopped.cancelled(), [20], even).await;
    assert_eq!(report.into_values(), Err(Failure::CutOff), "and not Ok([])");
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_heard_although_ends_keep_coming_and_no_input_ever_waits() {
    let stop = CancellationToken::new();
    let stopper = tokio::spawn({
        let stop = stop.clone();
        async move {
            for _ in 0..20 {
                yield_now().await;
            }
            stop.cancel();
        }
    });
    let endless = batch(
        at_once(200),
        OnFailure::GoOn,
        stop.cancelled(),
        0..1_000_000,
        async |_| Ok::<_, ()>(()),
    );
    let report = timeout(LIMIT, endless).await.expect("it is not heard");
    stopper.await.unwrap();
    let began = report.ends.len();
    assert!((20..=20_000).contains(&began), "{began} began");
}

#[tokio::test(start_paused = true)]
async fn as_many_tasks_as_the_limit_are_alive_and_never_more() {
    let gauge = Arc::new(Gauge::default());
    let started = Instant::now();
    let report = batch(at_once(3), OnFailure::Stop, pending(), 0..9, |_| {
        let alive = Alive::new(&gauge);
        async move {
            sleep(TAKES).await;
            drop(alive);
            Ok::<_, ()>(())
        }
    })
    .await;
    assert_eq!(report.into_values().map(|values| values.len()), Ok(9));
    assert_eq!(gauge.peak(), 3);
    assert_eq!(started.elapsed(), 3 * TAKES, "nine inputs, three at a time");
}

#[tokio::test(start_paused = true)]
async fn an_input_is_taken_only_when_its_work_can_begin() {
    let taken = Cell::new(0);
    let inputs = (0..10_000).inspect(|_| taken.set(taken.get() + 1));
    let until = sleep(TAKES * 5 / 2);
    let report = batch(at_once(3), OnFailure::Stop, until, inputs, |_: u32| async {
        sleep(TAKES).await;
        Ok::<_, ()>(())
    })
    .await;
    assert_eq!(taken.get(), 9, "three rounds of three have begun");
    assert_eq!(report.ends.len(), 9);
}

#[tokio::test(start_paused = true)]
async fn ends_come_with_their_keys_as_they_happen() {
    let started = Instant::now();
    let mut seen = Vec::new();
    let inputs = [("slow", 60), ("fails", 21), ("quick", 10), ("next", 40)];
    let flow = batch_keyed(at_once(3), pending(), inputs, even, |key, end| {
        seen.push((started.elapsed().as_millis(), key, end));
        ControlFlow::Continue(())
    })
    .await;
    assert!(flow.is_continue());
    assert_eq!(
        seen,
        [
            (10, "quick", Ok(10)),
            (21, "fails", Err(Failure::Failed(21))),
            (50, "next", Ok(40)),
            (60, "slow", Ok(60)),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_break_stops_the_rest_and_each_input_that_began_has_one_end_with_its_own_key() {
    let mut ends = Vec::new();
    let mut inputs = [("a", 90), ("b", 11), ("c", 80), ("d", 10), ("e", 10)].into_iter();
    let started = Instant::now();
    let flow = batch_keyed(at_once(3), pending(), &mut inputs, even, |key, end| {
        let flow = if end.is_err() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        };
        ends.push((key, end));
        flow
    })
    .await;
    assert!(flow.is_break());
    assert_eq!(started.elapsed(), Duration::from_millis(11));
    assert_eq!(ends[0], ("b", Err(Failure::Failed(11))));
    ends.sort_unstable_by_key(|(key, _)| *key);
    let keys: Vec<_> = ends.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, ["a", "b", "c"]);
    assert_eq!(
        (&ends[0].1, &ends[2].1),
        (&Err(Failure::CutOff), &Err(Failure::CutOff))
    );
    assert_eq!(inputs.next(), Some(("d", 10)), "it never began");
}

#[tokio::test(start_paused = true)]
async fn two_inputs_may_have_the_same_key_and_a_panic_has_one_too() {
    let mut ends = Vec::new();
    let inputs = [("same", 20), ("same", 10), ("odd", 30)];
    let work = |millis| {
        assert!(millis != 30, "thirty");
        even(millis)
    };
    let on_end = |key, end| {
        ends.push((key, end));
        ControlFlow::Continue(())
    };
    assert!(
        batch_keyed(at_once(3), pending(), inputs, work, on_end)
            .await
            .is_continue()
    );
    assert_eq!(
        ends,
        [
            ("odd", panicked("thirty")),
            ("same", Ok(10)),
            ("same", Ok(20))
        ]
    );
}

#[test]
fn when_it_returns_every_task_has_dropped_all_that_it_held() {
    for round in 0..200 {
        let gauge = Arc::new(Gauge::default());
        let now = two_workers_once().block_on(async {
            let report = batch(at_once(16), OnFailure::Stop, pending(), 0..64, |input| {
                let alive = Alive::new(&gauge);
                async move {
                    for _ in 0..input {
                        yield_now().await;
                    }
                    let result = if input == 7 { Err(()) } else { Ok(()) };
                    std::future::ready(()).await;
                    drop(alive);
                    result
                }
            })
            .await;
            assert!(report.first_failure == Some(7));
            gauge.now()
        });
        assert_eq!(now, 0, "round {round}");
    }
}

/// One runtime for all rounds.
fn two_workers_once() -> &'static Runtime {
    static RUNTIME: std::sync::OnceLock<Runtime> = std::sync::OnceLock::new();
    RUNTIME.get_or_init(two_workers)
}

#[test]
fn code_that_never_awaits_delays_the_return_until_it_ends() {
    let go = Arc::new(AtomicBool::new(false));
    let ended = Arc::new(AtomicBool::new(false));
    let report = two_workers().block_on(async {
        let (busy, mut is_busy) = mpsc::channel(1);
        let shared = (Arc::clone(&go), Arc::clone(&ended));
        let mut whole = pin!(batch(
            at_once(1),
            OnFailure::Stop,
            async move {
                is_busy.recv().await;
            },
            [()],
            move |()| {
                let ((go, ended), busy) = (shared.clone(), busy.clone());
                async move {
                    busy.try_send(()).unwrap();
                    while !go.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                    ended.store(true, Ordering::SeqCst);
                    Ok::<_, ()>(())
                }
            }
        ));
        timeout(TAKES, whole.as_mut())
            .await
            .expect_err("it is asked to stop, and cannot");
        go.store(true, Ordering::SeqCst);
        let report = timeout(LIMIT, whole).await.unwrap();
        assert!(
            ended.load(Ordering::SeqCst),
            "it returned before the task had ended"
        );
        report
    });
    // It ended before the abort could take effect, so its value is there.
    assert_eq!(report.ends, [Ok(())]);
}

#[test]
fn dropped_it_leaves_code_that_never_awaits_running() {
    let go = Arc::new(AtomicBool::new(false));
    let (busy, mut is_busy) = mpsc::channel(1);
    let (ended, mut has_ended) = mpsc::channel(1);
    let seen_go = Arc::clone(&go);
    two_workers().block_on(async {
        let whole = batch(at_once(1), OnFailure::Stop, pending(), [()], move |()| {
            let (go, busy, ended) = (Arc::clone(&seen_go), busy.clone(), ended.clone());
            async move {
                busy.try_send(()).unwrap();
                while !go.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                ended.try_send(()).unwrap();
                Ok::<_, ()>(())
            }
        });
        tokio::select! {
            _ = whole => panic!("it waits for the flag"),
            busy = is_busy.recv() => busy.unwrap(),
        }
        go.store(true, Ordering::SeqCst);
        let ended = timeout(LIMIT, has_ended.recv()).await.unwrap();
        assert_eq!(ended, Some(()), "it ran to its end");
    });
}

#[tokio::test(start_paused = true)]
async fn a_batch_dropped_at_any_await_point_leaves_no_task_and_takes_no_input() {
    struct State {
        gauge: Arc<Gauge>,
        taken: Arc<AtomicUsize>,
        ends: Arc<AtomicUsize>,
    }
    let points = every_await_point(
        LIMIT,
        async || State {
            gauge: Arc::default(),
            taken: Arc::default(),
            ends: Arc::default(),
        },
        async |state: &mut State| {
            let inputs = (0..6).inspect(|_| _ = state.taken.fetch_add(1, Ordering::SeqCst));
            let work = |input| {
                let alive = Alive::new(&state.gauge);
                async move {
                    // Of different lengths: 3 fails after 240 ms, while 4 runs.
                    sleep(TAKES + input * TAKES / 10).await;
                    drop(alive);
                    if input == 3 { Err(()) } else { Ok(()) }
                }
            };
            let ends = Arc::clone(&state.ends);
            let inputs = inputs.enumerate();
            batch_keyed(at_once(2), pending(), inputs, work, |_, end| {
                ends.fetch_add(1, Ordering::SeqCst);
                match end {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            })
            .await
        },
        async |state, round| {
            let counts = || [&state.taken, &state.ends].map(|count| count.load(Ordering::SeqCst));
            let [taken, ends] = counts();
            sleep(10 * TAKES).await;
            assert_eq!(state.gauge.now(), 0, "a task lives on");
            assert_eq!(counts(), [taken, ends], "it goes on");
            match round {
                Outcome::Completed(flow) => {
                    assert_eq!((taken, ends, flow.is_break()), (5, 5, true));
                }
                Outcome::Dropped(_) => assert!(taken <= 5 && ends <= taken),
            }
        },
    )
    .await;
    assert_eq!(
        points.unwrap(),
        14,
        "starts, ends, looks at the stop, and the wait for the one that is cut off"
    );
}

#[tokio::test(start_paused = true)]
async fn the_ordered_form_too_leaves_no_task_wherever_it_is_dropped() {
    let points = every_await_point(
        LIMIT,
        async || Arc::new(Gauge::default()),
        async |gauge: &mut Arc<Gauge>| {
            let work = |_| {
                let alive = Alive::new(gauge);
                async move {
                    sleep(TAKES).await;
                    drop(alive);
                    Ok::<_, ()>(())
                }
            };
            let report = batch(
                at_once(2),
                OnFailure::Stop,
                sleep(3 * TAKES / 2),
                0..6,
                work,
            )
            .await;
            report.ends.len()
        },
        async |gauge, round| {
            let ever = gauge.ever();
            sleep(10 * TAKES).await;
            assert_eq!((gauge.now(), gauge.ever()), (0, ever));
            match round {
                Outcome::Completed(ends) => assert_eq!(ends, 4),
                Outcome::Dropped(_) => assert!(ever <= 4),
            }
        },
    )
    .await;
    assert_eq!(points.unwrap(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_large_limit_leaves_other_tasks_their_turns() {
    let gauge = Arc::new(Gauge::default());
    let began_at_my_turn = tokio::spawn({
        let gauge = Arc::clone(&gauge);
        async move { gauge.ever() }
    });
    let report = batch(
        NonZeroUsize::MAX,
        OnFailure::Stop,
        pending(),
        0..10_000,
        |_| {
            let alive = Alive::new(&gauge);
            async move {
                drop(alive);
                Ok::<_, ()>(())
            }
        },
    )
    .await;
    assert_eq!(report.ends.len(), 10_000);
    let began = began_at_my_turn.await.unwrap();
    assert!(
        (1..=200).contains(&began),
        "{began} of 10,000 began before another task's turn"
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
    let echo = async |input| Ok::<_, ()>(input);
    let report = batch(
        NonZeroUsize::MAX,
        OnFailure::Stop,
        pending(),
        Boasts(3),
        echo,
    )
    .await;
    assert_eq!(report.into_values(), Ok(vec![2, 1, 0]));
}

#[tokio::test(start_paused = true)]
async fn no_inputs_are_no_ends_and_no_wait() {
    let started = Instant::now();
    let report = batch(at_once(1), OnFailure::Stop, pending(), [], even).await;
    assert!(report.ends.is_empty() && report.never_began.is_none());
    assert_eq!(report.into_values(), Ok(vec![]));
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[test]
fn the_work_runs_on_several_threads_at_once() {
    // Each blocks its thread until the other is there: on one thread they wait in vain. That they may
    // on two, when a worker takes both at once and nobody takes the second from it; but seldom.
    let meet = |_| {
        let came = Arc::new(AtomicUsize::new(0));
        let both = batch(at_once(2), OnFailure::Stop, pending(), 0..2, |_| {
            let came = Arc::clone(&came);
            async move {
                came.fetch_add(1, Ordering::SeqCst);
                let until = Instant::now() + Duration::from_secs(2);
                while came.load(Ordering::SeqCst) < 2 && Instant::now() < until {
                    std::thread::yield_now();
                }
                Ok::<_, ()>(came.load(Ordering::SeqCst) == 2)
            }
        });
        let both = two_workers().block_on(async { timeout(LIMIT, both).await.unwrap() });
        both.into_values().unwrap() == [true, true]
    };
    assert!((0..3).any(meet));
}

#[test]
fn what_a_shutdown_of_the_runtime_cuts_off_is_reported_and_is_no_success() {
    let runtime = || Builder::new_current_thread().build().unwrap();
    let (stops, goes_on) = (runtime(), runtime());
    let never = |_| pending::<Result<(), ()>>();
    let mut whole = pin!(batch(at_once(2), OnFailure::GoOn, pending(), 0..2, never));
    let first_poll = stops.block_on(async {
        let mut cx = Context::from_waker(Waker::noop());
        whole.as_mut().poll(&mut cx)
    });
    assert!(first_poll.is_pending());
    drop(stops);
    let report = goes_on.block_on(whole);
    assert_eq!(report.ends, [Err(Failure::CutOff), Err(Failure::CutOff)]);
    assert_eq!(report.into_values(), Err(Failure::CutOff));
}

#[test]
fn an_error_of_the_work_is_shown_as_it_is_and_can_be_asked_for_its_source() {
    #[derive(Debug, thiserror::Error)]
    #[error("no answer")]
    struct NoAnswer(#[source] std::fmt::Error);
    let failure = Failure::Failed(NoAnswer(std::fmt::Error));
    assert_eq!(failure.to_string(), "no answer");
    let source = std::error::Error::source(&failure).expect("the source of the work's error");
    assert!(source.is::<std::fmt::Error>());
}

// ---------------------------------------------------------------------------------- the hazards

#[tokio::test(start_paused = true)]
async fn harm_try_join_all_of_handles_waits_out_an_err_and_detaches_the_rest_at_a_panic() {
    let gauge = Arc::new(Gauge::default());
    let spawn = |millis: u64, end: fn() -> Result<(), ()>| {
        let alive = Alive::new(&gauge);
        tokio::spawn(async move {
            sleep(Duration::from_millis(millis)).await;
            drop(alive);
            end()
        })
    };
    let started = Instant::now();
    let all = try_join_all([spawn(10, || Err(())), spawn(900, || Ok(()))]).await;
    assert_eq!(all.unwrap(), [Err(()), Ok(())], "the Err is a value to it");
    assert_eq!(started.elapsed(), Duration::from_millis(900));

    let all = try_join_all([spawn(10, || panic!("ten")), spawn(900, || Ok(()))]).await;
    assert!(all.unwrap_err().is_panic());
    sleep(TAKES).await;
    assert_eq!(gauge.now(), 1, "nobody waits for it, nobody stops it");
}

#[tokio::test(start_paused = true)]
async fn harm_a_set_that_is_aborted_or_dropped_still_has_its_tasks() {
    let gauge = Arc::new(Gauge::default());
    let sleepers = || {
        let mut tasks = JoinSet::new();
        for _ in 0..3 {
            let alive = Alive::new(&gauge);
            tasks.spawn(async move {
                sleep(LIMIT).await;
                drop(alive);
            });
        }
        tasks
    };
    let mut tasks = sleepers();
    yield_now().await;
    tasks.abort_all();
    assert_eq!(gauge.now(), 3, "asked to stop, and not yet stopped");
    while tasks.join_next().await.is_some() {}
    assert_eq!(gauge.now(), 0);

    let tasks = sleepers();
    yield_now().await;
    drop(tasks);
    assert_eq!(gauge.now(), 3);
}

#[tokio::test(start_paused = true)]
async fn harm_shutdown_of_a_set_throws_away_values_and_panics() {
    let mut tasks = JoinSet::new();
    let is_dropped = Arc::new(());
    let value = Arc::clone(&is_dropped);
    tasks.spawn(async move { value });
    tasks.spawn(async { panic!("nobody hears it") });
    sleep(TAKES).await;
    assert_eq!(Arc::strong_count(&is_dropped), 2, "a value to be read");
    tasks.shutdown().await;
    assert_eq!(Arc::strong_count(&is_dropped), 1);
    assert!(tasks.join_next().await.is_none(), "neither value nor panic");
}

#[tokio::test(start_paused = true)]
async fn harm_work_is_cut_off_half_done() {
    let account = Arc::new((AtomicUsize::new(100), AtomicUsize::new(0)));
    let report = batch(
        at_once(2),
        OnFailure::Stop,
        pending(),
        [true, false],
        |transfers| {
            let account = Arc::clone(&account);
            async move {
                if !transfers {
                    sleep(TAKES / 2).await;
                    return Err(());
                }
                account.0.fetch_sub(10, Ordering::SeqCst);
                sleep(TAKES).await;
                account.1.fetch_add(10, Ordering::SeqCst);
                Ok(())
            }
        },
    )
    .await;
    assert_eq!(report.first_failure, Some(1));
    let sum = account.0.load(Ordering::SeqCst) + account.1.load(Ordering::SeqCst);
    assert_eq!(sum, 90, "ten are gone");
}

#[tokio::test(start_paused = true)]
async fn harm_what_the_work_spawns_runs_on() {
    let gauge = Arc::new(Gauge::default());
    let report = batch(at_once(1), OnFailure::Stop, pending(), [()], |()| {
        let alive = Alive::new(&gauge);
        async move {
            tokio::spawn(async move {
                sleep(LIMIT).await;
                drop(alive);
            });
            yield_now().await;
            Err::<(), _>(())
        }
    })
    .await;
    assert_eq!(report.first_failure, Some(0));
    sleep(TAKES).await;
    assert_eq!(gauge.now(), 1);
}

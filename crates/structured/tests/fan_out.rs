//! What the fan-out promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::future::ready;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt, stream};
use structured::fan_out::{Failure, FanOut, Limits, Order, fan_out};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const TAKES: Duration = Duration::from_millis(100);
const BOTH: [Order; 2] = [Order::AsFinished, Order::AsGiven];

fn limits(workers: usize, buffer: usize) -> Limits {
    let workers = NonZeroUsize::MIN.saturating_add(workers - 1);
    Limits { workers, buffer }
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

/// Inputs without an end that a test would reach, and how many of them were taken.
fn endless() -> (Arc<AtomicUsize>, impl Stream<Item = usize> + Send + 'static) {
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let inputs =
        stream::iter(0..100_000).inspect(move |_| _ = counted.fetch_add(1, Ordering::SeqCst));
    (taken, inputs)
}

async fn after(millis: u64) -> u64 {
    sleep(Duration::from_millis(millis)).await;
    millis
}

fn two_workers() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Reads to the end; when each came.
async fn timed<T>(mut ends: FanOut<T>) -> Vec<(u128, Result<T, Failure>)> {
    let started = Instant::now();
    let mut all = Vec::new();
    while let Some(end) = ends.next().await {
        all.push((started.elapsed().as_millis(), end));
    }
    all
}

#[tokio::test(start_paused = true)]
async fn no_inputs_are_no_results_and_no_wait() {
    for order in BOTH {
        let ends = fan_out(limits(4, 4), order, stream::empty(), after);
        assert_eq!(timed(ends).await, []);
        // Nor where the stream does not know that it is empty.
        let (_, inputs) = endless();
        let ends = fan_out(
            limits(4, 4),
            order,
            inputs.take_while(|_| ready(false)),
            async |_| (),
        );
        let started = Instant::now();
        assert_eq!(timed(ends).await, []);
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn as_finished_gives_each_result_when_it_is_there() {
    let inputs = stream::iter([40, 10, 30, 20]);
    let ends = fan_out(limits(2, 2), Order::AsFinished, inputs, after);
    // 40 and 10 begin; 30 follows 10, 20 follows the other two.
    let expected = [(10, 10), (40, 40), (40, 30), (60, 20)];
    let mut ends = timed(ends).await;
    ends[1..3].sort_unstable_by(|a, b| b.1.as_ref().ok().cmp(&a.1.as_ref().ok()));
    assert_eq!(ends, expected.map(|(at, millis)| (at, Ok(millis))));
}

#[tokio::test(start_paused = true)]
async fn as_given_gives_the_results_in_the_order_of_the_inputs() {
    let inputs = stream::iter([40, 10, 35, 20]);
    let ends = fan_out(limits(2, 2), Order::AsGiven, inputs, after);
    // 10 is done at 10, and waits for 40; 35 runs from 10 to 45, 20 from 40 to 60.
    let expected = [(40, 40), (40, 10), (45, 35), (60, 20)];
    assert_eq!(
        timed(ends).await,
        expected.map(|(at, millis)| (at, Ok(millis)))
    );
}

#[tokio::test(start_paused = true)]
async fn as_many_as_the_limit_are_worked_on_and_never_more() {
    for (order, buffer) in [(BOTH[0], 0), (BOTH[0], 5), (BOTH[1], 0), (BOTH[1], 5)] {
        let gauge = Arc::new(Gauge::default());
        let of_work = Arc::clone(&gauge);
        let started = Instant::now();
        let ends = fan_out(limits(3, buffer), order, stream::iter(0..9), move |_| {
            let alive = Alive::new(&of_work);
            async move {
                sleep(TAKES).await;
                drop(alive);
            }
        });
        assert_eq!(timed(ends).await.len(), 9);
        assert_eq!(gauge.peak(), 3);
        assert_eq!(started.elapsed(), 3 * TAKES, "nine inputs, three at a time");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_holds_the_inputs_to_workers_and_buffer() {
    for order in BOTH {
        for (workers, buffer) in [(1, 0), (1, 1), (3, 0), (3, 2), (2, 7)] {
            let (taken, inputs) = endless();
            let gauge = Arc::new(Gauge::default());
            let of_work = Arc::clone(&gauge);
            let mut ends = fan_out(limits(workers, buffer), order, inputs, move |input| {
                let alive = Alive::new(&of_work);
                async move {
                    sleep(TAKES).await;
                    drop(alive);
                    input
                }
            });
            let taken = || taken.load(Ordering::SeqCst);
            assert_eq!(taken(), 0, "this thread has not given way yet");
            yield_now().await;
            sleep(TAKES / 2).await;
            assert_eq!(taken(), workers, "before the first is done");
            sleep(LIMIT).await;
            let most = workers + buffer;
            assert_eq!(taken(), most, "{workers} and {buffer}, nothing read");
            assert_eq!(
                (gauge.now(), gauge.ever()),
                (0, most),
                "all of them are done"
            );
            for read in 1..=5 {
                assert!(ends.next().await.unwrap().is_ok());
                sleep(LIMIT).await;
                assert_eq!(taken(), most + read, "{workers} and {buffer}, {read} read");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_workers_work_while_the_reader_is_busy_with_a_result() {
    let started = Instant::now();
    let mut ends = fan_out(
        limits(1, 4),
        Order::AsFinished,
        stream::iter(0..5),
        move |_| async move {
            sleep(TAKES).await;
            started.elapsed().as_millis()
        },
    );
    let mut done_at = Vec::new();
    while let Some(end) = ends.next().await {
        done_at.push(end.unwrap());
        sleep(2 * TAKES).await; // busy
    }
    assert_eq!(done_at, [100, 200, 300, 400, 500]);
    assert_eq!(started.elapsed(), 11 * TAKES);
}

#[tokio::test(start_paused = true)]
async fn a_panic_keeps_its_place_and_costs_no_other_result() {
    struct PanicsInDrop;
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("while dropped");
        }
    }
    // One worker, so that what follows a panic needs the worker that it hit.
    for (order, workers) in [(BOTH[0], 1), (BOTH[1], 1), (BOTH[1], 3)] {
        let ends = fan_out(
            limits(workers, 8),
            order,
            stream::iter(0..6),
            |input: u64| {
                assert!(input != 1, "before the future is there");
                async move {
                    assert!(input != 2, "at the first poll");
                    sleep(TAKES).await;
                    assert!(input != 3, "after an await");
                    let _dropped_at_the_end = (input == 4).then(|| PanicsInDrop);
                    input
                }
            },
        );
        let panicked = |input, message: &str| {
            let message = message.to_owned();
            Err(Failure::Panicked { input, message })
        };
        let expected = [
            Ok(0),
            panicked(1, "before the future is there"),
            panicked(2, "at the first poll"),
            panicked(3, "after an await"),
            panicked(4, "while dropped"),
            Ok(5),
        ];
        let ends: Vec<_> = ends.collect().await;
        assert_eq!(ends, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn as_finished_a_panic_names_its_input() {
    let ends = fan_out(
        limits(3, 0),
        Order::AsFinished,
        stream::iter([30, 10, 20]),
        async |millis| {
            assert!(after(millis).await != 20, "twenty");
            millis
        },
    );
    let message = "twenty".to_owned();
    let panicked = Failure::Panicked { input: 2, message };
    let expected = [(10, Ok(10)), (20, Err(panicked)), (30, Ok(30))];
    assert_eq!(timed(ends).await, expected);
}

#[tokio::test(start_paused = true)]
async fn inputs_that_panic_are_the_last_result_and_what_came_before_is_kept() {
    for order in BOTH {
        let (_, inputs) = endless();
        let inputs = inputs.inspect(|input| assert!(*input != 3, "a broken source"));
        let work = async |input| {
            sleep(TAKES).await;
            input
        };
        let mut ends = fan_out(limits(2, 9), order, inputs, work);
        let mut all = Vec::new();
        while let Some(end) = timeout(LIMIT, ends.next()).await.unwrap() {
            all.push(end);
        }
        all.sort_by_key(|end| end.as_ref().ok().copied().unwrap_or(usize::MAX));
        let message = "a broken source".to_owned();
        let broken = Failure::InputsPanicked { input: 3, message };
        assert_eq!(all, [Ok(0), Ok(1), Ok(2), Err(broken)]);
        assert!(ends.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn results_come_although_the_next_input_is_not_there_yet() {
    for order in BOTH {
        let (sender, mut receiver) = mpsc::channel(1);
        let inputs = stream::poll_fn(move |cx| receiver.poll_recv(cx));
        let mut ends = fan_out(limits(2, 0), order, inputs, after);
        for millis in [30, 20] {
            sender.send(millis).await.unwrap();
            let end = timeout(TAKES, ends.next())
                .await
                .expect("it waits for more inputs");
            assert_eq!(end, Some(Ok(millis)));
        }
        drop(sender);
        assert_eq!(ends.next().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_it_stops_the_workers_and_drops_the_inputs() {
    for order in BOTH {
        let gauge = Arc::new(Gauge::default());
        let (of_inputs, of_work) = (Arc::new(()), Arc::clone(&gauge));
        let held = Arc::clone(&of_inputs);
        let (taken, inputs) = endless();
        let inputs = inputs.inspect(move |_| _ = Arc::strong_count(&held));
        let ends = fan_out(limits(3, 9), order, inputs, move |_| {
            let alive = Alive::new(&of_work);
            async move {
                sleep(TAKES).await;
                drop(alive);
            }
        });
        sleep(TAKES / 2).await;
        assert_eq!((gauge.now(), taken.load(Ordering::SeqCst)), (3, 3));
        drop(ends);
        yield_now().await;
        assert_eq!(gauge.now(), 0);
        assert_eq!(Arc::strong_count(&of_inputs), 1, "the inputs live on");
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
        sleep(LIMIT).await;
        assert_eq!((gauge.ever(), taken.load(Ordering::SeqCst)), (3, 3));
    }
}

#[test]
fn at_the_end_nothing_of_it_is_left() {
    let runtime = two_workers();
    for round in 0..200 {
        let order = BOTH[round % 2];
        let (held, of_work) = (Arc::new(()), Arc::new(()));
        let (in_inputs, in_work) = (Arc::clone(&held), Arc::clone(&of_work));
        let left = runtime.block_on(async {
            let inputs = stream::iter(0..10).inspect(move |_| _ = Arc::strong_count(&in_inputs));
            let work = move |input| {
                let in_work = Arc::clone(&in_work);
                async move { (input, drop(in_work)) }
            };
            let mut ends = fan_out(limits(4, 1), order, inputs, work);
            let mut count = 0;
            while ends.next().await.is_some() {
                count += 1;
            }
            assert_eq!(count, 10);
            (Arc::strong_count(&held), Arc::strong_count(&of_work))
        });
        assert_eq!(left, (1, 1), "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn there_are_no_more_tasks_than_inputs_where_their_number_is_known() {
    let alive = || Handle::current().metrics().num_alive_tasks();
    let many = limits(1_000, usize::MAX);
    let ends = fan_out(many, Order::AsGiven, stream::iter([20, 10]), after);
    assert_eq!(alive(), 2);
    let ends: Vec<_> = ends.collect().await;
    assert_eq!(ends, [Ok(20), Ok(10)]);

    let (_, inputs) = endless();
    let ends = fan_out(
        limits(5, usize::MAX),
        Order::AsFinished,
        inputs,
        async |_| (),
    );
    assert_eq!(alive(), 5);
    drop(ends);
}

#[tokio::test(start_paused = true)]
async fn a_length_that_is_a_lie_costs_no_input() {
    struct SaysNone(u8);
    impl Stream for SaysNone {
        type Item = u8;
        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u8>> {
            let left = self.0.checked_sub(1);
            self.0 = left.unwrap_or_default();
            Poll::Ready(left)
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            (0, Some(0))
        }
    }
    let ends = fan_out(limits(2, 1), Order::AsGiven, SaysNone(3), async |input| {
        input
    });
    let ends: Vec<_> = ends.collect().await;
    assert_eq!(ends, [Ok(2), Ok(1), Ok(0)]);
}

#[tokio::test(start_paused = true)]
async fn the_inputs_are_not_polled_again_after_their_end() {
    for order in BOTH {
        let mut left = 3;
        let inputs = stream::poll_fn(move |_| {
            left -= 1;
            assert!(left >= 0, "polled after its end");
            Poll::Ready((left > 0).then_some(left))
        });
        let mut ends = fan_out(limits(4, 4), order, inputs, async |input| input);
        assert_eq!(ends.next().await, Some(Ok(2)));
        assert_eq!(ends.next().await, Some(Ok(1)));
        assert_eq!(ends.next().await, None);
        assert_eq!(ends.next().await, None, "and None again");
    }
}

#[test]
fn a_shutdown_of_the_runtime_is_told_and_is_no_end() {
    for order in BOTH {
        // One thread, so that each worker has had its turn once this task has given way.
        let stops = Builder::new_current_thread().build().unwrap();
        let goes_on = two_workers();
        let mut ends = stops.block_on(async {
            let mut ends = fan_out(limits(2, 9), order, stream::iter(0..4), async |input| {
                if input == 1 {
                    std::future::pending::<()>().await;
                }
                input
            });
            assert_eq!(ends.next().await, Some(Ok(0)));
            for _ in 0..9 {
                yield_now().await; // 2 and 3 are done by the other worker
            }
            ends
        });
        drop(stops);
        let rest: Vec<_> = goes_on.block_on(async {
            timeout(LIMIT, ends.by_ref().collect())
                .await
                .expect("it waits for ever")
        });
        let expected = match order {
            Order::AsFinished => [Ok(2), Ok(3), Err(Failure::CutOff)],
            Order::AsGiven => [Err(Failure::CutOff), Ok(2), Ok(3)],
        };
        assert_eq!(rest, expected);
        assert_eq!(ends.next().now_or_never(), Some(None));
    }
}

#[test]
fn a_shutdown_before_the_inputs_ended_is_told_although_all_that_was_taken_is_done() {
    for order in BOTH {
        let stops = two_workers();
        let (sender, mut receiver) = mpsc::channel(1);
        let mut ends = stops.block_on(async {
            let inputs = stream::poll_fn(move |cx| receiver.poll_recv(cx));
            sender.send(1).await.unwrap();
            let mut ends = fan_out(limits(2, 0), order, inputs, async |input| input);
            assert_eq!(ends.next().await, Some(Ok(1)));
            ends
        });
        drop(stops);
        assert_eq!(ends.next().now_or_never(), Some(Some(Err(Failure::CutOff))));
        assert_eq!(ends.next().now_or_never(), Some(None));
    }
}

#[tokio::test(start_paused = true)]
async fn reading_may_be_dropped_at_any_await_point_and_loses_no_result() {
    for order in BOTH {
        let points = every_await_point(
            LIMIT,
            async || {
                let inputs = stream::iter([50, 10, 40, 20, 30]);
                (fan_out(limits(2, 1), order, inputs, after), Vec::new())
            },
            async |(ends, read): &mut (FanOut<u64>, Vec<u64>)| {
                while let Some(end) = ends.next().await {
                    read.push(end.unwrap());
                }
            },
            async |(ends, mut read), round| {
                let rest: Vec<_> = ends.map(Result::unwrap).collect().await;
                if let Outcome::Completed(()) = round {
                    assert!(rest.is_empty());
                }
                read.extend(rest);
                if order == Order::AsFinished {
                    read.sort_unstable_by_key(|millis| [50, 10, 40, 20, 30].map(|m| m == *millis));
                    read.reverse();
                }
                assert_eq!(read, [50, 10, 40, 20, 30]);
            },
        )
        .await;
        assert_eq!(points.unwrap(), 10, "{order:?}");
    }
}

#[test]
fn on_several_threads_every_input_comes_out_once_and_in_its_order() {
    let runtime = two_workers();
    for round in 0..10 {
        let inputs = 0..1_000_u64;
        for order in BOTH {
            let ends = runtime.block_on(async {
                let work = async |input| {
                    for _ in 0..input % 3 {
                        yield_now().await;
                    }
                    input
                };
                let ends = fan_out(limits(7, round), order, stream::iter(inputs.clone()), work);
                let ends = ends.map(Result::unwrap).collect::<Vec<_>>();
                timeout(LIMIT, ends).await.expect("it stands still")
            });
            if order == Order::AsGiven {
                assert!(ends.is_sorted());
            }
            let mut sorted = ends;
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(inputs.clone()));
        }
    }
}

/// Where two threads wait for each other, again and again.
#[derive(Default)]
struct Meeting {
    came: Mutex<usize>,
    changed: Condvar,
}

impl Meeting {
    /// Blocks the thread until another has come. `false` if none does within a second.
    fn another_comes(&self) -> bool {
        let mut came = self.came.lock().unwrap();
        *came += 1;
        let both = came.next_multiple_of(2);
        self.changed.notify_all();
        let alone = |came: &mut usize| *came < both;
        let waited = self
            .changed
            .wait_timeout_while(came, Duration::from_secs(1), alone);
        !waited.unwrap().1.timed_out()
    }
}

#[test]
fn work_that_never_awaits_is_done_on_several_threads_at_once() {
    for order in BOTH {
        let meeting = Arc::new(Meeting::default());
        two_workers().block_on(async {
            let (sender, mut inputs) = mpsc::channel(2);
            let inputs = stream::poll_fn(move |cx| inputs.poll_recv(cx));
            let mut meetings = fan_out(limits(2, 0), order, inputs, move |()| {
                let meeting = Arc::clone(&meeting);
                async move { meeting.another_comes() }
            });
            // A few may: tokio promises no other thread where one is blocked.
            let mut missed = 0;
            for round in 0..200 {
                for _ in 0..2 {
                    sender.send(()).await.unwrap(); // both workers wait, one for the other
                }
                for _ in 0..2 {
                    let met = meetings.next().await.unwrap().unwrap();
                    missed += u32::from(!met);
                }
                assert!(missed < 10, "of {} rounds", round + 1);
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_nobody_waits_behind_does_one_input_after_the_other() {
    let (taken, inputs) = endless();
    let _ends = fan_out(limits(1, 19), Order::AsFinished, inputs, async |_| ());
    let at_the_next_turn = tokio::spawn(async move { taken.load(Ordering::SeqCst) });
    assert_eq!(at_the_next_turn.await.unwrap(), 20);
}

#[tokio::test(start_paused = true)]
async fn workers_that_never_wait_leave_other_tasks_their_turns() {
    let (taken, inputs) = endless();
    let ends = fan_out(
        limits(1, usize::MAX),
        Order::AsFinished,
        inputs,
        async |_| (),
    );
    yield_now().await;
    let at_my_turn = taken.load(Ordering::SeqCst);
    assert!((1..=200).contains(&at_my_turn), "{at_my_turn} taken");
    drop(ends);
}

#[tokio::test(start_paused = true)]
async fn leaving_at_the_first_error_stops_the_rest() {
    async fn sum(ends: FanOut<Result<u64, &'static str>>) -> Result<u64, &'static str> {
        let mut ends = ends;
        let mut sum = 0;
        while let Some(end) = ends.next().await {
            sum += end.map_err(|_| "panicked")??;
        }
        Ok(sum)
    }
    let gauge = Arc::new(Gauge::default());
    let of_work = Arc::clone(&gauge);
    let ends = fan_out(
        limits(2, 0),
        Order::AsFinished,
        stream::iter(1..1_000),
        move |input| {
            let alive = Alive::new(&of_work);
            async move {
                sleep(TAKES).await;
                drop(alive);
                if input == 4 { Err("four") } else { Ok(input) }
            }
        },
    );
    assert_eq!(sum(ends).await, Err("four"));
    yield_now().await;
    let ever = gauge.ever();
    sleep(LIMIT).await;
    assert_eq!((gauge.now(), gauge.ever()), (0, ever));
    assert!(ever <= 6, "{ever} began");
}

// ---------------------------------------------------------------------------------- the hazards

#[tokio::test(start_paused = true)]
async fn harm_buffered_handles_are_detached_by_the_drop_and_start_nothing_for_a_busy_reader() {
    let gauge = Arc::new(Gauge::default());
    let of_tasks = Arc::clone(&gauge);
    let tasks = stream::iter(0..100).map(move |_| {
        let alive = Alive::new(&of_tasks);
        tokio::spawn(async move {
            sleep(TAKES).await;
            drop(alive);
        })
    });
    let mut ends = Box::pin(tasks.buffer_unordered(2));
    ends.next().await.unwrap().unwrap();
    sleep(LIMIT).await; // busy with the first
    assert_eq!(
        (gauge.now(), gauge.ever()),
        (0, 2),
        "the two that had begun, no other"
    );
    assert!(ends.next().now_or_never().is_some());
    assert!(ends.next().now_or_never().is_none());
    drop(ends);
    yield_now().await;
    assert_eq!(gauge.now(), 2, "nobody waits, nobody stops them");
}

#[tokio::test(start_paused = true)]
async fn harm_dropping_it_loses_what_was_taken_and_not_read() {
    let mut inputs = (0..100).collect::<std::collections::VecDeque<_>>();
    let (taken, mut queue) = mpsc::channel(1);
    let feeder = tokio::spawn(async move {
        while let Some(input) = inputs.pop_front() {
            if taken.send(input).await.is_err() {
                inputs.push_front(input);
                break;
            }
        }
        inputs.len()
    });
    let queue = stream::poll_fn(move |cx| queue.poll_recv(cx));
    let mut ends = fan_out(limits(2, 3), Order::AsGiven, queue, after);
    assert_eq!(ends.next().await, Some(Ok(0)));
    sleep(LIMIT).await;
    drop(ends);
    let left = feeder.await.unwrap();
    // One was read, one waited in the queue, one is with the feeder, which has it back.
    assert_eq!(100 - left - 1 - 1, 5, "workers and buffer");
}

#[tokio::test(start_paused = true)]
async fn harm_in_order_one_slow_input_idles_all_other_workers() {
    let gauge = Arc::new(Gauge::default());
    let of_work = Arc::clone(&gauge);
    let (taken, inputs) = endless();
    let mut ends = fan_out(limits(4, 2), Order::AsGiven, inputs, move |input| {
        let alive = Alive::new(&of_work);
        async move {
            sleep(if input == 0 { LIMIT } else { TAKES }).await;
            drop(alive);
        }
    });
    timeout(LIMIT / 2, ends.next())
        .await
        .expect_err("the first is not done");
    assert_eq!(taken.load(Ordering::SeqCst), 6);
    assert_eq!(gauge.now(), 1, "the slow one alone; five are done and wait");
}

#[test]
fn harm_code_that_never_awaits_runs_to_its_end_although_it_was_dropped() {
    let go = Arc::new(AtomicBool::new(false));
    let (busy, mut is_busy) = mpsc::channel(1);
    let (ended, mut has_ended) = mpsc::channel(1);
    let seen_go = Arc::clone(&go);
    two_workers().block_on(async {
        let ends = fan_out(
            limits(1, 0),
            Order::AsGiven,
            stream::iter([()]),
            move |()| {
                let (go, busy, ended) = (Arc::clone(&seen_go), busy.clone(), ended.clone());
                async move {
                    busy.try_send(()).unwrap();
                    while !go.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                    ended.try_send(()).unwrap();
                }
            },
        );
        is_busy.recv().await.unwrap();
        drop(ends);
        go.store(true, Ordering::SeqCst);
        let ended = timeout(LIMIT, has_ended.recv()).await.unwrap();
        assert_eq!(ended, Some(()), "it ran to its end");
    });
}

#[test]
fn polled_by_hand_it_is_pending_and_takes_no_runtime() {
    let runtime = two_workers();
    let mut ends = runtime.block_on(async {
        fan_out(
            limits(1, 0),
            Order::AsGiven,
            stream::pending::<()>(),
            async |()| (),
        )
    });
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut ends).poll_next(&mut cx).is_pending());
}

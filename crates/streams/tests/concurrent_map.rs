//! What the concurrent map promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::num::NonZeroUsize;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt, stream};
use streams::concurrent_map::{Order, Panicked, concurrent_map};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::sync::{Mutex, mpsc};
use tokio::task::coop::consume_budget;
use tokio::task::yield_now;
use tokio::time::{Instant, error::Elapsed, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;

const LIMIT: Duration = Duration::from_secs(60);
const BOTH: [Order; 2] = [Order::Inputs, Order::Ends];

fn at_once(limit: usize) -> NonZeroUsize {
    NonZeroUsize::new(limit).unwrap()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Sleeps for as many milliseconds as it is told, and returns them.
async fn sleeps(millis: u64) -> u64 {
    sleep(ms(millis)).await;
    millis
}

/// Counts what is alive, and the most that ever was.
#[derive(Default)]
struct Gauge {
    now: Cell<usize>,
    peak: Cell<usize>,
}

struct Alive<'a>(&'a Gauge);

impl Gauge {
    fn enter(&self) -> Alive<'_> {
        self.now.set(self.now.get() + 1);
        self.peak.set(self.peak.get().max(self.now.get()));
        Alive(self)
    }
}

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.0.now.set(self.0.now.get() - 1);
    }
}

/// Every result, and how many milliseconds after `started` it was given.
async fn with_instants<T>(
    started: Instant,
    mut results: impl Stream<Item = Result<T, Panicked>> + Unpin,
) -> Vec<(T, u128)> {
    let mut all = Vec::new();
    while let Some(result) = results.next().await {
        all.push((result.unwrap(), started.elapsed().as_millis()));
    }
    all
}

#[tokio::test(start_paused = true)]
async fn results_come_in_the_order_that_was_asked_for() {
    let started = Instant::now();
    let inputs = stream::iter([40, 10, 30, 20]);
    let results = concurrent_map(at_once(4), Order::Inputs, inputs, sleeps);
    let expected = [(40, 40), (10, 40), (30, 40), (20, 40)];
    assert_eq!(with_instants(started, results).await, expected);

    let started = Instant::now();
    let inputs = stream::iter([40, 10, 30, 20]);
    let results = concurrent_map(at_once(4), Order::Ends, inputs, sleeps);
    let expected = [(10, 10), (20, 20), (30, 30), (40, 40)];
    assert_eq!(with_instants(started, results).await, expected);
}

#[tokio::test(start_paused = true)]
async fn as_many_as_the_limit_are_under_way_and_never_more() {
    for order in BOTH {
        let gauge = Gauge::default();
        let started = Instant::now();
        let results = concurrent_map(at_once(3), order, stream::iter(0..9), async |_| {
            let _alive = gauge.enter();
            sleep(ms(100)).await;
        });
        assert_eq!(results.count().await, 9);
        assert_eq!(gauge.peak.get(), 3);
        assert_eq!(started.elapsed(), ms(300), "nine inputs, three at a time");
    }
}

#[tokio::test(start_paused = true)]
async fn an_input_is_taken_only_when_there_is_room_and_unread_results_take_room() {
    for order in BOTH {
        let taken = Cell::new(0);
        let inputs = stream::iter(0..).inspect(|_| taken.set(taken.get() + 1));
        let mut results = concurrent_map(at_once(3), order, inputs, async |input: u64| {
            sleeps(10 + input).await
        });
        assert_eq!(taken.get(), 0, "nothing happens before it is polled");
        assert_eq!(results.next().await, Some(Ok(10)));
        assert_eq!(taken.get(), 3);
        // However long the body takes, what it leaves unread holds the inputs back.
        results.during(sleep(LIMIT)).await;
        assert_eq!(taken.get(), 4, "one has been read");
        assert_eq!(results.next().await, Some(Ok(11)));
        assert_eq!(results.next().await, Some(Ok(12)));
        assert_eq!(results.next().await, Some(Ok(13)));
        assert_eq!(taken.get(), 4);
        results.during(sleep(ms(1))).await;
        assert_eq!(taken.get(), 7);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_input_holds_up_those_behind_it_once_their_results_fill_the_limit() {
    let starts = RefCell::new(Vec::new());
    let started = Instant::now();
    let inputs = stream::iter([500, 100, 100, 100, 100]);
    let work = async |millis| {
        starts.borrow_mut().push(started.elapsed().as_millis());
        sleeps(millis).await
    };
    let results = concurrent_map(at_once(3), Order::Inputs, inputs, work);
    let given = with_instants(started, results).await;
    assert_eq!(*starts.borrow(), [0, 0, 0, 500, 500]);
    assert_eq!(
        given,
        [(500, 500), (100, 500), (100, 500), (100, 600), (100, 600)]
    );

    starts.borrow_mut().clear();
    let started = Instant::now();
    let inputs = stream::iter([500, 100, 100, 100, 100]);
    let work = async |millis| {
        starts.borrow_mut().push(started.elapsed().as_millis());
        sleeps(millis).await
    };
    let results = concurrent_map(at_once(3), Order::Ends, inputs, work);
    let given = with_instants(started, results).await;
    assert_eq!(*starts.borrow(), [0, 0, 0, 100, 100]);
    assert_eq!(given.last(), Some(&(500, 500)));
}

#[tokio::test(start_paused = true)]
async fn harm_work_stands_still_while_the_body_of_the_loop_waits() {
    let ends = RefCell::new(Vec::new());
    let started = Instant::now();
    let work = async |millis| {
        sleep(ms(millis)).await;
        sleep(ms(10)).await;
        ends.borrow_mut().push(started.elapsed().as_millis());
    };
    // The first two start at 0 and need 20 and 50 ms, the third starts after the first and needs 30.
    let inputs = || stream::iter([10, 40, 20]);
    let mut bare = pin!(inputs().map(work).buffer_unordered(2));
    while let Some(()) = bare.next().await {
        sleep(ms(500)).await;
    }
    assert_eq!(*ends.borrow(), [20, 530, 1_040]);
    assert_eq!(started.elapsed(), ms(1_540));

    ends.borrow_mut().clear();
    let started = Instant::now();
    let work = async |millis| {
        sleep(ms(millis)).await;
        sleep(ms(10)).await;
        ends.borrow_mut().push(started.elapsed().as_millis());
    };
    let mut results = concurrent_map(at_once(2), Order::Ends, inputs(), work);
    while let Some(result) = results.next().await {
        result.unwrap();
        results.during(sleep(ms(500))).await;
    }
    assert_eq!(*ends.borrow(), [20, 50, 50]);
    assert_eq!(started.elapsed(), ms(1_520));
}

/// Two steps of 40 ms, with a limit of 100 ms on both, and the moment at which that was known.
async fn limited(started: Instant) -> (Result<(), Elapsed>, u128) {
    let steps = async {
        sleep(ms(40)).await;
        sleep(ms(40)).await;
    };
    let result = timeout(ms(100), steps).await;
    (result, started.elapsed().as_millis())
}

#[tokio::test(start_paused = true)]
async fn harm_a_time_limit_in_the_work_runs_out_although_the_work_was_fast() {
    let started = Instant::now();
    let work = async |first| match first {
        true => (Ok(()), 0),
        false => limited(started).await,
    };
    let mut bare = pin!(stream::iter([true, false]).map(work).buffer_unordered(2));
    assert_eq!(bare.next().await, Some((Ok(()), 0)));
    assert!(bare.next().now_or_never().is_none(), "it has begun");
    sleep(ms(500)).await;
    let (result, known) = bare.next().await.unwrap();
    assert!(result.is_err(), "80 ms of work, 100 ms allowed");
    assert_eq!(known, 500, "and five times too late");

    let started = Instant::now();
    let work = async |first| match first {
        true => (Ok(()), 0),
        false => limited(started).await,
    };
    let inputs = stream::iter([true, false]);
    let mut results = concurrent_map(at_once(2), Order::Inputs, inputs, work);
    assert_eq!(results.next().await, Some(Ok((Ok(()), 0))));
    results.during(sleep(ms(500))).await;
    assert_eq!(results.next().await, Some(Ok((Ok(()), 80))));
}

#[tokio::test(start_paused = true)]
async fn harm_a_body_that_needs_a_lock_which_the_work_holds_waits_for_ever() {
    let lock = Mutex::new(());
    let work = async |holds| {
        if holds {
            let _held = lock.lock().await;
            sleep(ms(50)).await;
        }
    };
    let inputs = || stream::iter([false, true]);
    let mut bare = pin!(inputs().map(work).buffer_unordered(2));
    let bare = async {
        while let Some(()) = bare.next().await {
            assert!(bare.next().now_or_never().is_none(), "the lock is held");
            drop(lock.lock().await);
        }
    };
    timeout(LIMIT, bare).await.unwrap_err();

    let lock = Mutex::new(());
    let work = async |holds| {
        if holds {
            let _held = lock.lock().await;
            sleep(ms(50)).await;
        }
    };
    let started = Instant::now();
    let mut results = concurrent_map(at_once(2), Order::Ends, inputs(), work);
    assert_eq!(results.next().await, Some(Ok(())));
    results.during(yield_now()).await; // the lock is held by now
    assert!(lock.try_lock().is_err());
    results.during(async { drop(lock.lock().await) }).await;
    assert_eq!(started.elapsed(), ms(50));
    assert_eq!(results.count().await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_ended_during_the_body_comes_next_and_in_order() {
    for (order, expected) in [
        (Order::Inputs, [40, 20, 30, 50]),
        (Order::Ends, [20, 30, 40, 50]),
    ] {
        let started = Instant::now();
        let inputs = stream::iter([40, 20, 30, 50]);
        let mut results = concurrent_map(at_once(4), order, inputs, sleeps);
        results.during(sleep(ms(100))).await;
        let all = with_instants(started, results).await;
        assert_eq!(all, expected.map(|millis| (millis, 100)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_ready_at_once_costs_no_turn_and_returns_its_value() {
    let taken = Cell::new(0);
    let inputs = stream::iter([10]).inspect(|_| taken.set(taken.get() + 1));
    let mut results = concurrent_map(at_once(1), Order::Ends, inputs, sleeps);
    assert_eq!(results.during(async { 7 }).now_or_never(), Some(7));
    assert_eq!(taken.get(), 0, "there was no time in which to work");
    assert_eq!(results.during(sleeps(3)).await, 3);
    let failed: Result<(), &str> = results.during(async { Err("disk full") }).await;
    assert_eq!(failed, Err("disk full"));
}

struct Bomb;

impl Future for Bomb {
    type Output = u32;
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u32> {
        Poll::Ready(0)
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panicked_input_is_reported_with_its_index_and_the_others_are_unharmed() {
    for order in BOTH {
        let inputs = stream::iter(0..7);
        let mut results = concurrent_map(at_once(2), order, inputs, |input: u32| {
            assert_ne!(input, 1, "before the future is there");
            async move {
                assert_ne!(input, 2, "at the first poll");
                sleep(ms(10)).await;
                assert_ne!(input, 3, "after an await");
                match input {
                    4 => Bomb.await,
                    5 => std::panic::panic_any(5),
                    input => input,
                }
            }
        });
        let mut ends = Vec::new();
        while let Some(result) = results.next().await {
            ends.push(result);
        }
        let mut good: Vec<_> = ends.iter().filter_map(|end| end.as_ref().ok()).collect();
        good.sort_unstable();
        assert_eq!(good, [&0, &6]);
        let bad = ends.iter().filter_map(|end| end.as_ref().err());
        let mut bad: Vec<_> = bad
            .map(|Panicked { index, message }| (*index, message))
            .collect();
        bad.sort_unstable();
        assert_eq!(bad.len(), 5);
        for ((index, message), (expected, says)) in bad.into_iter().zip([
            (1, "before the future is there"),
            (2, "at the first poll"),
            (3, "after an await"),
            (4, "dropped"),
            (5, "no message"),
        ]) {
            assert!(
                index == expected && message.contains(says),
                "{index} {message}"
            );
        }
    }
}

#[tokio::test]
async fn a_future_whose_own_destructor_panics_is_reported_too() {
    let inputs = stream::iter([()]);
    let mut results = concurrent_map(at_once(1), Order::Ends, inputs, |()| Bomb);
    let error = results.next().await.unwrap().unwrap_err();
    let text = "the work for input 0 panicked: dropped";
    assert_eq!((error.index, error.to_string()), (0, text.to_owned()));
    assert_eq!(results.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn harm_a_panic_in_a_bare_combinator_takes_the_loop_and_the_other_work() {
    let gauge = Gauge::default();
    let work = async |input: u64| {
        let _alive = gauge.enter();
        sleep(ms(10 + input)).await;
        assert_ne!(input, 0, "zero");
    };
    let mut results = 0;
    let bare = async {
        let mut bare = pin!(stream::iter(0..4).map(work).buffer_unordered(4));
        while let Some(()) = bare.next().await {
            results += 1;
        }
    };
    let ended = std::panic::AssertUnwindSafe(bare).catch_unwind().await;
    assert!(ended.is_err());
    assert_eq!((results, gauge.peak.get(), gauge.now.get()), (0, 4, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_panic_left_half_changed_is_there_for_the_others() {
    let account = RefCell::new((100, 0));
    let inputs = stream::iter([true, false]);
    let results = concurrent_map(at_once(1), Order::Ends, inputs, async |panics| {
        account.borrow_mut().0 -= 10;
        assert!(!panics, "half way");
        account.borrow_mut().1 += 10;
        account.borrow().0 + account.borrow().1
    });
    let results: Vec<_> = results.collect().await;
    assert!(results[0].is_err());
    assert_eq!(results[1], Ok(90));
}

#[tokio::test(start_paused = true)]
async fn work_may_borrow_and_need_not_be_send() {
    let names = vec!["ant".to_owned(), "bee".to_owned()];
    let total = Rc::new(Cell::new(0));
    let mut prefix = String::from(">");
    let inputs = stream::iter(&names);
    let results = concurrent_map(at_once(2), Order::Inputs, inputs, |name| {
        prefix.push('>'); // `work` may change what it has captured
        let (total, prefix) = (Rc::clone(&total), prefix.clone());
        async move {
            sleep(ms(1)).await;
            total.set(total.get() + name.len());
            format!("{prefix}{name}")
        }
    });
    let results: Vec<_> = results.map(Result::unwrap).collect().await;
    assert_eq!(results, [">>ant", ">>>bee"]);
    assert_eq!(total.get(), 6);
}

#[tokio::test(start_paused = true)]
async fn leaving_the_loop_at_the_first_error_stops_the_rest() {
    let gauge = Gauge::default();
    let taken = Cell::new(0);
    let work = async |millis| {
        let _alive = gauge.enter();
        sleep(ms(millis)).await;
        if millis == 20 {
            Err("no route")
        } else {
            Ok(millis)
        }
    };
    let started = Instant::now();
    let read_all = async {
        let inputs = stream::iter([10, 20, 30, 40, 50]).inspect(|_| taken.set(taken.get() + 1));
        let mut results = concurrent_map(at_once(2), Order::Ends, inputs, work);
        let mut sum = 0;
        while let Some(result) = results.next().await {
            sum += result.map_err(|_| "panicked")??;
        }
        Ok(sum)
    };
    assert_eq!(read_all.await, Err("no route"));
    assert_eq!(started.elapsed(), ms(20));
    assert_eq!((taken.get(), gauge.now.get()), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_stream_drops_the_work_under_way_and_what_is_unread() {
    for order in BOTH {
        let gauge = Gauge::default();
        let mut results = concurrent_map(at_once(3), order, stream::iter([30, 10, 20]), |millis| {
            let alive = gauge.enter();
            async move {
                sleep(ms(millis)).await;
                alive
            }
        });
        results.during(sleep(ms(15))).await;
        assert_eq!(gauge.now.get(), 3, "two under way, one unread");
        drop(results);
        assert_eq!(gauge.now.get(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_never_waits_leaves_the_thread_to_other_tasks() {
    let turns = Rc::new(Cell::new(0_u32));
    let local = tokio::task::LocalSet::new();
    let counter = Rc::clone(&turns);
    local.spawn_local(async move {
        loop {
            counter.set(counter.get() + 1);
            yield_now().await;
        }
    });
    local
        .run_until(async {
            let inputs = stream::iter(0..1_000);
            let results = concurrent_map(at_once(10), Order::Ends, inputs, std::future::ready);
            assert_eq!(results.count().await, 1_000);
            let with_next = turns.get();
            assert!(with_next > 3, "{with_next} turns, for 1,000 results");
            let inputs = stream::iter(0..);
            let mut results =
                concurrent_map(NonZeroUsize::MAX, Order::Ends, inputs, std::future::ready);
            results.during(yield_now()).await;
            assert!(
                turns.get() > with_next,
                "the body would never come to its end"
            );
        })
        .await;
}

#[tokio::test]
async fn neither_body_nor_work_keeps_the_other_from_the_budget_of_a_turn() {
    // Each is never done with its turn before the turn's budget is.
    async fn busy_until(done: &Cell<bool>) -> bool {
        for _ in 0..100_000 {
            if done.get() {
                return true;
            }
            consume_budget().await;
        }
        false
    }
    async fn ten_units(done: &Cell<bool>) -> bool {
        for _ in 0..10 {
            consume_budget().await;
        }
        done.set(true);
        true
    }
    let done = Cell::new(false);
    let inputs = || stream::iter([()]);
    let mut results = concurrent_map(at_once(1), Order::Ends, inputs(), |()| ten_units(&done));
    assert!(
        results.during(busy_until(&done)).await,
        "the work is starved"
    );

    done.set(false);
    let mut results = concurrent_map(at_once(1), Order::Ends, inputs(), |()| busy_until(&done));
    assert!(results.during(ten_units(&done)).await);
    assert_eq!(results.next().await, Some(Ok(true)), "the body is starved");
}

#[tokio::test(start_paused = true)]
async fn inputs_that_come_late_start_at_once_and_the_end_is_repeated() {
    for order in BOTH {
        let (sender, inputs) = mpsc::channel(1);
        let producer = tokio::spawn(async move {
            for _ in 0..3 {
                sleep(ms(100)).await;
                sender.send(30).await.unwrap();
            }
        });
        let started = Instant::now();
        let mut results = concurrent_map(at_once(2), order, ReceiverStream::new(inputs), sleeps);
        let all = with_instants(started, &mut results).await;
        assert_eq!(all, [(30, 130), (30, 230), (30, 330)]);
        assert_eq!(results.next().await, None);
        producer.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn inputs_arrive_and_start_during_the_body() {
    let (sender, inputs) = mpsc::channel(1);
    let inputs = ReceiverStream::new(inputs);
    let mut results = concurrent_map(at_once(2), Order::Inputs, inputs, sleeps);
    let started = Instant::now();
    let body = async {
        sleep(ms(100)).await;
        sender.send(30).await.unwrap();
        sleep(ms(100)).await;
    };
    results.during(body).await;
    assert_eq!(results.next().now_or_never(), Some(Some(Ok(30))));
    assert_eq!(started.elapsed(), ms(200));
}

#[tokio::test(start_paused = true)]
async fn harm_a_bare_combinator_with_a_limit_of_zero_waits_for_ever() {
    let mut bare = pin!(stream::iter([1]).map(sleeps).buffer_unordered(0));
    timeout(LIMIT, bare.next()).await.unwrap_err();
    let mut bare = pin!(stream::iter([1]).map(sleeps).buffered(0));
    timeout(LIMIT, bare.next()).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn dropped_at_any_await_point_of_the_loop_no_result_is_lost() {
    for order in BOTH {
        let points = every_await_point(
            LIMIT,
            async || {
                let inputs = stream::iter([40, 10, 30, 20]);
                let results = concurrent_map(at_once(2), order, inputs, sleeps);
                (results, Vec::new())
            },
            async |(results, read)| {
                while let Some(result) = results.next().await {
                    read.push(result.unwrap());
                    results.during(sleep(ms(15))).await;
                }
            },
            async |(results, mut read), outcome| {
                let rest: Vec<_> = results.map(Result::unwrap).collect().await;
                if let Outcome::Completed(()) = outcome {
                    assert_eq!(rest, []);
                }
                read.extend(rest);
                if order == Order::Inputs {
                    assert_eq!(read, [40, 10, 30, 20]);
                }
                read.sort_unstable();
                assert_eq!(read, [10, 20, 30, 40], "a result is lost or comes twice");
            },
        )
        .await;
        assert!(
            points.as_ref().is_ok_and(|points| *points >= 8),
            "{points:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_enormous_limit_is_no_panic_and_debug_shows_the_state() {
    let inputs = stream::iter([0, 1, 10]);
    let mut results = concurrent_map(NonZeroUsize::MAX, Order::Ends, inputs, sleeps);
    assert_eq!(results.next().await, Some(Ok(0)));
    results.during(sleep(ms(5))).await;
    let text = format!("{results:?}");
    assert!(text.contains("running: 1, unread: 1"), "{text}");
    assert_eq!(results.count().await, 2);
    timeout(LIMIT, pending::<()>()).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads_each_input_has_one_result_in_its_place() {
    for limit in [1, 3, 64] {
        let (sender, inputs) = mpsc::channel(4);
        tokio::spawn(async move {
            for input in 0..500_u32 {
                sender.send(input).await.unwrap();
            }
        });
        let lock = Arc::new(Mutex::new(0));
        let inputs = ReceiverStream::new(inputs);
        let mut results = concurrent_map(at_once(limit), Order::Inputs, inputs, |input| {
            let lock = Arc::clone(&lock);
            // A task of its own, so that wake-ups come from another thread.
            let task = tokio::spawn(async move {
                *lock.lock().await += 1;
                input
            });
            task.map(Result::unwrap)
        });
        let mut read = Vec::new();
        while let Some(result) = results.next().await {
            read.push(result.unwrap());
            results.during(async { drop(lock.lock().await) }).await;
        }
        assert_eq!(read, Vec::from_iter(0..500));
    }
}

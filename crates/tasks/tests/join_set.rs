//! What the keyed set promises.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use tasks::join_set::{Ended, Full, TaskError, TaskSet};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::JoinMap;

const LIMIT: Duration = Duration::from_secs(60);
const TAKES: Duration = Duration::from_millis(100);

fn set<K, T: 'static>(limit: usize) -> TaskSet<K, T> {
    TaskSet::new(NonZeroUsize::MIN.saturating_add(limit - 1))
}

async fn after(millis: u64) -> u64 {
    sleep(Duration::from_millis(millis)).await;
    millis
}

/// Reads to the end; the keys in the order in which they came.
async fn keys<T: 'static>(tasks: &mut TaskSet<&'static str, T>) -> Vec<&'static str> {
    let mut keys = Vec::new();
    while let Some(ended) = tasks.next().await {
        keys.push(ended.key);
    }
    keys
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

#[tokio::test(start_paused = true)]
async fn ends_come_as_they_happen_each_with_its_key() {
    let mut tasks = set(3);
    for (key, millis) in [("slow", 300), ("fast", 100), ("middling", 200)] {
        tasks.spawn(key, after(millis)).unwrap();
    }
    let started = Instant::now();
    for (key, millis) in [("fast", 100), ("middling", 200), ("slow", 300)] {
        let result = Ok(millis);
        assert_eq!(tasks.next().await, Some(Ended { key, result }));
        assert_eq!(started.elapsed(), Duration::from_millis(millis));
    }
    assert_eq!(tasks.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn ends_that_are_read_late_keep_their_order() {
    let mut tasks = set(4);
    for (key, millis) in [("c", 30), ("a", 10), ("d", 40), ("b", 20)] {
        tasks.spawn(key, after(millis)).unwrap();
    }
    sleep(TAKES).await;
    assert_eq!(keys(&mut tasks).await, ["a", "b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn more_ends_than_a_turn_can_read_keep_their_order() {
    let mut tasks = set(1_000);
    for key in 0..1_000 {
        tasks.spawn(key, async {}).unwrap(); // on one thread they end in this order
    }
    sleep(TAKES).await;
    let mut order = Vec::new();
    while let Some(ended) = tasks.next().await {
        order.push(ended.key);
    }
    // Tokio's budget is 128, and whoever comes to its end goes to the back of the line.
    assert!(order.into_iter().eq(0..1_000), "out of order");
}

#[tokio::test(start_paused = true)]
async fn a_panic_comes_with_its_key_and_its_message_and_harms_no_other() {
    let mut tasks = set(3);
    for key in ["one", "two", "three"] {
        let work = async move {
            sleep(TAKES).await;
            assert_ne!(key, "two", "no two");
            key
        };
        tasks.spawn(key, work).unwrap();
    }
    let mut ends = Vec::new();
    while let Some(Ended { key, result }) = tasks.next().await {
        match result {
            Ok(value) => assert_eq!(key, value),
            Err(TaskError::Panicked { message }) => {
                assert!(
                    key == "two" && message.contains("no two"),
                    "{key}: {message}"
                );
            }
            Err(TaskError::Cancelled) => panic!("{key} was cancelled"),
        }
        ends.push(key);
    }
    assert_eq!(ends, ["one", "two", "three"]);
}

#[tokio::test(start_paused = true)]
async fn a_full_set_hands_key_and_work_back_until_an_end_is_read() {
    let mut tasks = set(2);
    tasks.spawn("a", after(10)).unwrap();
    tasks.spawn("b", after(20)).unwrap();
    assert!(tasks.is_full());
    let full = tasks.spawn("c", after(30)).unwrap_err();
    assert_eq!(format!("{full:?}"), "Full { .. }");
    let Full { key, work } = full;
    sleep(TAKES).await;
    let Full { key, work } = tasks.spawn(key, work).expect_err("ended, but not read");
    tasks.next().await.unwrap();
    tasks.spawn(key, work).unwrap();
    assert_eq!(keys(&mut tasks).await, ["b", "c"]);
}

#[tokio::test]
async fn a_hundred_thousand_tasks_never_hold_more_results_than_the_limit() {
    let gauge = Arc::new(Gauge::default());
    let mut tasks = set(100);
    let mut left = 0..100_000;
    let mut read = 0;
    loop {
        while !tasks.is_full()
            && let Some(key) = left.next()
        {
            let gauge = Arc::clone(&gauge);
            tasks.spawn(key, async move { Alive::new(&gauge) }).unwrap();
            tokio::task::yield_now().await; // the task ends here, and its result waits
        }
        let Some(ended) = tasks.next().await else {
            break;
        };
        ended.result.unwrap();
        read += 1;
    }
    assert_eq!(read, 100_000);
    assert_eq!(gauge.peak.load(Ordering::SeqCst), 100);
}

#[tokio::test]
async fn a_join_set_that_is_read_at_the_end_holds_every_result() {
    let gauge = Arc::new(Gauge::default());
    let running = Arc::new(tokio::sync::Semaphore::new(100));
    let mut tasks = JoinSet::new();
    for _ in 0..100_000 {
        let one_of_a_hundred = Arc::clone(&running).acquire_owned().await.unwrap();
        let gauge = Arc::clone(&gauge);
        tasks.spawn(async move {
            drop(one_of_a_hundred);
            Alive::new(&gauge)
        });
    }
    while tasks.join_next().await.is_some() {}
    let peak = gauge.peak.load(Ordering::SeqCst);
    assert!(
        peak > 99_000,
        "a hundred run at once, {peak} results are held"
    );
}

#[tokio::test(start_paused = true)]
async fn dropping_the_set_stops_its_tasks() {
    let gauge = Arc::new(Gauge::default());
    let mut tasks = set(3);
    for key in 0..3 {
        let alive = Alive::new(&gauge);
        let work = async move {
            sleep(LIMIT).await;
            drop(alive);
        };
        tasks.spawn(key, work).unwrap();
    }
    sleep(TAKES).await;
    assert_eq!(gauge.now.load(Ordering::SeqCst), 3);
    drop(tasks);
    sleep(TAKES).await;
    assert_eq!(gauge.now.load(Ordering::SeqCst), 0);
}

#[test]
fn dropping_the_set_stops_no_blocking_task_that_has_begun_and_starts_none_that_has_not() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let (begun, has_begun) = sync_channel(2);
    let (go_on, may_go_on) = sync_channel::<()>(2);
    let (ended, has_ended) = sync_channel(2);
    let (begun_too, has_begun_too) = sync_channel(1);
    let mut tasks = set(2);
    runtime.block_on(async {
        let first = move || {
            begun.send(()).unwrap();
            may_go_on.recv_timeout(LIMIT).unwrap();
            ended.send("the first").unwrap();
        };
        tasks.spawn_blocking("first", first).unwrap();
        has_begun.recv_timeout(LIMIT).unwrap();
        let second = move || begun_too.send(()).unwrap();
        tasks.spawn_blocking("second", second).unwrap();
        drop(tasks);
    });
    go_on.send(()).unwrap();
    assert_eq!(has_ended.recv_timeout(LIMIT), Ok("the first"));
    // The only thread is free now, finds the second cancelled, and drops it.
    assert_eq!(
        has_begun_too.recv_timeout(LIMIT),
        Err(RecvTimeoutError::Disconnected)
    );
}

#[tokio::test(start_paused = true)]
async fn an_aborted_task_is_told_as_cancelled_and_one_that_had_ended_keeps_its_result() {
    let mut tasks = set(3);
    tasks.spawn("job", after(10)).unwrap();
    tasks.spawn("job", after(500)).unwrap();
    tasks.spawn("other", after(200)).unwrap();
    sleep(TAKES).await;
    assert_eq!(
        tasks.abort(|key| *key == "job"),
        2,
        "the ended one is still unread"
    );
    let mut ends = Vec::new();
    while let Some(Ended { key, result }) = tasks.next().await {
        ends.push((key, result));
    }
    let cancelled = Err(TaskError::Cancelled);
    assert_eq!(
        ends,
        [("job", Ok(10)), ("job", cancelled), ("other", Ok(200))]
    );
    assert_eq!(tasks.abort(|_| true), 0, "their keys are gone too");
}

#[tokio::test(start_paused = true)]
async fn two_tasks_under_one_key_both_come_back() {
    let mut tasks = set(2);
    tasks.spawn("same", after(10)).unwrap();
    tasks.spawn("same", after(20)).unwrap();
    assert_eq!(keys(&mut tasks).await, ["same", "same"]);
}

#[tokio::test(start_paused = true)]
async fn a_join_map_aborts_the_first_of_two_under_one_key_and_never_tells_its_end() {
    let gauge = Arc::new(Gauge::default());
    let mut tasks = JoinMap::new();
    for millis in [10, 20] {
        let alive = Alive::new(&gauge);
        let work = async move {
            let value = after(millis).await;
            drop(alive);
            value
        };
        tasks.spawn("same", work);
    }
    let (_, result) = tasks.join_next().await.unwrap();
    assert_eq!(result.unwrap(), 20);
    assert!(
        tasks.join_next().await.is_none(),
        "two spawned, one heard of"
    );
    assert_eq!(gauge.peak.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn the_next_of_an_empty_set_is_none_at_once_and_makes_a_careless_loop_spin() {
    let mut tasks = set::<&str, u64>(1);
    let mut turns = 0;
    let ask_again = async {
        loop {
            tokio::select! {
                biased;
                () = sleep(TAKES) => break,
                _ended = tasks.next() => turns += 1,
            }
            if turns == 10_000 {
                break;
            }
        }
    };
    let started = Instant::now();
    ask_again.await;
    assert_eq!((turns, started.elapsed()), (10_000, Duration::ZERO));

    tasks.spawn("later", after(10)).unwrap();
    assert_eq!(keys(&mut tasks).await, ["later"], "the set is still good");
}

#[tokio::test(start_paused = true)]
async fn an_enormous_limit_is_no_panic() {
    let mut tasks = TaskSet::new(NonZeroUsize::MAX);
    tasks.spawn("a", after(1)).unwrap();
    assert!(!tasks.is_empty() && !tasks.is_full());
    assert_eq!(keys(&mut tasks).await, ["a"]);
    assert!(tasks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn full_is_an_error_that_can_be_passed_on() {
    let mut tasks = set(1);
    tasks.spawn((), after(1)).unwrap();
    let error: Box<dyn std::error::Error> = tasks.spawn((), after(2)).unwrap_err().into();
    assert_eq!(error.to_string(), "the set is full: read an end first");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_next_has_taken_no_end() {
    let points = every_await_point(
        LIMIT,
        async || {
            let mut tasks = set(3);
            for (key, millis) in [("a", 10), ("b", 10), ("c", 20)] {
                tasks.spawn(key, after(millis)).unwrap();
            }
            (tasks, Vec::new())
        },
        async |(tasks, read)| {
            while let Some(ended) = tasks.next().await {
                read.push(ended.key);
            }
        },
        async |(mut tasks, mut read), round| {
            if round == Outcome::Completed(()) {
                assert_eq!(read.len(), 3);
            }
            read.extend(keys(&mut tasks).await);
            read.sort_unstable();
            assert_eq!(read, ["a", "b", "c"], "an end is lost, or told twice");
        },
    );
    let points = timeout(10 * LIMIT, points).await.unwrap().unwrap();
    assert!(points >= 3, "{points}");
}

//! What a scripted fake promises, behind a generic trait and behind `dyn`.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use testing::every_await_point::{Outcome, every_await_point};
use testing::mock_by_trait::{Method, Script, ScriptError, WallClock};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

// --------------------------------------------------- a trait, its fake, and code that uses it

#[derive(Debug, Clone, PartialEq, Eq)]
struct Unavailable;

trait Store: Send + Sync + 'static {
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<u32>, Unavailable>> + Send;
    fn put(&self, key: &str, value: u32) -> impl Future<Output = ()> + Send;
}

struct FakeStore {
    get: Method<String, Result<Option<u32>, Unavailable>>,
    put: Method<(String, u32), ()>,
}

impl FakeStore {
    fn new(script: &Script) -> Self {
        Self {
            get: script.method("get"),
            put: script.method("put"),
        }
    }
}

impl Store for FakeStore {
    async fn get(&self, key: &str) -> Result<Option<u32>, Unavailable> {
        self.get.call(key.to_owned()).await
    }

    async fn put(&self, key: &str, value: u32) {
        self.put.call((key.to_owned(), value)).await;
    }
}

/// Tries again after 100 ms, once.
async fn count_up(store: &impl Store, key: &str) -> Result<u32, Unavailable> {
    let value = match store.get(key).await {
        Ok(value) => value,
        Err(Unavailable) => {
            sleep(ms(100)).await;
            store.get(key).await?
        }
    };
    let value = value.unwrap_or(0) + 1;
    store.put(key, value).await;
    Ok(value)
}

/// The same trait in a form that can be `dyn`.
trait DynStore: Send + Sync {
    fn get<'a>(&'a self, key: &'a str) -> Pin<Box<dyn Future<Output = Option<u32>> + Send + 'a>>;
}

impl DynStore for Method<String, Option<u32>> {
    fn get<'a>(&'a self, key: &'a str) -> Pin<Box<dyn Future<Output = Option<u32>> + Send + 'a>> {
        Box::pin(self.call(key.to_owned()))
    }
}

fn key(name: &str) -> String {
    name.to_owned()
}

fn text(panic: &(dyn Any + Send)) -> String {
    panic.downcast_ref::<String>().unwrap().clone()
}

/// What the call panics with.
async fn panic_of<T>(call: impl Future<Output = T>) -> String {
    let Err(panic) = AssertUnwindSafe(call).catch_unwind().await else {
        panic!("the call was answered");
    };
    text(panic.as_ref())
}

fn unexpected(call: &str, expected: &[&str]) -> Result<(), ScriptError> {
    Err(ScriptError::Unexpected {
        call: call.to_owned(),
        expected: expected.iter().map(|&call| call.to_owned()).collect(),
    })
}

fn missing(calls: &[&str]) -> Result<(), ScriptError> {
    let calls = calls.iter().map(|&call| call.to_owned());
    Err(ScriptError::Missing(calls.collect()))
}

// ------------------------------------------------------------------------------ what it gives

#[tokio::test(start_paused = true)]
async fn calls_are_answered_from_the_script_and_noted_with_their_instants() {
    let script = Script::in_order();
    let store = FakeStore::new(&script);
    store.get.expect_late(key("a"), ms(30), Err(Unavailable));
    store.get.expect(key("a"), Ok(Some(6)));
    store.put.expect_late((key("a"), 7), ms(20), ());
    let started = Instant::now();
    assert_eq!(count_up(&store, "a").await, Ok(7));
    assert_eq!(started.elapsed(), ms(150));
    let expected = [
        (0, "get(\"a\")"),
        (130, "get(\"a\")"),
        (130, "put(\"a\", 7)"),
    ];
    let expected = expected.map(|(at, call)| (ms(at), call.to_owned()));
    assert_eq!(script.calls(), expected);
    script.finish().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_fake_is_used_from_a_spawned_task_and_as_dyn() {
    let script = Script::in_order();
    let store = Arc::new(FakeStore::new(&script));
    store.get.expect(key("a"), Ok(None));
    store.put.expect((key("a"), 1), ());
    let used = Arc::clone(&store);
    let task = tokio::spawn(async move { count_up(&*used, "a").await });
    assert_eq!(task.await.unwrap(), Ok(1));

    let get = script.method("get");
    get.expect_late(key("b"), ms(10), Some(2));
    let store: Arc<dyn DynStore> = Arc::new(get);
    let task = tokio::spawn(async move { store.get("b").await });
    assert_eq!(task.await.unwrap(), Some(2));
    script.finish().unwrap();
}

#[tokio::test(start_paused = true)]
async fn delays_run_at_the_same_time_for_calls_at_the_same_time() {
    let script = Script::in_any_order();
    let store = FakeStore::new(&script);
    store.get.expect_late(key("a"), ms(50), Ok(Some(1)));
    store.get.expect_late(key("b"), ms(30), Ok(Some(2)));
    let started = Instant::now();
    let (b, a) = tokio::join!(store.get("b"), store.get("a"));
    assert_eq!((b, a), (Ok(Some(2)), Ok(Some(1))));
    assert_eq!(started.elapsed(), ms(50));
    script.finish().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_the_longest_delay_never_comes() {
    let script = Script::in_order();
    let store = FakeStore::new(&script);
    store.get.expect_late(key("a"), Duration::MAX, Ok(None));
    let mut call = pin!(store.get("a"));
    // One by one, since tokio's timers wait for 30 years at the most.
    for _ in 0..40 {
        timeout(365 * 24 * 60 * LIMIT, &mut call).await.unwrap_err();
    }
    script.finish().expect("the call has come");
}

// ----------------------------------------------------------------------------- what it refuses

#[tokio::test(start_paused = true)]
async fn the_order_is_kept_over_all_methods() {
    let script = Script::in_order();
    let store = FakeStore::new(&script);
    store.put.expect((key("a"), 1), ());
    store.get.expect(key("a"), Ok(Some(1)));
    let message = panic_of(store.get("a")).await;
    assert_eq!(
        message,
        "unexpected call: get(\"a\"); expected: put(\"a\", 1)"
    );
    store.put("a", 1).await;
    assert_eq!(store.get("a").await, Ok(Some(1)), "the script goes on");
    assert_eq!(
        script.finish(),
        unexpected("get(\"a\")", &["put(\"a\", 1)"])
    );
}

#[tokio::test(start_paused = true)]
async fn the_order_is_kept_among_the_calls_of_one_method() {
    let script = Script::in_order();
    let store = FakeStore::new(&script);
    store.get.expect(key("a"), Ok(Some(1)));
    store.get.expect(key("b"), Ok(Some(2)));
    panic_of(store.get("b")).await;
    assert_eq!(script.finish(), unexpected("get(\"b\")", &["get(\"a\")"]));
}

#[tokio::test(start_paused = true)]
async fn in_any_order_each_call_is_answered_once_and_equal_ones_as_written() {
    let script = Script::in_any_order();
    let store = FakeStore::new(&script);
    store.put.expect((key("a"), 1), ());
    store.get.expect(key("b"), Ok(Some(2)));
    store.get.expect(key("a"), Ok(Some(1)));
    store.get.expect(key("a"), Ok(Some(3)));
    assert_eq!(store.get("b").await, Ok(Some(2)));
    assert_eq!(store.get("a").await, Ok(Some(1)));
    assert_eq!(store.get("a").await, Ok(Some(3)));
    let message = panic_of(store.get("a")).await;
    assert!(message.ends_with("expected: put(\"a\", 1)"), "{message}");
    store.put("a", 1).await;
    let message = panic_of(store.put("a", 1)).await;
    assert!(message.ends_with("expected: no call"), "{message}");
    script.finish().unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn wrong_arguments_are_unexpected_and_all_that_could_come_is_listed() {
    let script = Script::in_any_order();
    let store = FakeStore::new(&script);
    store.get.expect(key("a"), Ok(None));
    store.put.expect((key("a"), 1), ());
    panic_of(store.put("a", 2)).await;
    let expected = unexpected("put(\"a\", 2)", &["get(\"a\")", "put(\"a\", 1)"]);
    let shown = "unexpected call: put(\"a\", 2); expected: get(\"a\"), put(\"a\", 1)";
    assert_eq!(expected.clone().unwrap_err().to_string(), shown);
    assert_eq!(script.finish(), expected);
}

#[tokio::test(start_paused = true)]
async fn of_several_unexpected_calls_the_first_is_told_and_it_goes_before_missing_ones() {
    let script = Script::in_order();
    let store = FakeStore::new(&script);
    store.get.expect(key("a"), Ok(None));
    panic_of(store.get("x")).await;
    panic_of(store.get("y")).await;
    assert_eq!(script.calls().len(), 2, "they are noted too");
    assert_eq!(script.finish(), unexpected("get(\"x\")", &["get(\"a\")"]));
}

#[tokio::test(start_paused = true)]
async fn calls_that_never_came_are_missing() {
    let script = Script::in_order();
    let store = FakeStore::new(&script);
    store.get.expect(key("a"), Ok(None));
    store.put.expect((key("a"), 1), ());
    store.get.expect(key("b"), Ok(None));
    store.get("a").await.unwrap();
    let error = script.finish().unwrap_err();
    assert_eq!(
        error.to_string(),
        "calls that never came: put(\"a\", 1), get(\"b\")"
    );
    panic_of(store.put("a", 1)).await; // the script is over
}

#[tokio::test(start_paused = true)]
async fn a_call_that_comes_after_the_end_is_unexpected_in_any_order_too() {
    for script in [Script::in_order(), Script::in_any_order()] {
        let store = FakeStore::new(&script);
        store.get.expect(key("a"), Ok(None));
        assert_eq!(script.finish(), missing(&["get(\"a\")"]));
        let message = panic_of(store.get("a")).await;
        assert_eq!(message, "unexpected call: get(\"a\"); expected: no call");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drop_panics_with_what_finish_would_have_said() {
    let script = Script::in_order();
    let store = FakeStore::new(&script);
    store.get.expect(key("a"), Ok(None));
    let panic = catch_unwind(AssertUnwindSafe(|| drop(script))).unwrap_err();
    assert_eq!(text(panic.as_ref()), "calls that never came: get(\"a\")");

    let script = Script::in_order();
    let store = FakeStore::new(&script);
    store.get.expect(key("a"), Ok(None));
    store.get("a").await.unwrap();
    drop(script); // nothing to say
}

#[tokio::test(start_paused = true)]
async fn a_test_that_fails_otherwise_keeps_its_own_panic() {
    let panic = catch_unwind(|| {
        let script = Script::in_order();
        let store = FakeStore::new(&script);
        store.get.expect(key("a"), Ok(None));
        assert_eq!(1 + 1, 3, "the test's own");
    })
    .expect_err("two panics at once would have aborted the process");
    assert!(text(panic.as_ref()).contains("the test's own"));
}

// ---------------------------------------------------------------------------------- watch out

#[tokio::test(start_paused = true)]
async fn a_panic_that_its_task_swallowed_is_remembered() {
    let script = Script::in_order();
    let store = FakeStore::new(&script);
    drop(tokio::spawn(async move { store.get("a").await }));
    yield_now().await; // the task is over, and nobody has heard of it
    let panic = catch_unwind(AssertUnwindSafe(|| drop(script))).unwrap_err();
    let shown = "unexpected call: get(\"a\"); expected: no call";
    assert_eq!(text(panic.as_ref()), shown);
}

#[tokio::test(start_paused = true)]
async fn harm_a_script_that_is_dropped_in_a_task_fails_no_test() {
    let script = Script::in_order();
    let store = FakeStore::new(&script);
    store.get.expect(key("a"), Ok(None));
    let task = tokio::spawn(async move { drop(script) });
    while !task.is_finished() {
        yield_now().await;
    }
    drop(task); // with the panic in it
}

#[tokio::test(start_paused = true)]
async fn harm_a_test_that_ends_before_its_tasks_finds_calls_missing() {
    let script = Script::in_order();
    let store = FakeStore::new(&script);
    store.get.expect(key("a"), Ok(None));
    let task = tokio::spawn(async move { store.get("a").await });
    assert_eq!(script.finish(), missing(&["get(\"a\")"]));
    task.await.unwrap_err();
}

#[tokio::test]
async fn harm_without_a_paused_clock_the_delays_are_real() {
    let script = Script::in_order();
    let store = FakeStore::new(&script);
    store.get.expect_late(key("a"), ms(20), Ok(None));
    let started = Instant::now();
    store.get("a").await.unwrap();
    assert!(started.elapsed() >= ms(20));
    script.finish().unwrap();
}

/// Loads what is missing. Whoever asks in between loads it once more: the fault to be found.
async fn cached(cache: &Mutex<Option<u32>>, load: impl AsyncFn() -> u32) -> u32 {
    let known = *cache.lock().unwrap();
    if let Some(value) = known {
        return value;
    }
    let value = load().await;
    *cache.lock().unwrap().insert(value)
}

#[tokio::test(start_paused = true)]
async fn harm_a_fake_that_answers_at_once_hides_a_race_and_a_scripted_one_shows_it() {
    let loads = Mutex::new(0);
    let cache = Mutex::new(None);
    let at_once = async || {
        *loads.lock().unwrap() += 1;
        7
    };
    tokio::join!(cached(&cache, at_once), cached(&cache, at_once));
    assert_eq!(loads.into_inner().unwrap(), 1, "all is well, it seems");

    let script = Script::in_order();
    let load = script.method::<(), u32>("load");
    load.expect((), 7);
    let cache = Mutex::new(None);
    let scripted = async || load.call(()).await;
    let both = async { tokio::join!(cached(&cache, scripted), cached(&cache, scripted)) };
    assert_eq!(
        panic_of(both).await,
        "unexpected call: load(); expected: no call"
    );
    script.finish().unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_call_suspends_once_and_takes_no_time_without_a_delay() {
    let script = Script::in_order();
    let load = script.method::<(), u32>("load");
    load.expect((), 7);
    let started = Instant::now();
    let mut call = tokio_test::task::spawn(load.call(()));
    tokio_test::assert_pending!(call.poll());
    assert_eq!(tokio_test::assert_ready!(call.poll()), 7);
    assert_eq!(started.elapsed(), Duration::ZERO);
    script.finish().unwrap();
}

// ------------------------------------------------------------------------------- cancel safety

#[tokio::test(start_paused = true)]
async fn a_dropped_call_has_come_and_its_answer_is_lost() {
    let points = every_await_point(
        LIMIT,
        async || {
            let script = Script::in_order();
            let load = script.method::<(), u32>("load");
            load.expect_late((), ms(10), 1);
            load.expect((), 2);
            (script, load)
        },
        async |(_, load)| load.call(()).await,
        async |(script, load), outcome| {
            if let Outcome::Completed(answer) = outcome {
                assert_eq!(answer, 1);
            }
            assert_eq!(script.calls().len(), 1);
            assert_eq!(load.call(()).await, 2);
            script.finish().unwrap();
        },
    )
    .await;
    assert_eq!(points.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_polled_has_not_come() {
    let script = Script::in_order();
    let load = script.method::<(), u32>("load");
    load.expect((), 1);
    drop(load.call(()));
    assert_eq!(script.calls(), []);
    assert_eq!(script.finish(), missing(&["load()"]));
}

// ----------------------------------------------------------------------------- the time of day

#[tokio::test(start_paused = true)]
async fn the_wall_clock_follows_the_paused_one() {
    let midnight = SystemTime::UNIX_EPOCH + 20_000 * 24 * 60 * LIMIT;
    let clock = WallClock::starting_at(midnight);
    assert_eq!(clock.now(), midnight);
    sleep(60 * LIMIT).await;
    assert_eq!(clock.now(), midnight + 60 * LIMIT);
    let another = clock;
    sleep(ms(1)).await;
    assert_eq!(another.now(), midnight + 60 * LIMIT + ms(1));
}

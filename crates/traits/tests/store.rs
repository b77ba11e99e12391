//! One suite for every store, and what a real Redis does when it is gone, hangs or refuses.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::LazyLock;
use std::time::Duration;

use servers::Redis;
use testing::every_await_point::{Outcome, every_await_point};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use traits::store::{MemoryStore, RedisStore, Store, StoreError};

const LIMIT: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(200);

/// One for all tests of this file, but for those that stop it.
static SERVER: LazyLock<Redis> =
    LazyLock::new(|| Redis::shared().unwrap_or_else(|error| panic!("{error}")));

/// A store of its own in the server of all.
fn redis(test: &str) -> RedisStore {
    let prefix = format!("{test}-{}:", std::process::id());
    RedisStore::connect(SERVER.url(), &prefix, LIMIT).unwrap()
}

/// What every store promises. To try another, call this with it.
async fn conformance(store: impl Store) {
    // An absent key is no error.
    assert_eq!(store.get("a").await.unwrap(), None);
    assert!(!store.remove("a").await.unwrap());
    // A value is what was set last, an empty one and any bytes included.
    for value in [&b"one"[..], b"", b"\0\r\n\xff", &[7; 100_000]] {
        store.set("a", value).await.unwrap();
        assert_eq!(store.get("a").await.unwrap().as_deref(), Some(value));
    }
    // Keys are apart, whatever is in them.
    let keys = ["", "a b", "ä", "a\r\nDEL a\r\n", "*", "a:b"];
    for key in keys {
        assert_eq!(store.get(key).await.unwrap(), None, "{key:?}");
        store.set(key, key.as_bytes()).await.unwrap();
    }
    for key in keys {
        assert_eq!(
            store.get(key).await.unwrap().as_deref(),
            Some(key.as_bytes())
        );
        assert!(store.remove(key).await.unwrap());
        assert!(!store.remove(key).await.unwrap());
        assert_eq!(store.get(key).await.unwrap(), None);
    }
    // A clone is the same store.
    store.clone().set("a", b"by a clone").await.unwrap();
    assert_eq!(
        store.get("a").await.unwrap().as_deref(),
        Some(&b"by a clone"[..])
    );
    // Generic callers can spawn, and many tasks at once do not mix up their answers.
    let mut tasks = JoinSet::new();
    for number in 0..200 {
        let store = store.clone();
        tasks.spawn(async move {
            let (key, value) = (format!("n{number}"), format!("v{number}"));
            store.set(&key, value.as_bytes()).await.unwrap();
            let seen = store.get(&key).await.unwrap().unwrap();
            store.remove(&key).await.unwrap();
            String::from_utf8(seen).unwrap()
        });
    }
    let seen: BTreeSet<_> = tasks.join_all().await.into_iter().collect();
    assert_eq!(seen, (0..200).map(|number| format!("v{number}")).collect());
    store.remove("a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_in_memory_conforms() {
    conformance(MemoryStore::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_in_redis_conforms() {
    conformance(redis("conformance")).await;
}

#[tokio::test]
async fn stores_with_different_prefixes_do_not_see_each_other() {
    let (one, two) = (redis("one"), redis("two"));
    one.set("key", b"one").await.unwrap();
    assert_eq!(two.get("key").await.unwrap(), None);
    assert!(one.remove("key").await.unwrap());
}

#[tokio::test]
async fn absent_unreachable_and_late_are_three_results_and_it_comes_back_by_itself() {
    let server = Redis::start().unwrap();
    let store = RedisStore::connect(server.url(), "", SHORT).unwrap();
    assert_eq!(store.get("key").await.unwrap(), None);
    store.set("key", b"value").await.unwrap();

    server.pause().unwrap();
    let started = Instant::now();
    let error = store.get("key").await.unwrap_err();
    assert!(
        matches!(error, StoreError::TimedOut { limit: SHORT }),
        "{error:?}"
    );
    assert!(started.elapsed() >= SHORT);
    server.resume().unwrap();
    assert_eq!(
        store.get("key").await.unwrap().as_deref(),
        Some(&b"value"[..])
    );

    server.stop().unwrap();
    for _ in 0..3 {
        let error = store.get("key").await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert_eq!(error.to_string(), "the store cannot be reached");
    }
    server.restart().unwrap();
    let mut failed = 0;
    while store.get("key").await.is_err() {
        failed += 1;
        assert!(failed < 10, "it does not come back");
    }
    store.set("key", b"again").await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_is_the_first_calls_error() {
    let server = Redis::start().unwrap();
    server.stop().unwrap();
    let store = RedisStore::connect(server.url(), "", LIMIT).unwrap();
    let error = store.set("key", b"value").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    server.restart().unwrap();
    while store.set("key", b"value").await.is_err() {}
    assert_eq!(
        store.get("key").await.unwrap().as_deref(),
        Some(&b"value"[..])
    );
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_late() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let store = RedisStore::connect(&url, "", SHORT).unwrap();
    let error = store.get("key").await.unwrap_err();
    assert!(matches!(error, StoreError::TimedOut { .. }), "{error:?}");
}

#[tokio::test]
async fn what_answers_and_is_no_redis_is_one_that_cannot_be_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_u8().await.unwrap();
        stream.write_all(b"HTTP/1.1 400\r\n\r\n").await.unwrap();
        pending::<()>().await;
    });
    let store = RedisStore::connect(&url, "", LIMIT).unwrap();
    let error = store.get("key").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let url = SERVER.url().replacen("redis://", "redis://:wrong@", 1);
    let store = RedisStore::connect(&url, "", LIMIT).unwrap();
    let error = store.get("key").await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn it_is_shown_by_its_prefix_and_its_limit() {
    let store = RedisStore::connect(SERVER.url(), "shop:", SHORT).unwrap();
    let shown = "RedisStore { prefix: \"shop:\", limit: 200ms, .. }";
    assert_eq!(format!("{store:?}"), shown);
}

#[tokio::test]
async fn a_value_of_another_type_and_a_url_that_is_none_are_refused() {
    let client = redis::Client::open(SERVER.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let key = format!("list-{}", std::process::id());
    let mut push = redis::cmd("RPUSH");
    push.arg(&key)
        .arg(1)
        .exec_async(&mut connection)
        .await
        .unwrap();
    let store = RedisStore::connect(SERVER.url(), "", LIMIT).unwrap();
    let error = store.get(&key).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("wrong kind of value"), "{cause}");
    store.remove(&key).await.unwrap();

    for url in ["", "127.0.0.1", "http://127.0.0.1"] {
        let error = RedisStore::connect(url, "", LIMIT).unwrap_err();
        assert!(matches!(error, StoreError::Refused(_)), "{url}");
    }
}

#[tokio::test]
async fn no_time_is_late_and_endless_time_is_no_panic() {
    // A server that answers may do so before the timer's first millisecond.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let store = RedisStore::connect(&url, "", Duration::ZERO).unwrap();
    let error = store.get("key").await.unwrap_err();
    assert!(matches!(error, StoreError::TimedOut { .. }), "{error:?}");
    let store = RedisStore::connect(SERVER.url(), "", Duration::MAX).unwrap();
    assert_eq!(store.get("no such key").await.unwrap(), None);
}

#[tokio::test]
async fn harm_a_set_that_timed_out_is_carried_out_later() {
    let server = Redis::start().unwrap();
    let store = RedisStore::connect(server.url(), "", SHORT).unwrap();
    store.set("key", b"old").await.unwrap();
    server.pause().unwrap();
    let error = store.set("key", b"new").await.unwrap_err();
    assert!(matches!(error, StoreError::TimedOut { .. }), "{error:?}");
    server.resume().unwrap();
    while store.get("key").await.unwrap().as_deref() != Some(b"new") {}
}

#[tokio::test]
async fn harm_one_slow_command_holds_up_all_others_of_the_connection() {
    let server = Redis::start().unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    let mut connection = connection.await.unwrap();
    let mut other = connection.clone();
    let started = Instant::now();
    let slow = async {
        let mut pop = redis::cmd("BLPOP");
        pop.arg("queue")
            .arg(0.3)
            .exec_async(&mut connection)
            .await
            .unwrap();
    };
    let quick = async {
        tokio::task::yield_now().await; // behind the other
        redis::cmd("PING").exec_async(&mut other).await.unwrap();
        started.elapsed()
    };
    let ((), quick) = tokio::join!(slow, quick);
    assert!(quick >= Duration::from_millis(250), "{quick:?}");
}

async fn dropped_anywhere(new: impl AsyncFn() -> RedisStore) {
    let points = every_await_point(
        LIMIT,
        async || {
            let store = new().await;
            store.set("key", b"old").await.unwrap();
            store
        },
        async |store| store.set("key", b"new").await,
        async |store, outcome| {
            let value = store.get("key").await.unwrap().unwrap();
            match outcome {
                Outcome::Completed(set) => {
                    set.unwrap();
                    assert_eq!(value, b"new");
                }
                Outcome::Dropped(_) => assert!(value == b"old" || value == b"new"),
            }
            // The connection still gives each its own answer.
            assert_eq!(store.get("no such key").await.unwrap(), None);
            assert!(store.remove("key").await.unwrap());
            assert!(!store.remove("key").await.unwrap());
        },
    )
    .await;
    assert!(points.unwrap() >= 1);
}

#[tokio::test]
async fn a_dropped_call_leaves_the_old_value_or_the_new_and_a_sound_connection() {
    dropped_anywhere(async || redis("dropped")).await;
}

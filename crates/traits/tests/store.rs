//! One suite for every store, and what a real Redis does when it is gone, hangs or refuses.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use servers::Redis;
use testing::every_await_point::{Outcome, every_await_point};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use traits::store::{MemoryStore, RedisStore, Store, StoreError};

const LIMIT: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(200);
/// Enough for a busy machine to answer within.
const SECONDS: Duration = Duration::from_secs(2);

/// One for all tests of this file, but for those that stop it.
static SERVER: LazyLock<Redis> =
    LazyLock::new(|| Redis::shared().unwrap_or_else(|error| panic!("{error}")));

/// A store of its own in the server of all.
fn redis(test: &str) -> RedisStore {
    let prefix = format!("{test}-{}:", std::process::id());
    RedisStore::connect(SERVER.url(), &prefix, LIMIT).unwrap()
}

/// The server at `url`, with this password in the place of any other.
fn with_password(url: &str, password: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    format!("{scheme}://:{password}@{place}")
}

/// A connection without the library's limits, which are short for a busy machine.
async fn bare_connection(url: &str) -> MultiplexedConnection {
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None);
    let client = redis::Client::open(url).unwrap();
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    connection.await.unwrap()
}

/// A server that gives these answers to the calls of its first connection, its second and so on, and
/// says nothing after a connection's last. Where it is, and how many connections it has had.
async fn scripted(connections: Vec<Vec<&'static str>>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        for answers in connections {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(answer(stream, answers));
        }
        pending::<()>().await; // or the listener would refuse
    });
    (url, accepted)
}

/// Until the other side hangs up.
async fn answer(mut stream: TcpStream, answers: Vec<&'static str>) {
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader).lines();
    let mut answers = answers.into_iter();
    // A command is `*2`, and then `$3` and `GET` for each of its two words.
    while let Ok(Some(head)) = lines.next_line().await {
        let words: usize = head.strip_prefix('*').unwrap().parse().unwrap();
        let mut command = Vec::new();
        for _ in 0..2 * words {
            command.push(lines.next_line().await.unwrap().unwrap());
        }
        let is_setup = command[1] == "CLIENT"; // how the library introduces itself
        let answer = if is_setup {
            Some("+OK\r\n")
        } else {
            answers.next()
        };
        writer
            .write_all(answer.unwrap_or_default().as_bytes())
            .await
            .ok();
    }
}

/// The answer to a `GET` of what is not there.
const NONE: &str = "$-1\r\n";

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
    let store = RedisStore::connect(server.url(), "", SECONDS).unwrap();
    assert_eq!(store.get("key").await.unwrap(), None);
    store.set("key", b"value").await.unwrap();

    server.pause().unwrap();
    let started = Instant::now();
    let error = store.get("key").await.unwrap_err();
    assert!(
        matches!(error, StoreError::TimedOut { limit: SECONDS }),
        "{error:?}"
    );
    assert!(started.elapsed() >= SECONDS);
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
async fn what_answers_and_is_no_redis_cannot_be_reached_until_a_redis_answers_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_u8().await.unwrap();
        stream.write_all(b"HTTP/1.1 400\r\n\r\n").await.unwrap();
        let (second, _) = listener.accept().await.unwrap();
        answer(second, vec![NONE]).await;
    });
    let store = RedisStore::connect(&url, "", SECONDS).unwrap();
    let error = store.get("key").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert_eq!(store.get("key").await.unwrap(), None);
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let url = with_password(SERVER.url(), "wrong");
    let store = RedisStore::connect(&url, "", LIMIT).unwrap();
    let error = store.get("key").await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn once_the_server_takes_the_password_the_same_store_works() {
    let server = Redis::start().unwrap();
    let url = with_password(server.url(), "new");
    let store = RedisStore::connect(&url, "", LIMIT).unwrap();
    let error = store.get("key").await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    let mut administrator = bare_connection(server.url()).await;
    let mut mend = redis::cmd("CONFIG");
    mend.arg("SET").arg("requirepass").arg("new");
    mend.exec_async(&mut administrator).await.unwrap();
    assert_eq!(store.get("key").await.unwrap(), None);
}

#[tokio::test]
async fn a_database_that_the_server_does_not_have_is_refused_until_it_has() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}/7", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for select in ["-ERR DB index is out of range\r\n", "+OK\r\n"] {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(stream, vec![select, NONE]));
        }
        pending::<()>().await;
    });
    let store = RedisStore::connect(&url, "", SECONDS).unwrap();
    let error = store.get("key").await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    assert_eq!(store.get("key").await.unwrap(), None);
}

#[tokio::test]
async fn what_a_server_cannot_do_yet_is_no_refusal_and_needs_no_new_connection() {
    for not_yet in [
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-MASTERDOWN Link with MASTER is down\r\n",
        "-CLUSTERDOWN The cluster is down\r\n",
        "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
    ] {
        let (url, accepted) = scripted(vec![vec![not_yet, NONE], vec![]]).await;
        let store = RedisStore::connect(&url, "", SECONDS).unwrap();
        let error = store.get("key").await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{not_yet}");
        assert_eq!(store.get("key").await.unwrap(), None);
        assert_eq!(accepted.load(Ordering::SeqCst), 1);
    }
    let elsewhere = "-MOVED 7 127.0.0.1:1\r\n";
    let (url, _) = scripted(vec![vec![elsewhere]]).await;
    let store = RedisStore::connect(&url, "", SECONDS).unwrap();
    let error = store.get("key").await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn a_server_that_has_become_a_replica_is_left_for_the_one_that_now_has_its_address() {
    let read_only = "-READONLY You can't write against a read only replica.\r\n";
    let (url, accepted) = scripted(vec![vec![read_only], vec!["+OK\r\n"]]).await;
    let store = RedisStore::connect(&url, "", SECONDS).unwrap();
    let error = store.set("key", b"value").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    store.set("key", b"value").await.unwrap();
    assert_eq!(accepted.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_connection_whose_other_end_fell_silent_is_given_up_after_one_late_call() {
    let (url, accepted) = scripted(vec![vec![NONE], vec![NONE; 3]]).await;
    let store = RedisStore::connect(&url, "", SECONDS).unwrap();
    assert_eq!(store.get("key").await.unwrap(), None);
    let is_late = async || matches!(store.get("key").await, Err(StoreError::TimedOut { .. }));
    let first = async {
        assert!(is_late().await);
        assert_eq!(store.get("key").await.unwrap(), None);
    };
    let second = async {
        sleep(SECONDS / 2).await; // so it is late when the new connection is in use
        assert!(is_late().await);
    };
    tokio::join!(first, second);
    for store in [store.clone(), store] {
        assert_eq!(store.get("key").await.unwrap(), None);
    }
    assert_eq!(
        accepted.load(Ordering::SeqCst),
        2,
        "one for two late calls, and clones share it"
    );
}

#[tokio::test]
async fn a_connection_that_answers_others_meanwhile_is_kept_after_a_late_call() {
    for answer in [NONE, "-WRONGTYPE not a string\r\n"] {
        // The first call is answered when the second has come, the second when the third has.
        let answers = vec![NONE, "", answer, "$-1\r\n$-1\r\n"];
        let (url, accepted) = scripted(vec![answers, vec![]]).await;
        let store = RedisStore::connect(&url, "", SECONDS).unwrap();
        assert_eq!(store.get("key").await.unwrap(), None);
        let (first, second) = tokio::join!(biased; store.get("key"), store.get("key"));
        match first {
            Ok(value) => assert_eq!((value, answer), (None, NONE)),
            Err(error) => assert!(matches!(error, StoreError::Refused(_)), "{error:?}"),
        }
        assert!(
            matches!(second, Err(StoreError::TimedOut { .. })),
            "{second:?}"
        );
        assert_eq!(store.get("key").await.unwrap(), None);
        assert_eq!(accepted.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_connection_that_is_being_made_when_its_caller_leaves_is_made_for_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let store = RedisStore::connect(&url, "", LIMIT).unwrap();
    let accepted = tokio::select! {
        _ = store.get("key") => panic!("nothing answers yet"),
        accepted = listener.accept() => accepted,
    };
    tokio::spawn(answer(accepted.unwrap().0, vec![NONE]));
    assert_eq!(store.get("key").await.unwrap(), None);
}

#[tokio::test]
async fn all_who_wait_for_a_connection_that_cannot_be_made_hear_of_it_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let store = RedisStore::connect(&url, "", LIMIT).unwrap();
    let hang_up = async { drop(listener.accept().await.unwrap()) };
    let (one, other, ()) = tokio::join!(store.get("key"), store.get("key"), hang_up);
    for error in [one.unwrap_err(), other.unwrap_err()] {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    }
}

#[tokio::test]
async fn harm_a_set_that_timed_out_may_come_after_one_that_succeeded_later() {
    // What a connection has brought so far is carried out when the server comes to read it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let store = RedisStore::connect(&url, "", SECONDS).unwrap();
    let carried_out = async {
        let (mut first, _) = listener.accept().await.unwrap();
        let mut setup = BufReader::new(&mut first).lines();
        while setup.next_line().await.unwrap().unwrap() != "LIB-VER" {}
        drop(setup);
        first.write_all(b"+OK\r\n+OK\r\n").await.unwrap();
        let (second, _) = listener.accept().await.unwrap();
        answer(second, vec!["+OK\r\n"]).await;
        let mut read_later = String::new();
        first.read_to_string(&mut read_later).await.unwrap();
        read_later
    };
    let sets = async {
        let error = store.set("key", b"old").await.unwrap_err();
        assert!(matches!(error, StoreError::TimedOut { .. }), "{error:?}");
        store.set("key", b"new").await.unwrap();
        drop(store);
    };
    let (read_later, ()) = tokio::join!(carried_out, sets);
    assert!(read_later.contains("old"), "{read_later}");
}

#[tokio::test]
async fn it_is_shown_by_its_prefix_and_its_limit() {
    let store = RedisStore::connect(SERVER.url(), "shop:", SHORT).unwrap();
    let shown = "RedisStore { prefix: \"shop:\", limit: 200ms, .. }";
    assert_eq!(format!("{store:?}"), shown);
}

#[tokio::test]
async fn a_value_of_another_type_and_a_url_that_is_none_are_refused() {
    let mut connection = bare_connection(SERVER.url()).await;
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
    let store = RedisStore::connect(server.url(), "", SECONDS).unwrap();
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
    let mut connection = bare_connection(server.url()).await;
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

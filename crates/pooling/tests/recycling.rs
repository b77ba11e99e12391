//! What each way of recycling finds and misses, on connections that are dead, busy or left in disorder.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use deadpool_postgres::{Hook, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt};
use pooling::recycling::{RecycleCounts, Recycling, recycle_hook};
use servers::Postgres;
use testing::every_await_point::{Outcome, every_await_point};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

const LIMIT: Duration = Duration::from_secs(60);
/// Asks every connection.
const ALWAYS: Recycling = Recycling {
    verify_after: Duration::ZERO,
    answer_within: LIMIT,
    reset: false,
};
const RESET: Recycling = Recycling {
    reset: true,
    ..ALWAYS
};

static SERVER: LazyLock<Postgres> =
    LazyLock::new(|| Postgres::start().unwrap_or_else(|error| panic!("{error}")));

/// Each pool's connections are known by a name of their own.
fn pool(method: RecyclingMethod, connections: usize, hook: Option<Hook>) -> (Pool, String) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("pool{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut config: tokio_postgres::Config = SERVER.url().parse().unwrap();
    config.application_name(&name);
    let config_of_manager = ManagerConfig {
        recycling_method: method,
    };
    let manager = Manager::from_config(config, NoTls, config_of_manager);
    let mut builder = Pool::builder(manager)
        .max_size(connections)
        .runtime(Runtime::Tokio1);
    if let Some(hook) = hook {
        builder = builder.post_recycle(hook);
    }
    (builder.build().unwrap(), name)
}

fn hooked(recycling: Recycling, connections: usize) -> (Pool, String, Arc<RecycleCounts>) {
    let counts = Arc::new(RecycleCounts::default());
    let hook = recycle_hook(recycling, Arc::clone(&counts));
    let (pool, name) = pool(RecyclingMethod::Fast, connections, Some(hook));
    (pool, name, counts)
}

fn counted(counts: &RecycleCounts) -> (u64, u64, u64) {
    (counts.trusted(), counts.verified(), counts.refused())
}

async fn admin() -> Client {
    let (client, connection) = tokio_postgres::connect(SERVER.url(), NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) }); // the client hears of its end
    client
}

async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(client: &Client, query: &str) -> T {
    client.query_one(query, &[]).await.unwrap().get(0)
}

async fn fill(pool: &Pool, connections: usize) {
    let all = try_join_all((0..connections).map(|_| pool.get()))
        .await
        .unwrap();
    drop(all);
    assert_eq!(pool.status().available, connections);
}

/// Ends every backend of the pool, and returns once they are gone. In another thread, while this one
/// stands still: so this end has not heard of it yet, as it has not of what happened just now.
fn kill_unheard(name: &str) {
    let kill = format!(
        "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
        WHERE application_name = '{name}'"
    );
    let killing = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { one::<i64>(&admin().await, &kill).await })
    });
    assert_eq!(killing.join().unwrap(), 8);
}

/// How many of 400 queries, 16 at a time, fail.
async fn lost_of_400(pool: &Pool) -> usize {
    let query = async |_| match pool.get().await {
        Ok(client) => client.simple_query("SELECT 1").await.is_err(),
        Err(_) => true,
    };
    let failed = stream::iter(0..400).map(query).buffer_unordered(16);
    failed
        .filter(|failed| std::future::ready(*failed))
        .count()
        .await
}

#[tokio::test]
async fn harm_fast_gives_out_every_connection_that_was_cut_just_now() {
    let (pool, name) = pool(RecyclingMethod::Fast, 8, None);
    fill(&pool, 8).await;
    kill_unheard(&name);
    assert!(lost_of_400(&pool).await >= 8);
    assert_eq!(lost_of_400(&pool).await, 0, "and then they are known");
}

#[tokio::test]
async fn verified_and_clean_lose_none() {
    for method in [RecyclingMethod::Verified, RecyclingMethod::Clean] {
        let (pool, name) = pool(method.clone(), 8, None);
        fill(&pool, 8).await;
        kill_unheard(&name);
        assert_eq!(lost_of_400(&pool).await, 0, "{method:?}");
    }
}

#[tokio::test]
async fn what_has_been_idle_is_verified_and_what_is_fresh_costs_nothing() {
    let recycling = Recycling {
        verify_after: Duration::from_secs(2),
        ..ALWAYS
    };
    let (pool, name, counts) = hooked(recycling, 8);
    fill(&pool, 8).await;
    fill(&pool, 8).await;
    assert_eq!(counted(&counts), (8, 0, 0));
    sleep(Duration::from_millis(2_100)).await;
    kill_unheard(&name);
    assert_eq!(lost_of_400(&pool).await, 0);
    assert_eq!((counts.verified(), counts.refused()), (0, 8));
}

#[tokio::test]
async fn what_is_used_again_in_time_is_trusted_however_old_it_is() {
    let recycling = Recycling {
        verify_after: Duration::from_secs(2),
        ..ALWAYS
    };
    let (pool, _, counts) = hooked(recycling, 8);
    fill(&pool, 8).await;
    for _ in 0..2 {
        sleep(Duration::from_millis(1_100)).await;
        fill(&pool, 8).await;
    }
    assert_eq!(counted(&counts), (16, 0, 0));
}

#[tokio::test]
async fn harm_what_was_used_just_now_is_trusted_and_may_be_dead() {
    let recycling = Recycling {
        verify_after: LIMIT,
        ..ALWAYS
    };
    let (pool, name, counts) = hooked(recycling, 8);
    fill(&pool, 8).await;
    kill_unheard(&name);
    assert!(lost_of_400(&pool).await >= 8);
    assert_eq!((counts.verified(), counts.refused()), (0, 0));
}

#[tokio::test]
async fn after_no_time_at_all_every_connection_is_verified() {
    let (pool, name, counts) = hooked(ALWAYS, 8);
    fill(&pool, 8).await;
    fill(&pool, 8).await;
    assert_eq!(counted(&counts), (0, 8, 0));
    kill_unheard(&name);
    assert_eq!(lost_of_400(&pool).await, 0);
    assert_eq!((counts.trusted(), counts.refused()), (0, 8));
}

/// Used for long and returned just now: it is asked, since the last that is known is when it was taken.
#[tokio::test]
async fn the_time_in_use_counts_as_idle() {
    let recycling = Recycling {
        verify_after: Duration::from_millis(50),
        ..ALWAYS
    };
    let (pool, _, counts) = hooked(recycling, 1);
    let client = pool.get().await.unwrap();
    sleep(Duration::from_millis(80)).await;
    client.simple_query("").await.unwrap();
    drop(client);
    drop(pool.get().await.unwrap());
    assert_eq!(counted(&counts), (0, 1, 0));
}

#[tokio::test]
async fn a_connection_that_does_not_answer_in_time_is_replaced() {
    let recycling = Recycling {
        answer_within: Duration::from_millis(100),
        ..ALWAYS
    };
    let (pool, _, counts) = hooked(recycling, 1);
    let client = pool.get().await.unwrap();
    let before: i32 = one(&client, "SELECT pg_backend_pid()").await;
    let slow = client.batch_execute("SELECT pg_sleep(20)");
    assert!(timeout(Duration::from_millis(20), slow).await.is_err());
    drop(client); // and the statement goes on
    let started = Instant::now();
    let client = pool.get().await.unwrap();
    assert_ne!(one::<i32>(&client, "SELECT pg_backend_pid()").await, before);
    assert!(started.elapsed() >= Duration::from_millis(100));
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(counted(&counts), (0, 0, 1));
    assert_eq!(pool.status().size, 1);
}

/// What the next user finds of the last one's session.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    setting: bool,
    table: bool,
    lock: bool,
    listens: bool,
}

const ALL: Left = Left {
    setting: true,
    table: true,
    lock: true,
    listens: true,
};
const NOTHING: Left = Left {
    setting: false,
    table: false,
    lock: false,
    listens: false,
};

/// One user leaves a session in disorder; what the next finds, and whether in the same session.
async fn left_behind(pool: &Pool) -> (Left, bool) {
    let client = pool.get().await.unwrap();
    let backend: i32 = one(&client, "SELECT pg_backend_pid()").await;
    let disorder = "SET work_mem = '77MB'; CREATE TEMP TABLE mine (id int); LISTEN news;
        SELECT pg_advisory_lock(pg_backend_pid())";
    client.batch_execute(disorder).await.unwrap();
    drop(client);
    let client = pool.get().await.unwrap();
    let locks = "SELECT count(*) > 0 FROM pg_locks
        WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
    let listens = "SELECT count(*) > 0 FROM pg_listening_channels()";
    let left = Left {
        setting: one::<String>(&client, "SHOW work_mem").await == "77MB",
        table: one(&client, "SELECT to_regclass('mine') IS NOT NULL").await,
        lock: one(&client, locks).await,
        listens: one(&client, listens).await,
    };
    let now: i32 = one(&client, "SELECT pg_backend_pid()").await;
    (left, now == backend)
}

#[tokio::test]
async fn fast_and_verified_leave_the_session_and_clean_and_reset_do_not() {
    for (method, left) in [
        (RecyclingMethod::Fast, ALL),
        (RecyclingMethod::Verified, ALL),
        (RecyclingMethod::Clean, NOTHING),
        (RecyclingMethod::Custom("DISCARD ALL".to_owned()), NOTHING),
    ] {
        let (pool, _) = pool(method.clone(), 1, None);
        assert_eq!(left_behind(&pool).await, (left, true), "{method:?}");
    }
    let (pool, _, _) = hooked(ALWAYS, 1);
    assert_eq!(left_behind(&pool).await, (ALL, true));
    let fresh = Recycling {
        verify_after: LIMIT, // it is reset all the same
        ..RESET
    };
    let (pool, _, counts) = hooked(fresh, 1);
    assert_eq!(left_behind(&pool).await, (NOTHING, true));
    assert_eq!(counted(&counts), (0, 1, 0));
}

/// Whether what the next user writes is kept, after one that left a transaction open.
async fn next_write_is_kept(pool: &Pool, name: &str) -> bool {
    let make = format!("CREATE TABLE {name} (id int)");
    let admin = admin().await;
    admin.batch_execute(&make).await.unwrap();
    pool.get()
        .await
        .unwrap()
        .batch_execute("BEGIN")
        .await
        .unwrap();
    let write = format!("INSERT INTO {name} VALUES (1)");
    pool.get()
        .await
        .unwrap()
        .batch_execute(&write)
        .await
        .unwrap();
    one(&admin, &format!("SELECT count(*) > 0 FROM {name}")).await
}

#[tokio::test]
async fn harm_even_clean_keeps_the_transaction_that_was_left_open() {
    for method in [
        RecyclingMethod::Fast,
        RecyclingMethod::Verified,
        RecyclingMethod::Clean,
    ] {
        let (pool, name) = pool(method.clone(), 1, None);
        assert!(!next_write_is_kept(&pool, &name).await, "{method:?}");
    }
}

#[tokio::test]
async fn a_connection_left_in_a_transaction_is_replaced() {
    for recycling in [ALWAYS, RESET] {
        let (pool, name, counts) = hooked(recycling, 1);
        assert!(next_write_is_kept(&pool, &name).await, "{recycling:?}");
        assert_eq!(counted(&counts), (0, 0, 1));
        // One that has failed, too.
        let client = pool.get().await.unwrap();
        assert!(client.batch_execute("BEGIN; SELECT 1 / 0").await.is_err());
        drop(client);
        let client = pool.get().await.unwrap();
        assert_eq!(one::<i32>(&client, "SELECT 1").await, 1);
        assert_eq!(counts.refused(), 2);
    }
}

#[tokio::test]
async fn harm_until_it_is_taken_again_an_idle_connection_keeps_its_locks() {
    let (pool, _) = pool(RecyclingMethod::Clean, 1, None);
    let client = pool.get().await.unwrap();
    client
        .batch_execute("SELECT pg_advisory_lock(7)")
        .await
        .unwrap();
    drop(client);
    let other = admin().await;
    let free = "SELECT pg_try_advisory_lock(7)";
    assert!(!one::<bool>(&other, free).await);
    drop(pool.get().await.unwrap());
    assert!(one::<bool>(&other, free).await);
}

#[tokio::test]
async fn cached_statements_outlive_a_reset_and_not_discard_all() {
    let query = "SELECT 1 + $1::int";
    let twice = async |pool: Pool| {
        let client = pool.get().await.unwrap();
        let statement = client.prepare_cached(query).await.unwrap();
        client.query_one(&statement, &[&1]).await.unwrap();
        drop((client, statement));
        let client = pool.get().await.unwrap();
        let statement = client.prepare_cached(query).await.unwrap();
        let row = client.query_one(&statement, &[&1]).await;
        row.map(|row| row.get::<_, i32>(0))
    };
    assert_eq!(
        twice(pool(RecyclingMethod::Clean, 1, None).0)
            .await
            .unwrap(),
        2
    );
    assert_eq!(twice(hooked(RESET, 1).0).await.unwrap(), 2);
    let discard = RecyclingMethod::Custom("DISCARD ALL".to_owned());
    let error = twice(pool(discard, 1, None).0).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INVALID_SQL_STATEMENT_NAME));
}

#[tokio::test]
async fn harm_the_pools_timeouts_do_not_cover_a_hook() {
    let hook = Hook::async_fn(|_, _| Box::pin(std::future::pending()));
    let (pool, _) = pool(RecyclingMethod::Fast, 1, Some(hook));
    drop(pool.get().await.unwrap());
    let mut timeouts = pool.timeouts();
    timeouts.wait = Some(Duration::from_millis(20));
    timeouts.recycle = timeouts.wait;
    timeouts.create = timeouts.wait;
    let get = timeout(Duration::from_millis(200), pool.timeout_get(&timeouts));
    assert!(get.await.is_err(), "it waits for ever");
}

#[tokio::test]
async fn a_get_that_is_dropped_while_it_asks_leaves_the_pool_whole() {
    let setup = async || {
        let (pool, _, _) = hooked(RESET, 1);
        fill(&pool, 1).await;
        pool
    };
    let operation = async |pool: &mut Pool| drop(pool.get().await.unwrap());
    let closed = AtomicU32::new(0);
    let check = async |pool: Pool, outcome: Outcome<()>| {
        if pool.status().size == 0 {
            assert!(matches!(outcome, Outcome::Dropped(_)));
            closed.fetch_add(1, Ordering::Relaxed);
        }
        let client = pool.get().await.unwrap();
        assert_eq!(one::<i32>(&client, "SELECT 1").await, 1);
        assert_eq!(pool.status().size, 1);
    };
    let points = every_await_point(LIMIT, setup, operation, check).await;
    // The wait for a place, where nothing was taken yet, and the question.
    assert!(points.unwrap() >= 2);
    assert!(closed.into_inner() >= 1);
}

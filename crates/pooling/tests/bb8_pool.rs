//! What the pool of bb8 promises: the suite for all pools, and what a bare one does instead.
#![cfg(test)] // so that the lints take the helpers for what they are

mod support;

use std::cell::Cell;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bb8::{Builder, RunError};
use bb8_postgres::PostgresConnectionManager;
use pooling::bb8_pool::{Connection, Database, GetError, Settings};
use servers::Postgres;
use support::{
    LONG, Limits, Proxy, Refused, SHORT, Status, Subject, admin, all, ask, kill, pid, until, url,
};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, Config, NoTls};
use tracing::span;

type Pool = Database<NoTls>;
type Bare = PostgresConnectionManager<NoTls>;

impl Subject for Pool {
    type Connection = Connection<NoTls>;
    const WAITS: bool = true;

    fn open(url: &str, limits: &Limits) -> Self {
        Self::new(url.parse().unwrap(), NoTls, &settings(limits))
    }

    async fn get(&self) -> Result<Connection<NoTls>, Refused> {
        Self::get(self).await.map_err(|error| match error {
            GetError::Exhausted { limit, status } => Refused::Exhausted {
                limit,
                status: of(status),
            },
            GetError::TimedOut { limit } => Refused::TimedOut { limit },
            GetError::Unreachable(_) => Refused::Unreachable,
            GetError::Rejected(error) => Refused::Rejected {
                code: error.code().code().to_owned(),
            },
            other => Refused::Other(other.to_string()),
        })
    }

    fn client(connection: &Connection<NoTls>) -> &Client {
        connection
    }

    fn status(&self) -> Status {
        of(Self::status(self))
    }
}

fn settings(limits: &Limits) -> Settings {
    Settings {
        application_name: limits.name.clone(),
        size: NonZeroU16::new(limits.size).unwrap(),
        wait: limits.wait,
        connect: limits.connect,
        create: limits.create,
        recycle: limits.recycle,
        lifetime: limits.lifetime,
        idle: LONG,
        statement: limits.statement,
    }
}

fn of(status: pooling::bb8_pool::Status) -> Status {
    Status {
        max_size: status.max_size.try_into().unwrap(),
        size: status.size.try_into().unwrap(),
        idle: status.idle.try_into().unwrap(),
        waiting: status.waiting,
    }
}

/// As it comes, but for the size and the limit.
fn bare(limit: Duration) -> Builder<Bare> {
    bb8::Pool::builder().max_size(1).connection_timeout(limit)
}

fn manager(url: &str) -> Bare {
    Bare::new(url.parse().unwrap(), NoTls)
}

/// Closes each connection as it comes, and counts them.
async fn slammed() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    (format!("host=127.0.0.1 port={port} user=postgres"), count)
}

/// Closes each connection as it comes, and counts them, until it is opened. Then it leads to the
/// server.
async fn door() -> (String, Arc<AtomicUsize>, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (count, open) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let (counter, opened) = (Arc::clone(&count), Arc::clone(&open));
    let proxy = Proxy::start().await;
    let server = proxy.url.parse::<Config>().unwrap().get_ports()[0];
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            if opened.load(Ordering::Relaxed) {
                tokio::spawn(pass_on(client, server));
            }
        }
    });
    let url = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
    (url, count, open)
}

async fn pass_on(mut client: TcpStream, port: u16) {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    copy_bidirectional(&mut client, &mut server).await.ok();
}

// ----------------------------------------------------------------------------------- the suite

#[tokio::test]
async fn the_exhausted_pool_is_an_error_after_exactly_the_limit_and_then_works_again() {
    support::exhausted::<Pool>().await;
}

#[tokio::test]
async fn who_waits_gets_the_connection_that_comes_back() {
    support::a_waiter_gets_the_connection_that_comes_back::<Pool>().await;
}

#[tokio::test]
async fn a_hundred_tasks_share_eight_connections_and_open_no_more() {
    support::never_more_than_asked_for::<Pool>().await;
}

#[tokio::test]
async fn the_status_is_right_while_others_hold_wait_and_give_up() {
    support::status::<Pool>().await;
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_an_error_after_the_limit() {
    support::a_silent_server::<Pool>().await;
}

#[tokio::test]
async fn attempts_that_are_never_answered_do_not_keep_their_places() {
    support::a_silent_server_that_comes_back::<Pool>().await;
}

#[tokio::test]
async fn connections_that_went_silent_are_replaced_after_the_limit_of_the_check() {
    support::silent_connections_are_closed_in_time::<Pool>().await;
}

#[tokio::test]
async fn a_silent_address_leaves_time_for_the_next() {
    support::the_next_address::<Pool>().await;
}

#[tokio::test]
async fn a_drop_and_a_panic_give_the_connection_back() {
    support::drop_and_panic_give_it_back::<Pool>().await;
}

#[tokio::test]
async fn a_get_or_query_dropped_at_any_await_point_loses_no_connection() {
    support::dropped_anywhere::<Pool>().await;
}

#[tokio::test]
async fn a_hundred_tasks_aborted_at_any_time_lose_no_connection() {
    support::aborted_at_any_time::<Pool>().await;
}

#[tokio::test]
async fn harm_a_dropped_query_goes_on_and_its_connection_is_not_handed_out() {
    support::a_busy_connection_is_not_handed_out::<Pool>().await;
}

#[tokio::test]
async fn with_every_backend_killed_fifty_times_no_later_query_fails() {
    support::every_backend_killed::<Pool>().await;
}

#[tokio::test]
async fn the_database_may_be_down_at_the_start_and_come_back_twice() {
    support::the_server_down_and_up::<Pool>().await;
}

#[tokio::test]
async fn a_refused_login_tells_its_code() {
    support::a_refused_login::<Pool>().await;
}

#[tokio::test]
async fn a_server_that_is_starting_or_stopping_is_no_refused_login() {
    support::a_server_that_is_starting::<Pool>().await;
}

#[tokio::test]
async fn harm_get_panics_on_nulls_and_other_types_where_try_get_returns_an_error() {
    support::nulls_and_other_types::<Pool>().await;
}

#[tokio::test]
async fn the_session_has_its_name_and_limit_and_keeps_them_when_it_is_reset() {
    support::the_session_is_set_up::<Pool>().await;
}

#[tokio::test]
async fn a_slow_statement_is_ended_by_the_server_and_the_connection_goes_on() {
    support::a_slow_statement_is_ended_by_the_server::<Pool>().await;
}

#[tokio::test]
async fn harm_the_statements_limit_ends_no_wait_for_a_silent_server() {
    support::a_query_on_a_silent_server_waits_for_ever::<Pool>().await;
}

#[tokio::test]
async fn a_connection_past_its_lifetime_is_replaced_and_a_young_one_is_not() {
    support::old_connections_are_replaced::<Pool>().await;
}

#[tokio::test]
async fn no_time_and_endless_time_are_no_panic() {
    support::no_time_and_endless_time::<Pool>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads_killed_backends_are_replaced_too() {
    support::on_several_threads::<Pool>().await;
}

// ----------------------------------------------------------------------------- of bb8's alone

#[tokio::test]
async fn harm_a_bare_get_never_says_why_it_failed_and_never_fails_early() {
    let nowhere = url().replace("dbname=postgres", "dbname=nowhere");
    let pool = bare(3 * SHORT).build(manager(&nowhere)).await.unwrap();
    let started = Instant::now();
    let error = pool.get().await.unwrap_err();
    assert!(matches!(error, RunError::TimedOut), "{error:?}");
    assert!(started.elapsed() >= 3 * SHORT);
}

#[tokio::test]
async fn harm_the_default_limit_is_half_a_minute_for_everything() {
    let pool = Builder::new().build(manager(url())).await.unwrap();
    let config = pool.config();
    assert_eq!(config.connection_timeout, Duration::from_secs(30));
    assert_eq!(config.reaper_rate, Duration::from_secs(30));
    assert_eq!((config.min_idle, config.retry_connection), (None, true));
}

#[tokio::test]
async fn harm_a_bare_pool_never_recovers_from_an_attempt_that_is_not_answered() {
    let proxy = Proxy::start().await;
    proxy.mute().await;
    let pool = bare(2 * SHORT).build(manager(&proxy.url)).await.unwrap();
    pool.get().await.unwrap_err();
    proxy.unmute();
    for _ in 0..3 {
        pool.get().await.unwrap_err();
    }
    assert_eq!(proxy.accepted(), 1, "nobody tried again");
}

#[tokio::test]
async fn harm_a_bare_pool_keeps_a_connection_that_went_silent() {
    let proxy = Proxy::start().await;
    let pool = bare(LONG).build(manager(&proxy.url)).await.unwrap();
    pid(&pool.get().await.unwrap()).await.unwrap();
    proxy.mute().await;
    proxy.unmute();
    for _ in 0..3 {
        timeout(2 * SHORT, pool.get()).await.unwrap_err();
    }
    let state = pool.state();
    assert_eq!((state.connections, state.idle_connections), (1, 1));
    assert_eq!(state.statistics.connections_closed_invalid, 0);
}

#[tokio::test]
async fn harm_a_dropped_get_is_pending_for_ever() {
    let pool = bare(LONG).build(manager(url())).await.unwrap();
    let held = pool.get().await.unwrap();
    for _ in 0..3 {
        timeout(Duration::ZERO, pool.get()).await.unwrap_err();
    }
    drop(held);
    assert_eq!(pool.state().statistics.pending_gets(), 3);
}

#[tokio::test]
async fn harm_with_min_idle_a_build_waits_for_the_database_and_fails() {
    let (url, attempts) = slammed().await;
    let started = Instant::now();
    let builder = bare(4 * SHORT).min_idle(1);
    builder.build(manager(&url)).await.unwrap_err();
    assert!(started.elapsed() >= 4 * SHORT);
    assert!(attempts.load(Ordering::Relaxed) >= 1);
}

#[tokio::test]
async fn harm_with_min_idle_idle_connections_are_closed_and_opened_anew() {
    let rate = Duration::from_millis(20);
    let builder = bare(LONG).min_idle(1).idle_timeout(rate).reaper_rate(rate);
    let pool = builder.build(manager(url())).await.unwrap();
    until(async || pool.state().statistics.connections_closed_idle_timeout >= 3).await;
    assert!(pool.state().statistics.connections_created >= 3);
}

#[tokio::test]
async fn harm_without_retries_nobody_tries_again_for_those_who_wait() {
    for retry in [false, true] {
        let (url, attempts) = slammed().await;
        let builder = bare(4 * SHORT).retry_connection(retry);
        let pool = builder.build(manager(&url)).await.unwrap();
        pool.get().await.unwrap_err();
        let attempts = || attempts.load(Ordering::Relaxed);
        if retry {
            until(async || attempts() > 1).await;
        } else {
            assert_eq!(attempts(), 1);
        }
    }
}

#[tokio::test]
async fn harm_attempts_go_on_after_the_pool_is_dropped_for_a_bounded_time() {
    let (url, attempts) = slammed().await;
    let limits = Limits {
        wait: 3 * SHORT,
        ..Limits::long("after", 1)
    };
    let pool = Pool::open(&url, &limits);
    timeout(SHORT, pool.get()).await.unwrap_err();
    drop(pool);
    let before = attempts.load(Ordering::Relaxed);
    until(async || attempts.load(Ordering::Relaxed) > before).await;
    sleep(2 * limits.wait).await;
    let after = attempts.load(Ordering::Relaxed);
    sleep(limits.wait).await; // twice as long as between two of them
    assert_eq!(attempts.load(Ordering::Relaxed), after, "still trying");
}

#[tokio::test]
async fn harm_a_silent_connection_stays_open_after_it_is_thrown_away() {
    let proxy = Proxy::start().await;
    let limits = Limits {
        recycle: SHORT,
        ..Limits::long("stays", 1)
    };
    let pool = Pool::open(&proxy.url, &limits);
    ask(&pool).await;
    proxy.mute().await;
    proxy.unmute();
    ask(&pool).await;
    drop(pool);
    until(async || proxy.open() == 1).await;
    sleep(3 * SHORT).await;
    assert_eq!((proxy.accepted(), proxy.open()), (2, 1));
}

#[tokio::test]
async fn harm_a_later_caller_may_take_the_connection_of_one_who_waits() {
    let pool = Pool::open(url(), &Limits::long("order", 1));
    let held = pool.get().await.unwrap();
    let first = tokio::spawn({
        let pool = pool.clone();
        async move { ask(&pool).await }
    });
    yield_now().await;
    drop(held);
    ask(&pool).await;
    assert!(!first.is_finished(), "it came first and waits on");
    first.await.unwrap();
}

#[tokio::test]
async fn a_get_rides_out_a_restart_of_the_database() {
    let server = Postgres::start().unwrap();
    server.stop().unwrap();
    let pool = Pool::open(server.url(), &Limits::long("rides", 8));
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { ask(&pool).await }
    });
    sleep(SHORT).await;
    // Not in this thread, where the attempts are made.
    let restart = tokio::task::spawn_blocking(move || {
        server.restart().ok(); // it may take a client that comes too early for a failure
        server
    });
    let _server = restart.await.unwrap();
    assert!(waiting.await.unwrap() > 0);
}

/// Attempts at 0, 0.4, 1.2 and 2.35 s, when they have been repeated for long enough.
#[tokio::test]
async fn harm_a_bare_pool_makes_no_attempt_for_who_came_while_those_of_others_were_made() {
    let limit = Duration::from_millis(2300);
    loop {
        let (url, attempts, open) = door().await;
        let pool = bare(limit).build(manager(&url)).await.unwrap();
        let get = || {
            let pool = pool.clone();
            tokio::spawn(async move { pool.get_owned().await.map(drop) })
        };
        let (started, _first) = (Instant::now(), get());
        until(async || attempts.load(Ordering::Relaxed) == 3).await;
        if started.elapsed() >= limit {
            continue; // on a busy machine: it may have been the last
        }
        let second = get();
        until(async || attempts.load(Ordering::Relaxed) == 4).await;
        open.store(true, Ordering::Relaxed);
        second.await.unwrap().unwrap_err();
        assert_eq!(attempts.load(Ordering::Relaxed), 4);
        break;
    }
}

/// The attempts are made at 0, 0.4, 1.2, 2.8, 5.3 s and so on: at most half of `wait` apart. bb8's own
/// end with the one of 5.3 s, since that is later than `wait` after the first.
#[tokio::test]
async fn attempts_go_on_for_callers_who_came_while_those_of_others_were_made() {
    let (url, attempts, open) = door().await;
    let limits = Limits {
        wait: Duration::from_secs(5),
        ..Limits::long("later", 1)
    };
    let pool = Pool::open(&url, &limits);
    let first = tokio::spawn({
        let pool = pool.clone();
        async move { pool.get().await.map(drop) }
    });
    until(async || attempts.load(Ordering::Relaxed) == 4).await;
    sleep(limits.wait / 4).await;
    let second = tokio::spawn({
        let pool = pool.clone();
        async move { ask(&pool).await }
    });
    until(async || attempts.load(Ordering::Relaxed) == 5).await;
    open.store(true, Ordering::Relaxed);
    first.await.unwrap().unwrap_err();
    assert!(second.await.unwrap() > 0);
}

#[tokio::test]
async fn a_silent_connection_is_thrown_away_if_its_check_is_given_up_early() {
    // By a `wait` below the limit of the check, or by a caller who has less time than both.
    for (wait, patience) in [(SHORT, LONG), (LONG, SHORT)] {
        let proxy = Proxy::start().await;
        let limits = Limits {
            wait,
            ..Limits::long("early", 1)
        };
        let pool = Pool::open(&proxy.url, &limits);
        until(async || pool.get().await.is_ok()).await;
        proxy.mute().await;
        proxy.unmute();
        let got = timeout(patience, pool.get()).await;
        assert!(!matches!(got, Ok(Ok(_))), "it is silent");
        assert_eq!(pool.status().size, 0);
        until(async || pool.get().await.is_ok()).await;
    }
}

/// The reaper's clock is the runtime's, and how long a connection was idle is real time.
#[tokio::test]
async fn idle_and_old_connections_are_closed_within_half_a_minute() {
    let limits = Limits::long("idle", 8);
    let moment = Duration::from_millis(1);
    for (idle, lifetime, left) in [(LONG, LONG, 8), (moment, LONG, 0), (LONG, moment, 0)] {
        let given = Settings {
            idle,
            lifetime,
            ..settings(&limits)
        };
        let pool = Pool::new(url().parse().unwrap(), NoTls, &given);
        drop(all(&pool, 8).await);
        sleep(2 * moment).await;
        tokio::time::pause();
        sleep(Duration::from_secs(31)).await;
        tokio::time::resume();
        assert_eq!(pool.status().size, left, "{idle:?} {lifetime:?}");
    }
}

#[tokio::test]
async fn an_old_failure_does_not_explain_a_later_one() {
    let role = "CREATE ROLE one_at_most LOGIN CONNECTION LIMIT 1";
    let admin = admin().await;
    admin.batch_execute(role).await.unwrap();
    let proxy = Proxy::start().await;
    let limits = Limits {
        wait: 5 * SHORT,
        ..Limits::long("later", 2)
    };
    let pool = Pool::open(
        &proxy.url.replace("user=postgres", "user=one_at_most"),
        &limits,
    );
    let mut held = None;
    until(async || {
        held = pool.get().await.ok();
        held.is_some()
    })
    .await;
    let error = support::refused(&pool, &limits).await;
    assert!(matches!(error, Refused::Rejected { .. }), "{error:?}");
    // A success, and then a server that says nothing.
    drop(held);
    kill(&admin, "later").await;
    let mut held = None;
    until(async || {
        held = pool.get().await.ok();
        held.is_some()
    })
    .await;
    proxy.mute().await;
    let error = Subject::get(&pool).await.unwrap_err();
    let limit = limits.wait;
    assert_eq!(error, Refused::TimedOut { limit });
}

thread_local! {
    /// Events of the recipe in this thread, and so in this thread's test.
    static EVENTS: Cell<usize> = const { Cell::new(0) };
}

/// Counts what is told to nobody else.
struct Events;

impl tracing::Subscriber for Events {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "pooling::bb8_pool"
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        EVENTS.set(EVENTS.get() + 1);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn a_failed_attempt_and_a_connection_thrown_away_are_events() {
    // For all threads: tracing may remember of another one that nobody listens.
    tracing::subscriber::set_global_default(Events).unwrap();
    let pool = Pool::open(url(), &Limits::long("events", 1));
    ask(&pool).await;
    assert_eq!(EVENTS.get(), 0);
    kill(&admin().await, "events").await;
    ask(&pool).await;
    assert_eq!(EVENTS.get(), 1);
    let (url, attempts) = slammed().await;
    let limits = Limits {
        wait: SHORT,
        ..Limits::long("events", 1)
    };
    Subject::get(&Pool::open(&url, &limits)).await.unwrap_err();
    until(async || attempts.load(Ordering::Relaxed) + 1 == EVENTS.get()).await;
}

#[tokio::test]
async fn a_connection_that_dies_in_use_is_not_taken_back() {
    let pool = Pool::open(url(), &Limits::long("dies", 1));
    let held = pool.get().await.unwrap();
    kill(&admin().await, "dies").await;
    until(async || held.is_closed()).await;
    drop(held);
    assert_eq!(pool.status().size, 0);
    ask(&pool).await;
}

//! What the pool of deadpool promises: the suite for all pools, and what a bare one does instead.
#![cfg(test)] // so that the lints take the helpers for what they are

mod support;

use std::num::NonZeroU16;
use std::time::Duration;

use deadpool_postgres::{
    Client, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime, Timeouts,
};
use pooling::deadpool_pool::{GetError, Settings, get, pool};
use support::{
    LONG, Limits, Proxy, Refused, SHORT, Status, Subject, all, ask, crowd, pid, until, url,
};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::NoTls;

impl Subject for Pool {
    type Connection = Client;
    const WAITS: bool = false;

    fn open(url: &str, limits: &Limits) -> Self {
        pool(url.parse().unwrap(), NoTls, &settings(limits)).unwrap()
    }

    async fn get(&self) -> Result<Client, Refused> {
        get(self).await.map_err(|error| match error {
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

    fn client(connection: &Client) -> &tokio_postgres::Client {
        connection
    }

    fn status(&self) -> Status {
        of(Pool::status(self))
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
        statement: limits.statement,
    }
}

fn of(status: deadpool_postgres::Status) -> Status {
    Status {
        max_size: status.max_size,
        size: status.size,
        idle: status.available,
        waiting: status.waiting,
    }
}

/// As it comes, but for the size and the check.
fn bare(url: &str, recycling_method: RecyclingMethod, timeouts: Timeouts) -> Pool {
    let config = ManagerConfig { recycling_method };
    let manager = Manager::from_config(url.parse().unwrap(), NoTls, config);
    let builder = Pool::builder(manager).max_size(8).timeouts(timeouts);
    builder.runtime(Runtime::Tokio1).build().unwrap()
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

// ------------------------------------------------------------------------- of deadpool's alone

#[tokio::test]
async fn callers_are_served_in_the_order_in_which_they_ask() {
    let pool = Pool::open(url(), &Limits::long("order", 1));
    let held = get(&pool).await.unwrap();
    let first = tokio::spawn({
        let pool = pool.clone();
        async move { ask(&pool).await }
    });
    yield_now().await;
    drop(held);
    ask(&pool).await;
    assert!(first.is_finished(), "the later caller was served first");
}

#[tokio::test]
async fn many_silent_connections_are_an_error_after_all_limits_together() {
    let proxy = Proxy::start().await;
    let limits = Limits {
        wait: SHORT,
        create: SHORT,
        recycle: SHORT,
        ..Limits::long("all-limits", 8)
    };
    let pool = Pool::open(&proxy.url, &limits);
    let mut held = Vec::new();
    until(async || {
        held.extend(get(&pool).await); // on a busy machine, not always within the limit
        held.len() == 8
    })
    .await;
    drop(held);
    proxy.mute().await;
    let refused = Subject::get(&pool).await.unwrap_err();
    assert_eq!(refused, Refused::TimedOut { limit: 3 * SHORT });
    proxy.unmute();
    until(async || get(&pool).await.is_ok()).await;
}

#[tokio::test]
async fn harm_a_bare_get_waits_for_each_silent_connection_in_turn() {
    let proxy = Proxy::start().await;
    let timeouts = Timeouts {
        recycle: Some(SHORT),
        ..Timeouts::default()
    };
    let pool = bare(&proxy.url, RecyclingMethod::Verified, timeouts);
    drop(all(&pool, 8).await);
    proxy.mute().await;
    proxy.unmute();
    let started = Instant::now();
    drop(pool.get().await.unwrap());
    assert!(started.elapsed() >= 8 * SHORT);
}

#[tokio::test]
async fn a_silent_connection_is_closed_when_it_is_thrown_away() {
    let proxy = Proxy::start().await;
    let limits = Limits {
        recycle: SHORT,
        ..Limits::long("closed", 1)
    };
    let pool = Pool::open(&proxy.url, &limits);
    ask(&pool).await;
    proxy.mute().await;
    proxy.unmute();
    ask(&pool).await;
    assert_eq!(proxy.accepted(), 2);
    until(async || proxy.open() == 1).await;
}

#[tokio::test]
async fn harm_the_default_check_hands_out_a_silent_connection() {
    let proxy = Proxy::start().await;
    let pool = bare(&proxy.url, RecyclingMethod::default(), Timeouts::default());
    ask(&pool).await;
    proxy.mute().await;
    proxy.unmute();
    let connection = pool.get().await.unwrap();
    timeout(5 * SHORT, pid(&connection))
        .await
        .expect_err("the silent one");
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test]
async fn harm_without_limits_a_get_waits_for_ever() {
    let pool = bare(url(), RecyclingMethod::Verified, Timeouts::default());
    let held = all(&pool, 8).await;
    tokio::time::pause(); // nothing is read or written
    timeout(Duration::from_secs(3600), pool.get())
        .await
        .expect_err("still waiting");
    tokio::time::resume();
    drop(held);

    let (_listener, url) = support::silent().await;
    let pool = bare(&url, RecyclingMethod::Verified, Timeouts::default());
    timeout(5 * SHORT, pool.get())
        .await
        .expect_err("still waiting");
}

#[tokio::test]
async fn harm_limits_without_a_runtime_are_an_error() {
    let builder = || Pool::builder(Manager::new(url().parse().unwrap(), NoTls));
    builder().wait_timeout(Some(LONG)).build().unwrap_err();
    builder().create_timeout(Some(LONG)).build().unwrap_err();
    builder().recycle_timeout(Some(LONG)).build().unwrap_err();
    // Or only later, if they come with the call.
    let pool = builder().build().unwrap();
    let error = pool
        .timeout_get(&Timeouts::wait_millis(60_000))
        .await
        .unwrap_err();
    assert!(matches!(error, PoolError::NoRuntimeSpecified), "{error:?}");
}

#[tokio::test]
async fn a_pool_that_is_closed_says_so_also_to_those_who_wait() {
    let pool = Pool::open(url(), &Limits::long("closing", 1));
    let held = get(&pool).await.unwrap();
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { get(&pool).await.unwrap_err() }
    });
    yield_now().await;
    pool.close();
    for error in [waiter.await.unwrap(), get(&pool).await.unwrap_err()] {
        assert!(
            matches!(error, GetError::Unusable(PoolError::Closed)),
            "{error:?}"
        );
    }
    pid(&held).await.expect("until it is given back");
}

#[tokio::test]
async fn harm_a_task_that_asks_for_a_second_connection_waits_for_itself() {
    let limits = Limits {
        wait: SHORT,
        ..Limits::long("second", 1)
    };
    let pool = Pool::open(url(), &limits);
    let _first = get(&pool).await.unwrap();
    let error = get(&pool).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no connection was free within 100ms: 1 of 1 open, 0 waiting"
    );
}

#[tokio::test]
async fn harm_the_pool_does_not_shrink_by_itself() {
    let pool = Pool::open(url(), &Limits::long("shrink", 8));
    drop(all(&pool, 8).await);
    tokio::time::pause(); // nothing is read or written
    sleep(Duration::from_secs(3600)).await;
    tokio::time::resume();
    assert_eq!(pool.status().size, 8);
    pool.retain(|_, _| false);
    assert_eq!(pool.status().size, 0);
    crowd(&pool, 100).await;
}

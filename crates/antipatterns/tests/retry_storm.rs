//! What retries in every layer do to a server in trouble, and to who waits.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::Cell;
use std::future::{pending, ready};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use antipatterns::retry_storm::show_user;
use retry::backoff::{Policy, RetryError, retry};
use retry::retry_budget::{RetryBudget, Settings};
use tokio::task::JoinSet;
use tokio::time::{Instant, error::Elapsed, sleep, sleep_until, timeout};

const MS: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_millis(500);
const A_TENTH: Settings = Settings {
    percent: 10,
    per_second: 1,
    saved: 10,
};

/// The same request with 27 tries, but in one layer and with a budget.
async fn show_user_within<T, E, F>(
    budget: &RetryBudget,
    mut send: impl FnMut() -> F,
) -> Result<T, RetryError<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let policy = Policy {
        base: MS,
        cap: MS,
        tries: NonZeroU32::new(27).unwrap(),
        total: Duration::MAX,
    };
    let judge = |_: &E| budget.try_retry().then_some(Duration::ZERO);
    budget.request();
    retry(&policy, fastrand::Rng::with_seed(7), judge, |_| send()).await
}

#[tokio::test(start_paused = true)]
async fn harm_an_outage_multiplies_the_load_by_27() {
    let calls = Cell::new(0);
    let fail = || {
        calls.set(calls.get() + 1);
        ready(Err::<(), _>("down"))
    };
    for _ in 0..1000 {
        show_user(fail).await.unwrap_err();
    }
    assert_eq!(calls.replace(0), 27_000);

    let budget = RetryBudget::new(A_TENTH);
    for _ in 0..1000 {
        show_user_within(&budget, fail).await.unwrap_err();
    }
    assert!((1100..1120).contains(&calls.get()), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn harm_the_error_comes_27_time_limits_late() {
    let started = Instant::now();
    let silence = || timeout(LIMIT, pending::<()>());
    show_user(silence).await.unwrap_err();
    assert_eq!(started.elapsed().as_millis() / 100, 135);
}

/// Answers one call after the other, each within 10 ms, whether or not somebody still waits for it.
#[derive(Clone)]
struct Server(Arc<Mutex<Instant>>);

impl Server {
    async fn call(self) -> Result<(), Elapsed> {
        let done = {
            let mut busy_until = self.0.lock().unwrap();
            *busy_until = Instant::now().max(*busy_until) + 10 * MS;
            *busy_until
        };
        timeout(LIMIT, sleep_until(done)).await
    }
}

/// A request every 16 ms for 16 s, of which the server stands still for the first two seconds.
/// How many of the last 300 are answered.
async fn answered_after_a_stall<F>(show: impl Fn(Server) -> F) -> usize
where
    F: Future<Output = bool> + Send + 'static,
{
    let stalled = Instant::now() + Duration::from_secs(2);
    let server = Server(Arc::new(Mutex::new(stalled)));
    let mut requests = JoinSet::new();
    for request in 0..1000 {
        let shown = show(server.clone());
        requests.spawn(async move { shown.await && request >= 700 });
        sleep(16 * MS).await;
    }
    let answered = requests.join_all().await;
    answered.into_iter().filter(|it| *it).count()
}

#[tokio::test(start_paused = true)]
async fn harm_a_server_that_stood_still_for_two_seconds_never_recovers() {
    let answered =
        answered_after_a_stall(async |server| show_user(|| server.clone().call()).await.is_ok());
    assert_eq!(answered.await, 0);
}

#[tokio::test(start_paused = true)]
async fn mended_the_same_server_recovers() {
    let budget = Arc::new(RetryBudget::new(A_TENTH));
    let answered = answered_after_a_stall(move |server| {
        let budget = Arc::clone(&budget);
        async move {
            show_user_within(&budget, || server.clone().call())
                .await
                .is_ok()
        }
    });
    assert_eq!(answered.await, 300);
}

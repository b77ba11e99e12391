//! How long callers wait within a time limit that does not count the wait.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::convert::Infallible;
use std::fmt::Display;
use std::future::Ready;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use antipatterns::limit_outside_timeout::{limit_outside, timeout_outside};
use futures_util::future::join_all;
use middleware::stack::{Settings, stack};
use middleware::timeout_layer::TimeLimitLayer;
use tokio::time::{Instant, sleep};
use tower::limit::ConcurrencyLimit;
use tower::retry::Policy;
use tower::{Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_millis(100);

async fn work(takes: Duration) -> Result<(), Infallible> {
    sleep(takes).await;
    Ok(())
}

/// Ten callers at once: what each of them is told, and after how many milliseconds.
#[expect(clippy::disallowed_methods, reason = "they are ten")]
async fn ten<S>(service: S, takes: Duration) -> Vec<(String, u128)>
where
    S: Service<Duration, Response = ()> + Clone,
    S::Error: Display,
{
    let started = Instant::now();
    join_all((0..10).map(|_| async {
        let told = service.clone().oneshot(takes).await;
        let told = told.map_or_else(|error| error.to_string(), |()| "ok".to_owned());
        (told, started.elapsed().as_millis())
    }))
    .await
}

/// One after the other.
fn each(told: &str, takes: u128) -> Vec<(String, u128)> {
    (1..=10)
        .map(|turn| (told.to_owned(), turn * takes))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn harm_the_last_of_ten_waits_for_800_ms_and_none_is_told_that_it_was_late() {
    let outside = timeout_outside(service_fn(work), 1, LIMIT);
    assert_eq!(ten(outside, 80 * MS).await, each("ok", 80));
    let inside = limit_outside(service_fn(work), 1, LIMIT);
    assert_eq!(ten(inside, 80 * MS).await, each("ok", 80));
}

#[tokio::test(start_paused = true)]
async fn harm_the_last_of_ten_is_told_after_ten_limits_that_the_service_hangs() {
    let outside = timeout_outside(service_fn(work), 1, LIMIT);
    assert_eq!(
        ten(outside, 1000 * LIMIT).await,
        each("request timed out", 100)
    );
    let inside = limit_outside(service_fn(work), 1, LIMIT);
    assert_eq!(
        ten(inside, 1000 * LIMIT).await,
        each("request timed out", 100)
    );
}

#[derive(Clone)]
struct NoRetries;

impl<R, T, E> Policy<R, T, E> for NoRetries {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut R, _: &mut Result<T, E>) -> Option<Ready<()>> {
        None
    }

    fn clone_request(&mut self, _: &R) -> Option<R> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn mended_each_of_the_ten_has_its_answer_within_the_limit() {
    let settings = Settings {
        time_limit: LIMIT,
        try_limit: LIMIT,
        queue: NonZeroUsize::new(10).unwrap(),
        concurrency: NonZeroUsize::MIN,
        per_second: NonZeroU64::new(1000).unwrap(),
    };
    for (takes, first) in [(80 * MS, ("ok", 80)), (1000 * LIMIT, ("timed out", 100))] {
        let service = stack(settings, NoRetries, service_fn(work));
        let mut expected = vec![("timed out", 100); 10];
        expected[0] = first;
        let told = ten(service, takes).await;
        let told: Vec<_> = told.iter().map(|(told, at)| (told.as_str(), *at)).collect();
        assert_eq!(told, expected);

        let limit = ConcurrencyLimit::new(service_fn(work), 1);
        let told = ten(TimeLimitLayer::new(LIMIT).layer(limit), takes).await;
        let at: Vec<_> = told.iter().map(|(_, at)| *at).collect();
        assert_eq!(at, expected.iter().map(|(_, at)| *at).collect::<Vec<_>>());
    }
}

//! cargo run --example stack
//!
//! Eight callers, a backend that takes two at a time, and a queue of four. Each must have an answer
//! within 300 ms, be it that there is none. Then the same in the naive order. The clock is virtual.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use futures_util::FutureExt;
use middleware::stack::{Settings, StackError, stack};
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower::retry::Policy;
use tower::{ServiceBuilder, ServiceExt, service_fn};

#[derive(Debug, Error)]
#[error("{0} is unknown")]
struct Unknown(u32);

/// Tries what took too long once more, at once. What is unknown remains so.
#[derive(Debug, Clone)]
struct OnceMore(bool);

impl<T> Policy<u32, T, StackError<Unknown>> for OnceMore {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut u32,
        result: &mut Result<T, StackError<Unknown>>,
    ) -> Option<Ready<()>> {
        let hung = matches!(result, Err(StackError::TimedOut));
        (hung && !std::mem::replace(&mut self.0, true)).then(|| ready(()))
    }

    fn clone_request(&mut self, request: &u32) -> Option<u32> {
        Some(*request)
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let started = Instant::now();
    let at = move || started.elapsed().as_millis();
    let at_least_one = |number: usize| NonZeroUsize::MIN.saturating_add(number - 1);
    let settings = Settings {
        time_limit: Duration::from_millis(300),
        try_limit: Duration::from_millis(100),
        queue: at_least_one(4),
        concurrency: at_least_one(2),
        per_second: NonZeroU64::MIN.saturating_add(99),
    };
    let backend = service_fn(move |request: u32| async move {
        println!("{:>3} ms    works on {request}", at());
        let hangs = request == 1 && at() < 100; // the first time
        sleep(Duration::from_millis(if hangs { 1000 } else { 80 })).await;
        if request == 2 {
            Err(Unknown(request))
        } else {
            Ok(request)
        }
    });
    let service = stack(settings, OnceMore(false), backend);

    let mut calls = JoinSet::new();
    for request in 0..8 {
        let call = service.clone().oneshot(request);
        calls.spawn(call.map(move |result| (request, result)));
        tokio::task::yield_now().await; // the queue's worker has its turn
    }
    while let Some(Ok((request, result))) = calls.join_next().await {
        let end = match result {
            Ok(_) => "done".to_owned(),
            Err(StackError::Inner(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        println!("{:>3} ms  {request}: {end}", at());
    }

    let naive = ServiceBuilder::new()
        .timeout(settings.time_limit) // begins when there is a place
        .concurrency_limit(2)
        .service_fn(async |()| {
            sleep(Duration::from_millis(100)).await;
            Ok::<_, Infallible>(())
        });
    let started = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        calls.spawn(naive.clone().oneshot(()));
    }
    let in_time = calls.join_all().await.iter().all(Result::is_ok);
    let last = started.elapsed().as_millis();
    println!("the naive order: in time: {in_time}, though the last one waited for {last} ms");
}

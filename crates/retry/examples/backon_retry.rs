//! cargo run --example backon_retry
//!
//! A call that fails twice for a reason that passes, then one that fails for good. Each wait is told
//! before it is waited. The jitter is seeded here, so that it prints the same on every run; the clock
//! is virtual, so it ends at once.

use std::future::ready;
use std::num::NonZeroUsize;
use std::time::Duration;

use backon::Retryable;
use retry::backon_retry::{Policy, retry};
use thiserror::Error;
use tokio::time::Instant;

#[derive(Debug, Error)]
enum GetError {
    #[error("the server is busy")]
    Busy,
    #[error("there is no such page")]
    NotFound,
}

impl GetError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Busy)
    }
}

const POLICY: Policy = Policy {
    base: Duration::from_millis(100),
    cap: Duration::from_secs(2),
    tries: NonZeroUsize::MIN.saturating_add(4),
    total: Duration::from_secs(10),
};

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    // A chain of your own, with the policy in backon's terms.
    let started = Instant::now();
    let mut answers = [GetError::Busy, GetError::Busy].into_iter();
    let get = || ready(answers.next().map_or(Ok("a page"), Err));
    let page = get
        .retry(POLICY.builder().with_jitter_seed(7))
        .when(GetError::is_transient)
        .notify(|error, wait| println!("{error}: again in {} ms", wait.as_millis()))
        .await;
    println!("{page:?} after {} ms", started.elapsed().as_millis());

    // The recipe's function, which limits the time in all as well.
    let judge = |error: &GetError| error.is_transient().then_some(Duration::ZERO);
    let tell = |error: &GetError, _| println!("{error}: again");
    let get = || ready(Err::<(), _>(GetError::NotFound));
    if let Err(error) = retry(&POLICY, judge, tell, get).await {
        println!("{error}: {:?}", std::error::Error::source(&error));
    }
}

//! cargo run --example retryable
//!
//! A bank fails in every way it can, and the error of each call says whether to pay again. The clock
//! is virtual.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Duration;

use errors::retryable::{Retry, Retryable};
use thiserror::Error;
use tokio::time::{Instant, sleep};

#[derive(Debug, Error)]
enum PayError {
    #[error("not enough money")]
    NoMoney,
    #[error("the bank is busy")]
    Busy { wait: Duration },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Retryable for PayError {
    fn retry(&self) -> Retry {
        match self {
            Self::NoMoney => Retry::Never,
            Self::Busy { wait } => Retry::Later { after: Some(*wait) },
            Self::Io(error) => error.retry(),
        }
    }
}

async fn pay(name: &str, idempotent: bool, answers: &mut VecDeque<Result<(), PayError>>) {
    let started = Instant::now();
    while let Some(answer) = answers.pop_front() {
        let now = started.elapsed().as_millis();
        let Err(error) = answer else {
            println!("{now:>5} ms  {name}: paid");
            return;
        };
        let Some(wait) = error.retry().wait_at_least(idempotent) else {
            println!(
                "{now:>5} ms  {name}: {error}, {:?}: given up",
                error.retry()
            );
            return;
        };
        println!("{now:>5} ms  {name}: {error}, {:?}", error.retry());
        sleep(wait.max(Duration::from_millis(100))).await;
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let io = |kind: ErrorKind| Err(PayError::from(io::Error::from(kind)));
    let wait = Duration::from_secs(2);
    let busy = || Err(PayError::Busy { wait });
    let refused = || io(ErrorKind::ConnectionRefused);
    let reset = || io(ErrorKind::ConnectionReset);
    pay("rent", false, &mut [refused(), busy(), Ok(())].into()).await;
    pay("food", false, &mut [busy(), Err(PayError::NoMoney)].into()).await;
    pay("gift", false, &mut [reset(), Ok(())].into()).await;
    pay("gift with a key", true, &mut [reset(), Ok(())].into()).await;
}

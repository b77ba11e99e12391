//! cargo run --example every_await_point
//!
//! Two ways to move money between two accounts. Both are right until somebody drops them half way.

use std::time::Duration;

use testing::every_await_point::{AwaitPointError, every_await_point};
use tokio::sync::Mutex;

struct Bank {
    from: Mutex<u32>,
    to: Mutex<u32>,
}

/// Between the two statements the money is in neither account.
async fn careless(bank: &mut Bank) {
    *bank.from.lock().await -= 10;
    *bank.to.lock().await += 10;
}

/// Every await comes before the first change.
async fn careful(bank: &mut Bank) {
    let mut from = bank.from.lock().await;
    let mut to = bank.to.lock().await;
    *from -= 10;
    *to += 10;
}

async fn attempt(transfer: impl AsyncFn(&mut Bank)) -> Result<usize, AwaitPointError> {
    every_await_point(
        Duration::from_secs(60),
        async || Bank {
            from: Mutex::new(100),
            to: Mutex::new(0),
        },
        transfer,
        async |bank, _| {
            let sum = bank.from.into_inner() + bank.to.into_inner();
            assert!(sum == 100, "{sum} left of 100");
        },
    )
    .await
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    // The harness reports a failed check as an error; the panic's own message would only repeat it.
    std::panic::set_hook(Box::new(|_| {}));
    for (name, result) in [
        ("careless", attempt(careless).await),
        ("careful", attempt(careful).await),
    ] {
        match result {
            Ok(points) => println!("{name}: nothing lost, await points tried: {points}"),
            Err(error) => println!("{name}: {error}"),
        }
    }
}

//! cargo run --example mock_by_trait
//!
//! Code that asks for an exchange rate, at most 100 ms long, and tries again once. Its other side is
//! a scripted fake: first late, then right; and then code that asks too often.

use std::time::Duration;

use testing::mock_by_trait::{Method, Script};
use tokio::time::timeout;

/// The trait of the code under test. Its futures are `Send`, so that callers may be spawned.
trait Rates {
    fn rate(&self, currency: &str) -> impl Future<Output = Option<u32>> + Send;
}

/// The code under test.
async fn convert(rates: &impl Rates, amount: u32, currency: &str) -> Option<u32> {
    let limit = Duration::from_millis(100);
    for _ in 0..2 {
        if let Ok(rate) = timeout(limit, rates.rate(currency)).await {
            return Some(amount * rate?);
        }
    }
    None
}

/// The fake: a `Method` for each method of the trait, which passes its arguments on.
struct FakeRates {
    rate: Method<String, Option<u32>>,
}

impl Rates for FakeRates {
    async fn rate(&self, currency: &str) -> Option<u32> {
        self.rate.call(currency.to_owned()).await
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    std::panic::set_hook(Box::new(|_| {})); // the script tells of the panic below
    let script = Script::in_order();
    let rates = FakeRates {
        rate: script.method("rate"),
    };
    rates
        .rate
        .expect_late("EUR".to_owned(), Duration::from_millis(150), Some(2));
    rates
        .rate
        .expect_late("EUR".to_owned(), Duration::from_millis(20), Some(3));
    println!("10 EUR: {:?}", convert(&rates, 10, "EUR").await);
    for (at, call) in script.calls() {
        println!("  at {at:?}: {call}");
    }
    script.finish()?;

    let script = Script::in_order();
    let rates = FakeRates {
        rate: script.method("rate"),
    };
    rates.rate.expect("USD".to_owned(), None);
    rates.rate.expect("GBP".to_owned(), Some(4));
    println!("10 USD: {:?}", convert(&rates, 10, "USD").await);
    // In a task that nobody awaits: the panic of the wrong call is not seen there.
    tokio::spawn(async move { convert(&rates, 10, "USD").await });
    tokio::task::yield_now().await;
    if let Err(error) = script.finish() {
        println!("the test fails: {error}");
    }
    Ok(())
}

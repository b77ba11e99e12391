//! cargo run --example select_ok_or_first
//!
//! The primary refuses after 1 ms, the replica answers after 20 ms: who wins?

use std::time::Duration;

use antipatterns::select_ok_or_first::quicker;
use futures_util::FutureExt;
use select::first_success::first_success;
use tokio::time::{Instant, sleep};

const MS: Duration = Duration::from_millis(1);

type Answer = Result<&'static str, &'static str>;

async fn primary() -> Answer {
    sleep(MS).await;
    Err("connection refused")
}

async fn replica() -> Answer {
    sleep(20 * MS).await;
    Ok("42 rows")
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let started = Instant::now();
    let answer = quicker(primary(), replica()).await;
    let at = started.elapsed().as_millis();
    println!("select!:       after {at:>2} ms {answer:?}");

    let started = Instant::now();
    let race = [primary().boxed(), replica().boxed()];
    let won = first_success(race, Duration::ZERO).await;
    let at = started.elapsed().as_millis();
    match won {
        Ok(won) => println!(
            "first_success: after {at:>2} ms {:?}, failed: {:?}",
            won.value, won.failed
        ),
        Err(error) => println!("first_success: after {at:>2} ms {error}"),
    }
}

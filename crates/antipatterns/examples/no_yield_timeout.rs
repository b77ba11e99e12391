//! cargo run --example no_yield_timeout
//!
//! A search among a million, and no time for it. How many are looked at?

use std::time::Duration;

use antipatterns::no_yield_timeout::{find_in_stream_within, find_within};
use futures_util::{FutureExt, stream};
use timers::deadline::Deadline;
use tokio::task::consume_budget;
use tokio::time::advance;

const MS: Duration = Duration::from_millis(1);
const MILLION: u32 = 1_000_000;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let mut seen = 0;
    let found = find_within(Duration::ZERO, 0..MILLION, |_| {
        seen += 1;
        false
    });
    let found = found.await;
    println!("timeout, an iterator: {seen} looked at, then {found:?}");

    let mut seen = 0;
    let found = find_in_stream_within(Duration::ZERO, stream::iter(0..MILLION), |_| {
        seen += 1;
        false
    });
    let found = found.await;
    println!("timeout, a stream:    {seen} looked at, then {found:?}");

    // The clock moves by a millisecond for each, and is looked at after each 128.
    let mut seen = 0;
    let search = async {
        for _ in 0..MILLION {
            seen += 1;
            advance(MS).now_or_never(); // stands for a computation of 1 ms
            consume_budget().await; // now and then this lets the others have their turn
        }
    };
    let found = Deadline::within("search", MS).run("search", search).await;
    println!("deadline:             {seen} looked at, then {found:?}");
}

//! cargo run --example stream_never_waits
//!
//! A million items, all of them ready at once, with a limit of nothing around them, and another
//! task on the same thread.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use antipatterns::stream_never_waits::index_all;
use futures_util::{StreamExt, stream};
use streams::from_iter_and_interval::cooperative;
use tokio::time::timeout;

/// A task that tells that it had a turn.
fn other_task() -> Arc<AtomicBool> {
    let had_a_turn = Arc::new(AtomicBool::new(false));
    let turn = Arc::clone(&had_a_turn);
    tokio::spawn(async move { turn.store(true, Ordering::Relaxed) });
    had_a_turn
}

fn say(how: &str, all_done: bool, had_a_turn: &AtomicBool) {
    let limit = if all_done { "did not come" } else { "came" };
    let other = if had_a_turn.load(Ordering::Relaxed) {
        "had a turn"
    } else {
        "had none"
    };
    println!("{how} the limit {limit}, the other task {other}");
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let turn = other_task();
    let indexed = index_all(0..1_000_000, Duration::ZERO, |_| ready(())).await;
    say("stream::iter:", indexed.is_ok(), &turn);

    let turn = other_task();
    let items = cooperative(stream::iter(0..1_000_000)).for_each(|_| ready(()));
    let indexed = timeout(Duration::ZERO, items).await;
    say("cooperative: ", indexed.is_ok(), &turn);
}

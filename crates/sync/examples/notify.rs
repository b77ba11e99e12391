//! cargo run --example notify
//!
//! Orders wait until a store has all of their parts, and take them in one step: no order holds
//! wheels while another holds the frame. One gives up; one ends because the store closes. The clock
//! is virtual, so it ends at once.

use std::time::Duration;

use sync::notify::Monitor;
use tokio::time::{Instant, sleep_until, timeout};

#[derive(Default)]
struct Stock {
    frames: u32,
    wheels: u32,
    closed: bool,
}

/// Waits for the parts and takes them. False if the store closes before they are all there.
async fn order(store: &Monitor<Stock>, frames: u32, wheels: u32) -> bool {
    let take = |stock: &mut Stock| {
        if stock.frames >= frames && stock.wheels >= wheels {
            stock.frames -= frames;
            stock.wheels -= wheels;
            return Some(true);
        }
        stock.closed.then_some(false)
    };
    store.wait_until(take).await
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let started = Instant::now();
    let at = |ms| started + Duration::from_millis(ms);
    let say = |what: &str| println!("{:>3} ms  {what}", started.elapsed().as_millis());
    let store = Monitor::<Stock>::default();

    let buyer = async |name: &str, frames, wheels, patience| {
        let limit = Duration::from_millis(patience);
        match timeout(limit, order(&store, frames, wheels)).await {
            Ok(true) => say(&format!("{name} has all its parts")),
            Ok(false) => say(&format!("{name} goes home: the store has closed")),
            Err(_) => say(&format!("{name} waits no longer")),
        }
    };
    let deliveries = async {
        for (ms, frames, wheels) in [(100, 0, 2), (200, 1, 0), (300, 2, 4)] {
            sleep_until(at(ms)).await;
            say(&format!("delivered: {frames} frames, {wheels} wheels"));
            store.update(|stock| {
                stock.frames += frames;
                stock.wheels += wheels;
            });
        }
        sleep_until(at(400)).await;
        store.update(|stock| stock.closed = true);
    };
    tokio::join!(
        buyer("the bicycle", 1, 2, 1_000),
        buyer("the tricycle", 1, 3, 1_000),
        buyer("the tandem", 2, 2, 1_000),
        buyer("the cart", 0, 4, 250),
        deliveries,
    );
    let left = store.read(|stock| format!("{} frames, {} wheels", stock.frames, stock.wheels));
    say(&format!("left: {left}"));
}

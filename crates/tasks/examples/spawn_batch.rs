//! cargo run --example spawn_batch
//!
//! Six thumbnails to make, three at a time. They are done in another order than they were given in,
//! one of them panics, and the results come in the order of the inputs.

use std::num::NonZeroUsize;
use std::time::Duration;

use tasks::spawn_batch::spawn_batch;
use tokio::time::{Instant, sleep};

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    std::panic::set_hook(Box::new(|_| {})); // the result tells of the panic; once is enough
    let started = Instant::now();
    let images = [
        ("beach", 90),
        ("castle", 30),
        ("dunes", 50),
        ("empty", 0),
        ("forest", 40),
        ("glacier", 30),
    ];
    let limit = NonZeroUsize::MIN.saturating_add(2);
    let results = spawn_batch(limit, images, |(name, size): (&str, u64)| async move {
        let at = started.elapsed().as_millis();
        println!("{at:>3} ms  {name}: started");
        assert!(size > 0, "nothing to scale");
        sleep(Duration::from_millis(size)).await;
        let at = started.elapsed().as_millis();
        println!("{at:>3} ms  {name}: done");
        size / 10
    });

    for ((name, _), result) in images.into_iter().zip(results.await) {
        match result {
            Ok(kilobytes) => println!("{name}: {kilobytes} kB"),
            Err(error) => println!("{name}: {error}"),
        }
    }
}

//! cargo run --example merge
//!
//! Three sensors are read as one stream. One of them comes back before the loss of its first
//! connection was noticed: the second is not taken until the end of the first is told. One is taken
//! out. The clock is virtual, so it ends at once.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use streams::merge::{Event, Merged};
use tokio::time::{Instant, sleep};

/// A reading each `period` milliseconds, `count` in all.
fn sensor(period: u64, count: u32) -> BoxStream<'static, u32> {
    let readings = stream::iter(1..=count).then(move |reading| {
        let pause = sleep(Duration::from_millis(period));
        async move {
            pause.await;
            reading
        }
    });
    readings.boxed()
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let started = Instant::now();
    let mut sensors = Merged::new();
    let mut waiting = Vec::new();
    for (name, stream) in [
        ("cellar", sensor(30, 2)),
        ("roof", sensor(50, 9)),
        ("door", sensor(70, 2)),
        ("cellar", sensor(44, 3)),
    ] {
        if let Err(occupied) = sensors.insert(name, stream) {
            println!("  0 ms  {name}: {occupied}");
            waiting.push((occupied.key, occupied.stream));
        }
    }
    while let Some((name, event)) = sensors.next().await {
        let at = started.elapsed().as_millis();
        match event {
            Event::Item(reading) => println!("{at:>3} ms  {name}: reading {reading}"),
            Event::Ended => {
                println!("{at:>3} ms  {name}: has ended");
                let again = waiting.extract_if(.., |(key, _)| *key == name).next();
                if let Some((key, stream)) = again {
                    println!("{at:>3} ms  {name}: the second one takes its place");
                    sensors.insert(key, stream).ok();
                }
            }
        }
        if (name, event) == ("roof", Event::Item(3)) {
            let taken_out = sensors.remove(&"roof").is_some();
            println!(
                "{at:>3} ms  roof: taken out: {taken_out}, {} left",
                sensors.len()
            );
        }
    }
}

//! cargo run --example fan_out
//!
//! Lines of a log come as a stream, three workers parse them, and a database that takes 40 ms for each
//! reads the results in the order of the lines. Four lines are taken before the first result is read,
//! then one for each that is: the reader sets the pace. A malformed line is reported in its place.

use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use structured::fan_out::{Limits, Order, fan_out};
use tokio::time::{Instant, sleep};

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    std::panic::set_hook(Box::new(|_| {})); // the result tells of the panic; once is enough
    let started = Instant::now();
    let now = move || started.elapsed().as_millis();
    let lines = [
        ("GET /", 25),
        ("GET /shop", 5),
        ("?", 12),
        ("POST /cart", 10),
        ("GET /help", 15),
        ("GET /news", 5),
        ("GET /about", 8),
    ];
    let limits = Limits {
        workers: NonZeroUsize::MIN.saturating_add(2),
        buffer: 1,
    };
    let lines = stream::iter(lines);
    let mut parsed = fan_out(
        limits,
        Order::AsGiven,
        lines,
        move |(line, millis)| async move {
            println!("{:>3} ms  parsing {line}", now());
            sleep(Duration::from_millis(millis)).await;
            assert!(line.len() > 1, "no method");
            line.len()
        },
    );

    while let Some(result) = parsed.next().await {
        match result {
            Ok(length) => println!("{:>3} ms        stored, {length} bytes", now()),
            Err(failure) => println!("{:>3} ms        {failure}", now()),
        }
        sleep(Duration::from_millis(40)).await;
    }
    println!("{:>3} ms  all done", now());
}

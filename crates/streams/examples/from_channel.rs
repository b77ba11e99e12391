//! cargo run --example from_channel
//!
//! A producer reads a log, 10 ms a line, at most two lines ahead of its reader. Once it is dropped
//! when the reader has enough, once it fails in the middle, and the stream says so. The clock is
//! virtual, so it ends at once.

use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, future};
use streams::from_channel::{Produced, produce};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

#[derive(Debug, Error)]
#[error("line {0} is cut off")]
struct CutOff(usize);

fn lines(log: &'static [&'static str], started: Instant) -> Produced<&'static str, CutOff> {
    let two = NonZeroUsize::MIN.saturating_add(1);
    produce(two, async move |sender: mpsc::Sender<&'static str>| {
        for (number, line) in log.iter().enumerate() {
            sleep(Duration::from_millis(10)).await;
            if !line.ends_with('.') {
                return Err(CutOff(number + 1));
            }
            println!("{:>4} ms  read {line}", started.elapsed().as_millis());
            if sender.send(line).await.is_err() {
                break; // nobody wants more
            }
        }
        Ok(())
    })
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let started = Instant::now();
    let log = &[
        "GET /a.", "PUT /b.", "GET /c.", "GET /d.", "PUT /e.", "GET /f.", "GET /g.",
    ];

    let mut gets = lines(log, started)
        .try_filter(|line| future::ready(line.starts_with("GET")))
        .map_ok(|line| line.replace("GET ", ""))
        .take(2);
    while let Ok(Some(page)) = gets.try_next().await {
        sleep(Duration::from_millis(100)).await; // a slow reader
        println!(
            "{:>4} ms      done with {page}",
            started.elapsed().as_millis()
        );
    }
    drop(gets);
    println!("{:>4} ms  enough", started.elapsed().as_millis());

    sleep(Duration::from_secs(1)).await; // nobody reads on in the meantime
    let mut all = lines(&["GET /a.", "GET /b.", "GET"], started);
    while let Some(line) = all.next().await {
        match line {
            Ok(line) => println!("{:>4} ms      got {line}", started.elapsed().as_millis()),
            Err(error) => println!("{:>4} ms      {error}", started.elapsed().as_millis()),
        }
    }
}

//! cargo run --example pinning
//!
//! First the sizes of four futures that do the same. Then a stream written by hand, which keeps the
//! future of an async function from one poll to the next, all of them in one allocation. The clock is
//! virtual.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use traits::pinning::{Stored, at_most, future_size};

async fn holds_a_buffer() -> usize {
    let buffer = [1_u8; 16 * 1_024];
    yield_now().await;
    buffer.iter().map(|byte| usize::from(*byte)).sum()
}

async fn lets_it_go() -> usize {
    let sum = {
        let buffer = [1_u8; 16 * 1_024];
        buffer.iter().map(|byte| usize::from(*byte)).sum()
    };
    yield_now().await;
    sum
}

async fn boxes_it() -> usize {
    Box::pin(holds_a_buffer()).await
}

async fn passes_it_on(work: impl Future<Output = usize>) -> usize {
    work.await
}

/// A sensor that takes its time.
async fn read(number: u32) -> u32 {
    sleep(Duration::from_millis(100)).await;
    number * number
}

/// Its readings, as a stream.
#[derive(Default)]
struct Readings {
    number: u32,
    reading: Stored<u32>,
}

impl Stream for Readings {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        if !self.reading.is_running() {
            self.number += 1;
            let next = read(self.number);
            self.reading.replace(next);
        }
        Poll::Ready(ready!(self.reading.poll(cx)))
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let pass = |()| passes_it_on(holds_a_buffer());
    let near = |bytes: usize| bytes / 1_024;
    println!(
        "holds a buffer: {} KiB",
        near(future_size(|()| holds_a_buffer()))
    );
    println!("lets it go: {} KiB", near(future_size(|()| lets_it_go())));
    println!("boxes it: {} KiB", near(future_size(|()| boxes_it())));
    println!("passes it on: {} KiB", near(future_size(pass)));
    println!("sum: {}", at_most::<64, _>(boxes_it()).await);

    let started = Instant::now();
    let mut readings = Readings::default().take(3);
    while let Some(value) = readings.next().await {
        println!("{} ms: {value}", started.elapsed().as_millis());
    }
}

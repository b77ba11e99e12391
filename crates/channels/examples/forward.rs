//! cargo run --example forward
//!
//! Two ways to move numbers from one channel to another. Both are cancelled a hundred times on the
//! way, and go on; then the arrivals are counted.

use std::time::Duration;

use channels::forward::forward;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{sleep, timeout};

/// Cancelled while it waits for room in `to`, this drops the number that it holds.
async fn naive(from: &mut Receiver<u32>, to: &Sender<u32>) {
    while let Some(number) = from.recv().await {
        if to.send(number).await.is_err() {
            return;
        }
    }
}

async fn careful(from: &mut Receiver<u32>, to: &Sender<u32>) {
    if let Err(error) = forward(from, to, |number| number).await {
        println!("{error}");
    }
}

async fn count_arrivals(mover: impl AsyncFn(&mut Receiver<u32>, &Sender<u32>)) -> u32 {
    let (source, mut from) = mpsc::channel(4);
    let (to, mut target) = mpsc::channel(4);
    let cancel_again_and_again = async {
        for _ in 0..100 {
            // An error is the cancellation that we came for.
            drop(timeout(Duration::from_millis(5), mover(&mut from, &to)).await);
        }
        mover(&mut from, &to).await;
        drop(to);
    };
    let send = async move {
        for number in 0..1_000 {
            if source.send(number).await.is_err() {
                return;
            }
        }
    };
    let receive_slowly = async {
        let mut arrived = 0;
        while target.recv().await.is_some() {
            arrived += 1;
            sleep(Duration::from_millis(1)).await;
        }
        arrived
    };
    let ((), (), arrived) = tokio::join!(cancel_again_and_again, send, receive_slowly);
    arrived
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    println!(
        "recv, then send:    {:>4} of 1000 arrived",
        count_arrivals(naive).await
    );
    println!(
        "reserve, then recv: {:>4} of 1000 arrived",
        count_arrivals(careful).await
    );
}

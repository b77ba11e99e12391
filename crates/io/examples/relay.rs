//! cargo run --example relay
//!
//! A client asks through a relay and finishes its side; the answer still comes back. A client that
//! types a letter a second is left alone, one that falls silent is not. The clock is virtual.

use std::num::NonZeroUsize;
use std::time::Duration;

use io::relay::{Limits, Report, relay};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);
const LIMITS: Limits = Limits {
    idle: Duration::from_secs(30),
    buffer: NonZeroUsize::MIN.saturating_add(8 * 1024 - 1),
};

/// Runs a relay between the two peers, each at the far end of its stream.
async fn between(client: impl AsyncFnOnce(DuplexStream), server: impl AsyncFnOnce(DuplexStream)) {
    let started = Instant::now();
    let (client_end, mut a) = duplex(64);
    let (mut b, server_end) = duplex(64);
    let run = async {
        let report = relay(&mut a, &mut b, LIMITS, &CancellationToken::new()).await;
        drop((a, b)); // tells the peers
        report
    };
    let (
        Report {
            a_to_b,
            b_to_a,
            end,
        },
        (),
        (),
    ) = tokio::join!(run, client(client_end), server(server_end));
    let (there, back) = (a_to_b.written, b_to_a.written);
    let seconds = started.elapsed().as_secs();
    println!("  {end:?} after {seconds} s: {there} bytes there, {back} back");
}

/// Reads to the end and answers with the number of bytes.
async fn count_bytes(mut stream: DuplexStream) {
    let mut text = Vec::new();
    if stream.read_to_end(&mut text).await.is_ok() {
        let answer = format!("{} bytes", text.len());
        stream.write_all(answer.as_bytes()).await.ok(); // the client may have left
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    println!("A client that finishes its side and waits for the answer:");
    let asks = async |mut stream: DuplexStream| {
        stream.write_all(b"How long is this?").await.ok();
        stream.shutdown().await.ok();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok();
        println!("  the answer: {answer}");
    };
    between(asks, count_bytes).await;

    println!("A letter a second for two minutes, then silence:");
    let types = async |mut stream: DuplexStream| {
        for _ in 0..120 {
            sleep(SECOND).await;
            stream.write_all(b"x").await.ok();
        }
        stream.read_u8().await.ok(); // waits for the relay to give up
    };
    between(types, count_bytes).await;
}

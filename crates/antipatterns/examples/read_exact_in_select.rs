//! cargo run --example read_exact_in_select
//!
//! Two messages; the first comes in two pieces, with a keep-alive in between.

use std::io;
use std::num::NonZeroUsize;
use std::time::Duration;

use antipatterns::read_exact_in_select::read_messages;
use select::frame_reader::{FrameError, FrameReader, u32_prefix};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::select;
use tokio::time::{Instant, Interval, interval_at, sleep};

/// The stream with its two pieces, 100 ms apart, and a tick at 50 ms.
fn connection() -> (DuplexStream, Interval) {
    let (mut peer, stream) = duplex(64);
    tokio::spawn(async move {
        peer.write_all(b"\0\0\0\x05").await?;
        sleep(Duration::from_millis(100)).await;
        peer.write_all(b"hello\0\0\0\x05world").await
    });
    let tick = Instant::now() + Duration::from_millis(50);
    (stream, interval_at(tick, Duration::from_secs(60)))
}

fn say(message: &[u8]) {
    println!("  {}", String::from_utf8_lossy(message));
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), FrameError> {
    println!("read_exact:");
    let (stream, mut ticks) = connection();
    let handle = |message: Vec<u8>| say(&message);
    let ended: io::Result<()> = read_messages(stream, &mut ticks, handle, || ()).await;
    if let Err(error) = ended {
        println!("  {error}");
    }

    println!("frame_reader:");
    let (stream, mut ticks) = connection();
    let limit = NonZeroUsize::MIN.saturating_add(1 << 20);
    let mut reader = FrameReader::new(stream, u32_prefix, limit);
    loop {
        select! {
            frame = reader.next() => match frame? {
                Some(frame) => say(&frame.payload),
                None => return Ok(()),
            },
            _ = ticks.tick() => {}
        }
    }
}

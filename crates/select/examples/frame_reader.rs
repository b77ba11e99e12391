//! cargo run --example frame_reader
//!
//! A peer's bytes trickle in, and a `select!` with a heartbeat drops the read again and again. What
//! had come is still there for the next one. Then the peer claims a frame of four gigabytes. The
//! clock is virtual.

use std::num::NonZeroUsize;
use std::time::Duration;

use select::frame_reader::{FrameReader, u32_prefix};
use tokio::io::{AsyncWriteExt, duplex};
use tokio::select;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let started = Instant::now();
    let (mut peer, input) = duplex(64);
    tokio::spawn(async move {
        for piece in [
            &b"\0\0"[..],
            b"\0\x05he",
            b"llo\0\0\0\x06wor",
            b"ld!",
            b"\xff\xff\xff\xff",
        ] {
            sleep(Duration::from_millis(75)).await;
            if peer.write_all(piece).await.is_err() {
                return;
            }
        }
    });

    let limit = NonZeroUsize::MIN.saturating_add(1023);
    let mut frames = FrameReader::new(input, u32_prefix, limit);
    let mut heartbeat = interval(Duration::from_millis(40));
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let event = select! {
            _ = heartbeat.tick() => "heartbeat".to_owned(),
            frame = frames.next() => match frame {
                Ok(Some(frame)) => format!("frame {:?}", String::from_utf8_lossy(&frame.payload)),
                Ok(None) => break,
                Err(error) => {
                    println!("{:>3} ms  {error}", started.elapsed().as_millis());
                    break;
                }
            },
        };
        println!("{:>3} ms  {event}", started.elapsed().as_millis());
    }
}

//! What a tick does to a read that is half done.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::io;
use std::num::NonZeroUsize;
use std::time::Duration;

use antipatterns::read_exact_in_select::{read_lines, read_messages};
use select::frame_reader::{FrameReader, u32_prefix};
use tokio::io::{AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::select;
use tokio::time::{Instant, Interval, interval_at, sleep};

const MS: Duration = Duration::from_millis(1);

/// Two messages: `hello---` and `world`.
const BYTES: &[u8] = b"\0\0\0\x08hello---\0\0\0\x05world";

/// One tick, at 50 ms.
fn tick() -> Interval {
    interval_at(Instant::now() + 50 * MS, 1_000 * MS)
}

/// Sends `bytes` up to `cut`, and the rest after 100 ms.
fn cut_at(cut: usize, bytes: &'static [u8]) -> DuplexStream {
    let (mut peer, stream) = duplex(64);
    tokio::spawn(async move {
        peer.write_all(&bytes[..cut]).await.unwrap();
        sleep(100 * MS).await;
        peer.write_all(&bytes[cut..]).await.unwrap();
    });
    stream
}

/// The messages that came, and how it ended.
async fn messages(cut: usize) -> (Vec<Vec<u8>>, io::Error) {
    let mut came = Vec::new();
    let handle = |message| came.push(message);
    let ended = read_messages(cut_at(cut, BYTES), &mut tick(), handle, || ()).await;
    (came, ended.unwrap_err())
}

#[tokio::test(start_paused = true)]
async fn harm_a_tick_in_a_message_loses_it_and_all_behind_it() {
    for cut in 1..12 {
        assert_eq!(messages(cut).await.0, [b""; 0], "cut at {cut}");
    }
    for between in [0, 12] {
        assert_eq!(messages(between).await.0, [&b"hello---"[..], b"world"]);
    }
}

#[tokio::test(start_paused = true)]
async fn harm_text_is_taken_for_a_length_or_waited_for_in_vain() {
    let (came, error) = messages(4).await;
    assert_eq!(came, [b""; 0]);
    assert_eq!(error.to_string(), "a message of 1751477356 bytes");
    // Half a length and half a text: 2,152 bytes, within the limit, that never come.
    assert_eq!(messages(1).await.1.to_string(), "early eof");
}

#[tokio::test(start_paused = true)]
async fn harm_a_string_outside_of_the_loop_loses_the_beginning_of_its_line() {
    let stream = BufReader::new(cut_at(2, b"PING\nPONG\n"));
    let mut lines = Vec::new();
    read_lines(stream, &mut tick(), |line| lines.push(line)).await;
    assert_eq!(lines, ["NG\n", "PONG\n"]);
}

#[tokio::test(start_paused = true)]
async fn mended_every_cut_gives_both_messages() {
    for cut in 0..=12 {
        let limit = NonZeroUsize::new(1 << 20).unwrap();
        let mut reader = FrameReader::new(cut_at(cut, BYTES), u32_prefix, limit);
        let (mut ticks, mut came, mut keep_alives) = (tick(), Vec::new(), 0);
        loop {
            select! {
                frame = reader.next() => match frame.unwrap() {
                    Some(frame) => came.push(frame.payload),
                    None => break,
                },
                _ = ticks.tick() => keep_alives += 1,
            }
        }
        assert_eq!(came, [&b"hello---"[..], b"world"]);
        assert_eq!(keep_alives, 1);
    }
}

//! What a peer does to a reader of lines by not ending one.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use antipatterns::endless_line::serve;
use futures_util::StreamExt;
use io::framed_lines::{LineError, read_lines};
use tokio::io::{AsyncWriteExt, duplex};

const MIB: usize = 1024 * 1024;
const PIPE: usize = 64 * 1024;

#[tokio::test(start_paused = true)]
async fn harm_all_that_a_peer_sends_without_a_newline_is_held() {
    let (mut peer, stream) = duplex(PIPE);
    let (lines, longest) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (seen, length) = (Arc::clone(&lines), Arc::clone(&longest));
    let server = tokio::spawn(serve(stream, move |line| {
        seen.fetch_add(1, Ordering::Relaxed);
        length.fetch_max(line.len(), Ordering::Relaxed);
    }));
    // It all goes through a pipe of 64 KiB, so the reader has taken it; and it has given none away.
    let piece = vec![b'x'; MIB];
    for _ in 0..32 {
        peer.write_all(&piece).await.unwrap();
    }
    assert_eq!(lines.load(Ordering::Relaxed), 0);
    assert!(!server.is_finished());

    peer.write_all(b"\nnext\n").await.unwrap();
    drop(peer);
    server.await.unwrap().unwrap();
    assert_eq!(longest.load(Ordering::Relaxed), 32 * MIB);
    assert_eq!(lines.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn harm_one_byte_that_is_no_text_ends_it_and_the_lines_behind_are_lost() {
    let mut lines = Vec::new();
    let text = b"first\nM\xfcnchen\nthird\nfourth\n"; // Latin-1
    let error = serve(&text[..], |line| lines.push(line.to_owned()))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid utf-8 sequence of 1 bytes from index 1"
    );
    assert_eq!(lines, ["first"]);
}

#[tokio::test]
async fn mended_a_line_over_the_limit_is_one_error_and_the_limit_is_all_that_is_held() {
    let limit = NonZeroUsize::new(1000).unwrap();
    let (mut peer, stream) = duplex(PIPE);
    let sends = async {
        let piece = vec![b'x'; MIB];
        for _ in 0..32 {
            peer.write_all(&piece).await.unwrap();
        }
        peer.write_all(b"\nM\xfcnchen\nnext\n").await.unwrap();
        drop(peer);
    };
    let mut lines = read_lines(stream, limit);
    let mut most_held = 0;
    let reads = async {
        let mut read = Vec::new();
        while let Some(line) = lines.next().await {
            let held = lines.read_buffer().capacity() + lines.decoder().begun().len();
            most_held = most_held.max(held);
            read.push(line.unwrap());
        }
        read
    };
    let (read, ()) = tokio::join!(reads, sends);
    assert_eq!(read[0], Err(LineError::TooLong { limit: 1000 }));
    assert!(matches!(read[1], Err(LineError::NotUtf8(_))));
    assert_eq!(read[2..], [Ok("next".to_owned())]);
    assert!(most_held < 2 * PIPE, "{most_held}");
}

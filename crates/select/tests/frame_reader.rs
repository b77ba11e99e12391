//! What a frame reader promises, whatever its input and its caller do.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;
use select::frame_reader::{Frame, FrameError, FrameReader, Lengths, Malformed, u32_prefix};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::select;
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const TAKES: Duration = Duration::from_millis(100);
const BYTES: NonZeroUsize = NonZeroUsize::new(64).unwrap();

fn limit(bytes: usize) -> NonZeroUsize {
    NonZeroUsize::new(bytes).unwrap()
}

/// The frame with a `u32` in front of its payload.
fn framed(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [&length.to_be_bytes(), payload].concat()
}

/// Three frames, one of them empty, and where each of them ends.
fn three_frames() -> (Vec<u8>, [usize; 3]) {
    let frames = [framed(b"first"), framed(b""), framed(b"the third")];
    (frames.concat(), [9, 13, 26])
}

/// The payloads up to the end of the input.
async fn payloads(reader: &mut FrameReader<impl AsyncRead + Unpin>) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(frame) = reader.next().await.unwrap() {
        all.push(frame.payload.to_vec());
    }
    all
}

/// Sends each piece after 100 ms, and then the end of the stream.
fn sent_in_pieces(pieces: Vec<Vec<u8>>) -> DuplexStream {
    let (mut sender, receiver) = duplex(1 << 20);
    tokio::spawn(async move {
        for piece in pieces {
            sleep(TAKES).await;
            sender.write_all(&piece).await.unwrap();
        }
    });
    receiver
}

/// Calls `next` with a timeout of 70 ms until it is done; how often the timeout came first.
async fn next_in_spite_of_timeouts(
    reader: &mut FrameReader<DuplexStream>,
) -> (Result<Option<Frame>, FrameError>, usize) {
    let mut timeouts = 0;
    loop {
        match timeout(TAKES * 7 / 10, reader.next()).await {
            Ok(done) => return (done, timeouts),
            Err(_) => timeouts += 1,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn frames_come_whole_wherever_their_bytes_are_split_though_timeouts_drop_the_reads() {
    let (bytes, _) = three_frames();
    for split in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(split);
        let mut reader = FrameReader::new(
            sent_in_pieces(vec![head.to_vec(), tail.to_vec()]),
            u32_prefix,
            BYTES,
        );
        let (mut all, mut timeouts) = (Vec::new(), 0);
        loop {
            let (next, dropped) = next_in_spite_of_timeouts(&mut reader).await;
            timeouts += dropped;
            let Some(frame) = next.unwrap() else { break };
            assert_eq!(*frame.header, framed(&frame.payload)[..4]);
            all.push(frame.payload);
        }
        assert_eq!(all, [&b"first"[..], b"", b"the third"], "split at {split}");
        assert!(timeouts >= 2, "split at {split}: {timeouts}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_exact_that_is_dropped_loses_bytes_and_every_later_frame() {
    // What the recipe's loop would be without a buffer of its own.
    async fn naive(input: &mut DuplexStream) -> io::Result<Vec<u8>> {
        let mut header = [0; 4];
        input.read_exact(&mut header).await?;
        let mut payload = vec![0; u32::from_be_bytes(header) as usize % 1_000];
        input.read_exact(&mut payload).await?;
        Ok(payload)
    }
    let (bytes, _) = three_frames();
    let mut wrong = 0;
    for split in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(split);
        let mut input = sent_in_pieces(vec![head.to_vec(), tail.to_vec()]);
        let mut all = Vec::new();
        loop {
            match timeout(TAKES * 7 / 10, naive(&mut input)).await {
                Ok(Ok(payload)) => all.push(payload),
                Ok(Err(_)) => break,
                Err(_) => {}
            }
        }
        wrong += usize::from(all != [&b"first"[..], b"", b"the third"]);
    }
    assert_eq!(wrong, 23, "all but the splits between two frames");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_next_has_lost_nothing() {
    let (bytes, _) = three_frames();
    let points = every_await_point(
        LIMIT,
        async || {
            let pieces = bytes.chunks(3).map(<[u8]>::to_vec).collect();
            let reader = FrameReader::new(sent_in_pieces(pieces), u32_prefix, BYTES);
            (reader, Vec::new())
        },
        async |(reader, read)| {
            while let Some(frame) = reader.next().await.unwrap() {
                read.push(frame.payload.to_vec());
            }
        },
        async |(mut reader, mut read), outcome| {
            if let Outcome::Completed(()) = outcome {
                assert_eq!(read.len(), 3);
            }
            read.extend(payloads(&mut reader).await);
            assert_eq!(read, [&b"first"[..], b"", b"the third"]);
        },
    )
    .await;
    assert!(points.unwrap() >= 10, "nine pieces and the end");
}

#[tokio::test(start_paused = true)]
async fn in_select_another_branch_costs_no_byte() {
    let (bytes, _) = three_frames();
    let pieces = bytes.chunks(1).map(<[u8]>::to_vec).collect();
    let mut reader = FrameReader::new(sent_in_pieces(pieces), u32_prefix, BYTES);
    let mut heartbeat = tokio::time::interval(TAKES * 3 / 7);
    let (mut beats, mut frames) = (0, 0);
    loop {
        select! {
            next = reader.next() => match next.unwrap() {
                Some(_) => frames += 1,
                None => break,
            },
            _ = heartbeat.tick() => beats += 1,
        }
    }
    assert_eq!(frames, 3);
    assert!(beats >= 26, "{beats}: one for each byte, at the least");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_between_frames_ends_it_and_anywhere_else_is_an_error_with_numbers() {
    let (bytes, ends) = three_frames();
    for sent in 0..=bytes.len() {
        let mut reader = FrameReader::new(&bytes[..sent], u32_prefix, BYTES);
        let whole = ends.iter().filter(|end| **end <= sent).count();
        for _ in 0..whole {
            reader.next().await.unwrap().unwrap();
        }
        let begin = whole.checked_sub(1).map_or(0, |last| ends[last]);
        for _ in 0..2 {
            // The second call says the same.
            match reader.next().await {
                Ok(None) => assert_eq!(sent, begin),
                Err(FrameError::Truncated { got, expected }) => {
                    assert!(got > 0);
                    assert_eq!(got, sent - begin);
                    assert_eq!(expected, (got >= 4).then(|| ends[whole] - begin));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let message = async |sent| {
        let mut reader = FrameReader::new(&bytes[..sent], u32_prefix, BYTES);
        reader.next().await.unwrap_err().to_string()
    };
    assert_eq!(
        message(3).await,
        "the input ended after 3 bytes of a header; the sender was cut off"
    );
    assert_eq!(
        message(4).await,
        "the input ended after 4 bytes of a frame of 9; the sender was cut off"
    );
}

#[tokio::test(start_paused = true)]
async fn a_frame_over_the_limit_is_refused_by_its_header_before_room_is_made_for_it() {
    for (length, allowed) in [(61_u32, 64), (u32::MAX, 64), (u32::MAX, 1 << 20), (0, 3)] {
        let (mut sender, receiver) = duplex(64);
        sender.write_all(&length.to_be_bytes()).await.unwrap();
        let mut reader = FrameReader::new(receiver, u32_prefix, limit(allowed));
        for _ in 0..2 {
            let refused = timeout(LIMIT, reader.next())
                .await
                .expect("it waits for more");
            let Err(FrameError::TooLong {
                length: told,
                limit,
            }) = refused
            else {
                panic!("{refused:?}");
            };
            assert_eq!((told, limit.get()), (u64::from(length) + 4, allowed));
        }
        let (_, buffer) = reader.into_parts();
        assert!(buffer.capacity() <= 8 * 1024, "{}", buffer.capacity());
    }
    let at_the_limit = framed(&[7; 60]);
    let mut reader = FrameReader::new(&at_the_limit[..], u32_prefix, BYTES);
    assert_eq!(payloads(&mut reader).await, [[7; 60]]);
    let message = FrameError::TooLong {
        length: 65,
        limit: BYTES,
    };
    assert_eq!(
        message.to_string(),
        "a frame of 65 bytes, over 64: close the connection, or raise the limit"
    );
}

#[tokio::test(start_paused = true)]
async fn a_claim_within_an_enormous_limit_takes_memory_for_the_bytes_that_come_only() {
    for (sent, capacity) in [(14, 8 * 1024), (9_000, 16 * 1024)] {
        let (mut sender, receiver) = duplex(1 << 20);
        sender.write_all(&[0x40, 0, 0, 0]).await.unwrap(); // a gigabyte
        sender.write_all(&vec![0; sent - 4]).await.unwrap();
        let mut reader = FrameReader::new(receiver, u32_prefix, NonZeroUsize::MAX);
        timeout(LIMIT, reader.next()).await.unwrap_err();
        let (_, buffer) = reader.into_parts();
        assert_eq!(buffer.len(), sent);
        assert!(buffer.capacity() <= capacity, "{}", buffer.capacity());
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_frame_comes_whole_and_so_do_those_behind_it() {
    let long: Vec<u8> = (0..1_000_000_u32)
        .map(|index| index.to_le_bytes()[0])
        .collect();
    let bytes = [framed(&long), framed(b"short"), framed(&long)].concat();
    let pieces = bytes.chunks(9_999).map(<[u8]>::to_vec).collect();
    let mut reader = FrameReader::new(sent_in_pieces(pieces), u32_prefix, limit(1_000_004));
    assert_eq!(
        payloads(&mut reader).await,
        [&long[..], b"short", &long[..]]
    );
}

/// A header of one's own: `F1`, a version, the payload's length as a little-endian `u16`.
fn own(bytes: &[u8]) -> Result<Option<Lengths>, Malformed> {
    if !b"F1".starts_with(&bytes[..bytes.len().min(2)]) {
        return Err(Malformed(format!("`F1` expected, found {bytes:?}")));
    }
    let Some([_, _, _version, low, high]) = bytes.first_chunk() else {
        return Ok(None);
    };
    Ok(Some(Lengths {
        header: 5,
        payload: u16::from_le_bytes([*low, *high]).into(),
    }))
}

#[tokio::test(start_paused = true)]
async fn a_header_of_ones_own_is_kept_with_its_frame_and_refused_when_it_makes_no_sense() {
    let mut reader = FrameReader::new(&b"F1\x07\x02\x00hiF1\x08\x00\x00G"[..], own, BYTES);
    let first = reader.next().await.unwrap().unwrap();
    assert_eq!(
        (&first.header[..], &first.payload[..]),
        (&b"F1\x07\x02\x00"[..], &b"hi"[..])
    );
    assert_eq!(
        &reader.next().await.unwrap().unwrap().header[..],
        b"F1\x08\x00\x00"
    );
    for _ in 0..2 {
        let error = reader.next().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "no frame begins like this: `F1` expected, found [71]"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_parser_that_errs_is_an_error_and_no_hang_panic_or_flood() {
    async fn refused(parse: fn(&[u8]) -> Result<Option<Lengths>, Malformed>) -> (String, usize) {
        let mut reader = FrameReader::new(tokio::io::repeat(1), parse, BYTES);
        let next = timeout(LIMIT, reader.next()).await.expect("no end");
        (next.unwrap_err().to_string(), reader.into_parts().1.len())
    }
    let (message, held) = refused(|_| Ok(None)).await;
    assert!(
        message.contains("a frame of 65 bytes, over 64"),
        "{message}"
    );
    assert_eq!(held, 64, "a header without an end");
    let (message, held) = refused(|_| {
        Ok(Some(Lengths {
            header: 0,
            payload: 0,
        }))
    })
    .await;
    assert!(message.contains("it has no bytes"), "{message}");
    assert_eq!(held, 0);
    for lengths in [(u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX), (65, 0)] {
        let (message, _) = refused(match lengths {
            (u64::MAX, 1) => |_| {
                Ok(Some(Lengths {
                    header: u64::MAX,
                    payload: 1,
                }))
            },
            (1, _) => |_| {
                Ok(Some(Lengths {
                    header: 1,
                    payload: u64::MAX,
                }))
            },
            (65, _) => |_| {
                Ok(Some(Lengths {
                    header: 65,
                    payload: 0,
                }))
            },
            _ => |_| {
                Ok(Some(Lengths {
                    header: u64::MAX,
                    payload: u64::MAX,
                }))
            },
        })
        .await;
        assert!(message.contains("over 64"), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_input_costs_no_byte_of_the_frame() {
    /// Gives one byte at a time, and an error after each.
    struct Shaky(Vec<u8>, bool);
    impl AsyncRead for Shaky {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.1 = !self.1;
            if self.1 {
                return Poll::Ready(Err(io::Error::other("shaky")));
            }
            if !self.0.is_empty() {
                buf.put_slice(&[self.0.remove(0)]);
            }
            Poll::Ready(Ok(()))
        }
    }
    let mut reader = FrameReader::new(Shaky(framed(b"still here"), false), u32_prefix, BYTES);
    let mut errors = 0;
    let frame = loop {
        match reader.next().await {
            Ok(frame) => break frame.unwrap(),
            Err(FrameError::Io(error)) if error.to_string() == "shaky" => errors += 1,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!((&frame.payload[..], errors), (&b"still here"[..], 14));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_small_frames_lets_other_tasks_run() {
    let bytes = framed(b"").repeat(10_000);
    let turns = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&turns);
    let other = tokio::spawn(async move {
        loop {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let read = tokio::spawn(async move {
        let mut reader = FrameReader::new(&bytes[..], u32_prefix, limit(1 << 20));
        payloads(&mut reader).await.len()
    });
    assert_eq!(read.await.unwrap(), 10_000);
    other.abort();
    let turns = turns.load(Ordering::Relaxed);
    assert!(turns >= 10_000 / 128, "{turns}");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_that_begins_anew_with_each_call_is_no_limit_for_a_frame() {
    let drop_by_drop = framed(&[7; 16]).chunks(1).map(<[u8]>::to_vec).collect();
    let mut reader = FrameReader::new(sent_in_pieces(drop_by_drop), u32_prefix, BYTES);
    let started = Instant::now();
    let (frame, timeouts) = next_in_spite_of_timeouts(&mut reader).await;
    frame.unwrap().unwrap();
    assert_eq!((started.elapsed(), timeouts), (20 * TAKES, 28));
}

#[tokio::test(start_paused = true)]
async fn a_small_frame_that_is_kept_keeps_what_was_read_with_it() {
    let bytes = [framed(b"x"), framed(&[0; 8_000])].concat();
    let mut reader = FrameReader::new(&bytes[..], u32_prefix, limit(10_000));
    let Frame { header, payload } = reader.next().await.unwrap().unwrap();
    drop((header, reader));
    let memory = payload.try_into_mut().unwrap();
    assert_eq!(memory.len(), 1);
    assert!(memory.capacity() > 8_000, "{}", memory.capacity());
}

#[tokio::test(start_paused = true)]
async fn what_was_read_ahead_is_handed_over_with_the_input() {
    let bytes = [framed(b"upgrade"), b"another protocol".to_vec()].concat();
    let (mut sender, receiver) = duplex(1_024);
    sender.write_all(&bytes).await.unwrap();
    let mut reader = FrameReader::new(receiver, u32_prefix, BYTES);
    reader.next().await.unwrap().unwrap();
    let (mut input, ahead) = reader.into_parts();
    sender.write_all(b", goes on").await.unwrap();
    drop(sender);
    let mut rest = String::new();
    input.read_to_string(&mut rest).await.unwrap();
    assert_eq!(
        (&ahead[..], &*rest),
        (&b"another protocol"[..], ", goes on")
    );
}

/// Bytes of any kind, of which some are frames.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let frame = prop::collection::vec(any::<u8>(), 0..80).prop_map(|payload| framed(&payload));
    let bytes = prop::collection::vec(any::<u8>(), 0..20);
    prop::collection::vec(prop_oneof![4 => frame, 1 => bytes], 0..8)
        .prop_map(|parts| parts.concat())
}

proptest! {
    // A failure prints its input: add that as a test, rather than a file of seeds.
    #![proptest_config(proptest::test_runner::Config {
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn any_bytes_in_any_pieces_give_frames_and_an_end_and_are_held_up_to_the_limit(
        bytes in noise(),
        piece in 1_usize..40,
        allowed in 1_usize..100,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let pieces: Vec<_> = bytes.chunks(piece).map(<[u8]>::to_vec).collect();
            let mut reader =
                FrameReader::new(sent_in_pieces(pieces), u32_prefix, limit(allowed));
            let mut seen = BytesMut::new();
            let end = loop {
                let (next, _) = next_in_spite_of_timeouts(&mut reader).await;
                match next {
                    Ok(Some(frame)) => {
                        assert!(frame.header.len() + frame.payload.len() <= allowed);
                        assert_eq!(*frame.header, framed(&frame.payload)[..4]);
                        seen.extend(frame.header);
                        seen.extend(frame.payload);
                    }
                    end => break end,
                }
            };
            let (mut input, held) = reader.into_parts();
            assert!(held.len() <= allowed);
            seen.extend(&held);
            match end {
                Ok(_) => assert!(held.is_empty()),
                Err(FrameError::Truncated { got, expected }) => {
                    assert_eq!(got, held.len());
                    assert!(expected.is_none_or(|expected| got < expected));
                }
                Err(FrameError::TooLong { length, .. }) => assert!(length > allowed as u64),
                Err(other) => panic!("{other:?}"),
            }
            let mut rest = Vec::new();
            input.read_to_end(&mut rest).await.unwrap();
            seen.extend(rest);
            assert_eq!(seen, bytes, "every byte is in a frame, held, or still in the input");
        });
    }
}

//! What framed lengths promise.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::Cell;
use std::io;
use std::num::NonZeroUsize;
use std::time::Duration;

use ::io::framed_length::{FrameError, LengthCodec, framed_length, read_frames, write_frames};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, SinkExt, StreamExt};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, repeat};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::codec::{Decoder, Encoder, FramedRead, FramedWrite, LengthDelimitedCodec};

const LIMIT: Duration = Duration::from_secs(60);
const KIB: usize = 1024;
/// What a `FramedRead` reads into, and a `FramedWrite` fills before it writes.
const BUFFER: usize = 8 * KIB;

fn at_most(limit: usize) -> NonZeroUsize {
    NonZeroUsize::new(limit).unwrap()
}

/// How the frames ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Clean,
    TooLong(u64),
    CutShort,
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::TooLong { length, .. } => Self::TooLong(length),
            FrameError::CutShort => Self::CutShort,
            FrameError::Io(error) => panic!("{error}"),
        }
    }
}

type Frames = (Vec<Vec<u8>>, End);

/// What the frames are, said in another way than by a codec.
fn expected(mut bytes: &[u8], limit: usize) -> Frames {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let Some((header, rest)) = bytes.split_first_chunk() else {
            return (frames, End::CutShort);
        };
        let length = u32::from_be_bytes(*header);
        if length as usize > limit {
            return (frames, End::TooLong(length.into()));
        }
        let Some((frame, rest)) = rest.split_at_checked(length as usize) else {
            return (frames, End::CutShort);
        };
        frames.push(frame.to_vec());
        bytes = rest;
    }
    (frames, End::Clean)
}

/// Feeds the codec in pieces, as reads would, and looks at what the buffer holds after each.
fn decode_in_pieces<'a>(limit: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Frames {
    let mut codec = LengthCodec::new(at_most(limit));
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    let mut longest = 0;
    for piece in pieces {
        longest = longest.max(piece.len());
        buffer.extend_from_slice(piece);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame.to_vec()),
                Ok(None) => break,
                Err(error) => return (frames, error.into()),
            }
        }
        assert!(buffer.len() < limit.max(4), "a frame and more is held");
        assert!(buffer.capacity() <= 2 * (limit + longest + 4), "allocated");
    }
    loop {
        match codec.decode_eof(&mut buffer) {
            Ok(Some(frame)) => frames.push(frame.to_vec()),
            Ok(None) => return (frames, End::Clean),
            Err(error) => return (frames, error.into()),
        }
    }
}

async fn all(reader: impl AsyncRead + Unpin, limit: usize) -> Frames {
    let mut reader = read_frames(reader, at_most(limit));
    let mut frames = Vec::new();
    while let Some(frame) = timeout(LIMIT, reader.next()).await.expect("no end") {
        match frame {
            Ok(frame) => frames.push(frame.to_vec()),
            Err(error) => {
                assert!(reader.next().await.is_none(), "the error is the last");
                return (frames, error.into());
            }
        }
    }
    (frames, End::Clean)
}

fn encoded(frames: &[&[u8]]) -> Vec<u8> {
    let header = |frame: &[u8]| u32::try_from(frame.len()).unwrap().to_be_bytes();
    let parts = frames.iter().map(|it| [&header(it), *it].concat());
    parts.collect::<Vec<_>>().concat()
}

#[tokio::test]
async fn a_frame_is_its_length_in_four_bytes_and_its_bytes() {
    let mut buffer = BytesMut::new();
    let mut codec = LengthCodec::new(at_most(1000));
    codec.encode(&b"a\nb"[..], &mut buffer).unwrap();
    codec.encode(Bytes::new(), &mut buffer).unwrap();
    codec.encode(vec![7; 258], &mut buffer).unwrap();
    assert_eq!(&buffer[..11], b"\0\0\0\x03a\nb\0\0\0\0");
    assert_eq!(&buffer[11..16], b"\0\0\x01\x02\x07");
    assert_eq!(buffer.len(), 7 + 4 + 262);
}

#[tokio::test]
async fn a_stream_split_at_every_byte_position_gives_the_same_frames() {
    let bytes = encoded(&[b"one", b"", b"\0\0\0\xff", &[9; 40]]);
    let frames = expected(&bytes, 40);
    assert_eq!((frames.0.len(), &frames.1), (4, &End::Clean));
    for at in 0..=bytes.len() {
        let (start, end) = bytes.split_at(at);
        assert_eq!(all(start.chain(end), 40).await, frames, "split at {at}");
    }
    let (mut peer, reader) = duplex(1); // a byte at a time
    tokio::spawn(async move { peer.write_all(&bytes).await });
    assert_eq!(all(reader, 40).await, frames);
}

#[tokio::test]
async fn a_peer_that_closes_at_every_byte_position_is_an_error_but_between_frames() {
    let bytes = encoded(&[b"one", b"", b"three"]);
    let between = [0, 7, 11, 20];
    assert_eq!(bytes.len(), 20);
    for at in 0..=bytes.len() {
        let (frames, end) = all(&bytes[..at], 10).await;
        let is_clean = between.contains(&at);
        assert_eq!(
            end,
            if is_clean { End::Clean } else { End::CutShort },
            "{at}"
        );
        let whole = between.iter().skip(1).filter(|it| **it <= at).count();
        assert_eq!(frames.len(), whole, "closed at {at}");
    }
}

#[tokio::test]
async fn a_frame_of_the_limit_is_read_and_one_of_a_byte_more_ends_the_stream() {
    let bytes = encoded(&[&[1; 10], &[2; 11], b"good"]);
    assert_eq!(
        all(&bytes[..], 10).await,
        (vec![vec![1; 10]], End::TooLong(11))
    );
}

#[tokio::test]
async fn a_100_mib_frame_is_refused_by_its_header() {
    let header = (100_u32 * 1024 * 1024).to_be_bytes();
    let mut frames = read_frames((&header[..]).chain(repeat(b'x')), at_most(64 * KIB));
    let error = frames.next().await.unwrap().unwrap_err();
    let advice = "a frame of 104857600 bytes is over the limit of 65536; raise the limit on both \
        sides, or check that the peer speaks this protocol";
    assert_eq!(error.to_string(), advice);
    assert!(frames.read_buffer().capacity() <= BUFFER);
}

#[tokio::test]
async fn after_an_error_no_frame_ever_follows() {
    let bytes = [&b"\xff\xff\xff\xff"[..], &encoded(&[b"good", b"good"])].concat();
    // In two parts, so that there is more to read after the error.
    let mut frames = read_frames(bytes[..4].chain(&bytes[4..]), at_most(10));
    for _ in 0..3 {
        let error = frames.next().await.unwrap().unwrap_err();
        assert!(matches!(
            error,
            FrameError::TooLong {
                length: 0xffff_ffff,
                limit: 10
            }
        ));
        assert!(frames.next().await.is_none());
    }
}

#[tokio::test]
async fn enormous_and_tiny_limits_are_no_panic() {
    let mut codec = LengthCodec::new(NonZeroUsize::MAX);
    let mut buffer = BytesMut::new();
    codec.encode("one", &mut buffer).unwrap();
    assert_eq!(codec.decode(&mut buffer).unwrap().unwrap(), "one");
    let bytes = encoded(&[b"a", b"", b"bc"]);
    let (frames, end) = all(&bytes[..], 1).await;
    assert_eq!((frames.len(), end), (2, End::TooLong(2)));
}

#[cfg(target_pointer_width = "64")]
#[tokio::test]
async fn a_frame_whose_length_the_header_cannot_say_is_refused() {
    // Zeroed pages that nothing touches: they take no memory.
    let frame = vec![0; u32::MAX as usize + 1];
    for limit in [u32::MAX as usize, u32::MAX as usize + 1, usize::MAX] {
        let error = LengthCodec::new(at_most(limit))
            .encode(&frame, &mut BytesMut::new())
            .unwrap_err();
        assert!(error.to_string().contains("of 4294967295"), "{error}");
    }
}

#[tokio::test]
async fn a_frame_over_the_limit_is_refused_and_nothing_of_it_written() {
    let (writer, reader) = duplex(100);
    let mut sink = write_frames(writer, at_most(10));
    sink.send(&b"first"[..]).await.unwrap();
    let error = sink.send(&[0; 11][..]).await.unwrap_err();
    assert!(matches!(
        error,
        FrameError::TooLong {
            length: 11,
            limit: 10
        }
    ));
    assert!(sink.write_buffer().is_empty());
    sink.send(&[1; 10][..]).await.unwrap();
    drop(sink);
    let frames = vec![b"first".to_vec(), vec![1; 10]];
    assert_eq!(all(reader, 10).await, (frames, End::Clean));
}

#[tokio::test]
async fn both_directions_go_over_one_stream() {
    let (client, server) = duplex(100);
    let mut client = framed_length(client, at_most(10));
    let mut server = framed_length(server, at_most(10));
    client.send("ask").await.unwrap();
    let asked = server.next().await.unwrap().unwrap();
    server.send(asked).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), "ask");
    drop(client);
    assert!(server.next().await.is_none());
}

#[tokio::test]
async fn a_full_sink_holds_the_sender_back_at_8_kib_and_a_frame() {
    let (writer, _reader_that_does_not_read) = duplex(1);
    let mut sink = write_frames(writer, at_most(KIB));
    let mut fed = 0;
    while let Some(result) = sink.feed(vec![0; KIB]).now_or_never() {
        result.unwrap();
        fed += 1;
    }
    assert_eq!(fed, 8, "8 frames of 1 KiB and a header fill 8 KiB");
    assert!(sink.write_buffer().len() <= BUFFER + KIB + 4);
}

#[tokio::test]
async fn what_is_fed_and_not_flushed_is_lost_with_the_sink() {
    for close in [false, true] {
        let (writer, reader) = duplex(100);
        let mut sink = write_frames(writer, at_most(10));
        sink.feed("one").await.unwrap();
        sink.feed("two").await.unwrap();
        if close {
            SinkExt::<&str>::close(&mut sink).await.unwrap();
        }
        drop(sink);
        let (arrived, end) = all(reader, 10).await;
        assert_eq!(arrived.len(), if close { 2 } else { 0 });
        assert_eq!(end, End::Clean, "the peer cannot know");
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_around_next_bounds_the_whole_frame_and_loses_nothing() {
    let (mut peer, reader) = duplex(100);
    tokio::spawn(async move {
        for byte in encoded(&[b"trickles"]) {
            sleep(Duration::from_secs(1)).await;
            peer.write_all(&[byte]).await.unwrap();
        }
    });
    let mut frames = read_frames(reader, at_most(100));
    let started = Instant::now();
    let wait = Duration::from_millis(10_500);
    timeout(wait, frames.next()).await.expect_err("it trickles");
    assert_eq!(started.elapsed(), wait);
    let slow = timeout(wait, frames.next()).await.unwrap();
    assert_eq!(slow.unwrap().unwrap(), "trickles");
    assert_eq!(started.elapsed(), Duration::from_secs(12));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_next_loses_nothing() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (mut peer, reader) = duplex(3);
            let bytes = encoded(&[b"one", b"", b"fifteen"]);
            tokio::spawn(async move { peer.write_all(&bytes).await });
            (read_frames(reader, at_most(10)), Vec::new())
        },
        async |(frames, read)| {
            while let Some(frame) = frames.next().await {
                read.push(frame.unwrap());
            }
        },
        async |(mut frames, mut read), _| {
            while let Some(frame) = frames.next().await {
                read.push(frame.unwrap());
            }
            assert_eq!(read, ["one", "", "fifteen"]);
        },
    )
    .await
    .unwrap();
    assert!(points >= 8, "{points}: a read for each three bytes");
}

type Sink = FramedWrite<DuplexStream, LengthCodec>;

/// A sink that is full, with a peer that begins to read after a second.
async fn full_sink() -> (Sink, JoinHandle<Frames>) {
    let (writer, reader) = duplex(KIB);
    let mut sink = write_frames(writer, at_most(BUFFER));
    sink.feed(vec![0; BUFFER]).await.unwrap();
    let peer = tokio::spawn(async move {
        sleep(Duration::from_secs(1)).await;
        all(reader, BUFFER).await
    });
    (sink, peer)
}

/// Sends another frame, and returns what arrived besides the first.
async fn then_send_the_last(mut sink: Sink, peer: JoinHandle<Frames>) -> Vec<Vec<u8>> {
    sink.send("last").await.unwrap();
    drop(sink);
    let (mut frames, end) = peer.await.unwrap();
    assert_eq!(end, End::Clean);
    assert_eq!(frames.remove(0).len(), BUFFER, "the first is whole");
    assert_eq!(frames.pop().unwrap(), b"last");
    frames
}

#[tokio::test(start_paused = true)]
async fn a_dropped_send_has_lost_its_frame_or_left_it_for_the_next_flush() {
    let (lost, left) = (Cell::new(0), Cell::new(0));
    let points = every_await_point(
        LIMIT,
        full_sink,
        async |(sink, _)| sink.send("mine").await.unwrap(),
        async |(sink, peer), outcome| {
            let arrived = then_send_the_last(sink, peer).await;
            match (outcome, arrived.as_slice()) {
                (Outcome::Dropped(_), []) => lost.set(lost.get() + 1),
                (Outcome::Dropped(_), [mine]) => {
                    assert_eq!(mine, b"mine");
                    left.set(left.get() + 1);
                }
                (Outcome::Completed(()), arrived) => assert_eq!(arrived, [b"mine"]),
                (_, more) => panic!("sent more than once: {more:?}"),
            }
        },
    )
    .await
    .unwrap();
    assert_eq!(lost.get() + left.get(), 2 * points);
    assert!(lost.get() > 0 && left.get() > 0, "{lost:?} {left:?}");
}

#[tokio::test(start_paused = true)]
async fn feed_then_flush_tells_whether_the_frame_will_be_sent() {
    let points = every_await_point(
        LIMIT,
        async || (full_sink().await, false),
        async |((sink, _), fed)| {
            sink.feed("mine").await.unwrap();
            *fed = true;
            SinkExt::<&str>::flush(sink).await.unwrap();
        },
        async |((sink, peer), fed), _| {
            let arrived = then_send_the_last(sink, peer).await;
            assert_eq!(arrived, if fed { vec![b"mine"] } else { vec![] });
        },
    )
    .await
    .unwrap();
    assert!(points >= 8, "{points}: 8 KiB leave 1 KiB at a time");
}

#[tokio::test]
async fn with_the_codec_of_tokio_util_alone_a_close_after_the_header_is_a_clean_end() {
    let bytes = encoded(&[b"lost"]);
    let mut results = Vec::new();
    for at in 0..=bytes.len() {
        let codec = LengthDelimitedCodec::new();
        let read: Vec<_> = FramedRead::new(&bytes[..at], codec).collect().await;
        results.push(read.first().map(Result::is_ok));
    }
    let (bad, good) = (Some(false), Some(true));
    assert_eq!(results, [None, bad, bad, bad, None, bad, bad, bad, good]);
    assert_eq!(all(&bytes[..4], 10).await.1, End::CutShort);
    let default = LengthDelimitedCodec::new().max_frame_length();
    assert_eq!(default, 8 * 1024 * KIB);
}

#[tokio::test]
async fn four_bytes_make_the_buffer_as_large_as_the_frame_that_they_announce() {
    const LARGE: usize = 1024 * KIB;
    let (mut peer, reader) = duplex(2 * LARGE);
    let mut frames = read_frames(reader, at_most(LARGE));
    let bytes = encoded(&[&vec![7; LARGE]]);
    peer.write_all(&bytes[..4]).await.unwrap();
    assert!(frames.next().now_or_never().is_none());
    assert!(frames.read_buffer().capacity() >= LARGE);
    peer.write_all(&bytes[4..]).await.unwrap();
    assert_eq!(frames.next().await.unwrap().unwrap().len(), LARGE);
    let left = frames.read_buffer().capacity();
    assert!(left <= BUFFER, "{left} bytes stay when the frame is gone");
}

#[tokio::test]
async fn a_small_frame_that_is_kept_keeps_the_buffer_it_came_in() {
    for copy in [false, true] {
        let (mut peer, reader) = duplex(100);
        let mut frames = read_frames(reader, at_most(100));
        peer.write_all(&encoded(&[b"ten bytes!"])).await.unwrap();
        let frame = frames.next().await.unwrap().unwrap();
        let kept = if copy {
            Bytes::copy_from_slice(&frame)
        } else {
            frame.clone()
        };
        drop(frame);
        let is_whole_again = frames.read_buffer_mut().try_reclaim(BUFFER);
        assert_eq!(is_whole_again, copy, "{} bytes kept", kept.len());
    }
}

#[tokio::test]
async fn a_peer_that_is_gone_is_the_senders_error() {
    let (writer, reader) = duplex(100);
    drop(reader);
    let error = write_frames(writer, at_most(10)).send("one").await;
    assert!(matches!(error, Err(FrameError::Io(it)) if it.kind() == io::ErrorKind::BrokenPipe));
}

/// Bytes with many small lengths in them.
fn wild_bytes() -> impl Strategy<Value = Vec<u8>> {
    let small = (0_u8..30).prop_map(|length| vec![0, 0, 0, length]);
    let part = prop_oneof![3 => small, 1 => vec(any::<u8>(), 0..30), 1 => Just(vec![0, 0])];
    vec(part, 0..20).prop_map(|parts| parts.concat())
}

proptest::proptest! {
    // A failure prints its input: add that as a test, rather than a file of seeds.
    #![proptest_config(proptest::test_runner::Config {
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn any_bytes_in_any_pieces_give_the_frames_that_are_in_them(
        bytes in wild_bytes(),
        cuts in vec(0_usize..200, 0..20),
        limit in 1_usize..40,
    ) {
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
        assert_eq!(decode_in_pieces(limit, pieces), expected(&bytes, limit));
    }

    #[test]
    fn a_frame_that_is_sent_is_read_as_it_was(
        frame in vec(any::<u8>(), 0..12),
        limit in 1_usize..12,
    ) {
        let mut codec = LengthCodec::new(at_most(limit));
        let mut buffer = BytesMut::from("before");
        let sent = codec.encode(&frame, &mut buffer);
        assert_eq!(sent.is_err(), frame.len() > limit);
        let written = buffer.split_off("before".len());
        let (read, end) = decode_in_pieces(limit, [&written[..]]);
        assert_eq!(read, if sent.is_ok() { vec![frame] } else { vec![] });
        assert_eq!(end, End::Clean);
    }
}

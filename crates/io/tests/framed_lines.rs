//! What framed lines promise.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ::io::framed_lines::{
    LineCodec, LineError, SendLineError, framed_lines, read_lines, write_lines,
};
use bytes::BytesMut;
use futures_util::{FutureExt, SinkExt, StreamExt, TryStreamExt};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadBuf,
    duplex, repeat,
};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::codec::{Decoder, Encoder, FramedRead, LinesCodec};

const LIMIT: Duration = Duration::from_secs(60);
const KIB: usize = 1024;
/// What a `FramedRead` reads into, and a `FramedWrite` fills before it writes.
const BUFFER: usize = 8 * KIB;

type Line = Result<String, LineError>;

fn at_most(limit: usize) -> NonZeroUsize {
    NonZeroUsize::new(limit).unwrap()
}

fn line(text: &str) -> Line {
    Ok(text.to_owned())
}

fn too_long(limit: usize) -> Line {
    Err(LineError::TooLong { limit })
}

/// What the lines are, said in another way than by a codec.
fn expected(bytes: &[u8], limit: usize) -> Vec<Line> {
    let mut parts: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
    let last = parts.pop().unwrap();
    let whole = |part: &[u8]| {
        let part = part.strip_suffix(b"\r").unwrap_or(part);
        if part.len() > limit {
            return too_long(limit);
        }
        String::from_utf8(part.to_vec()).map_err(LineError::NotUtf8)
    };
    let mut lines: Vec<_> = parts.into_iter().map(whole).collect();
    if !last.is_empty() {
        lines.push(whole(last).and_then(|line| Err(LineError::Unterminated(line))));
    }
    lines
}

/// Feeds the codec in pieces, as reads would, and looks at what it holds after each.
fn decode_in_pieces<'a>(limit: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Line> {
    let mut codec = LineCodec::new(at_most(limit));
    let mut buffer = BytesMut::new();
    let mut lines = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(line) = codec.decode(&mut buffer).unwrap() {
            lines.push(line);
        }
        assert!(buffer.is_empty(), "left in the read buffer");
        assert!(codec.begun().len() <= limit + 1, "over the limit");
    }
    while let Some(line) = codec.decode_eof(&mut buffer).unwrap() {
        lines.push(line);
    }
    assert_eq!(codec.begun(), b"");
    lines
}

async fn all(reader: impl AsyncRead + Unpin, limit: usize) -> Vec<Line> {
    let lines = read_lines(reader, at_most(limit)).try_collect();
    timeout(LIMIT, lines).await.expect("no end").unwrap()
}

#[tokio::test]
async fn a_line_ends_with_a_newline_or_a_carriage_return_and_a_newline() {
    let text = b"one\ntwo\r\n\n\r\nth\rree\r\r\n";
    let lines = ["one", "two", "", "", "th\rree\r"].map(line);
    assert_eq!(all(&text[..], 10).await, lines);
}

#[tokio::test]
async fn a_stream_split_at_every_byte_position_gives_the_same_lines() {
    let text = "one\r\nzwölf\n\n\rtoo long, this\nlast".as_bytes();
    let text = [text, b"\xff\n", b"good\r\nrest"].concat();
    let lines = expected(&text, 10);
    assert_eq!(lines.len(), 7);
    for at in 0..=text.len() {
        let (start, end) = text.split_at(at);
        assert_eq!(all(start.chain(end), 10).await, lines, "split at {at}");
    }
    let (mut peer, reader) = duplex(1); // a byte at a time
    let sent = text.clone();
    tokio::spawn(async move { peer.write_all(&sent).await });
    assert_eq!(all(reader, 10).await, lines);
}

#[tokio::test]
async fn a_peer_that_closes_at_every_byte_position_leaves_whole_lines_and_one_unterminated() {
    let text = "one\r\ntwö\nthree".as_bytes();
    for at in 0..=text.len() {
        let lines = all(&text[..at], 10).await;
        assert_eq!(lines, expected(&text[..at], 10), "closed at {at}");
        let whole = lines.iter().filter(|line| line.is_ok()).count();
        assert_eq!(whole, text[..at].iter().filter(|it| **it == b'\n').count());
    }
    let within_the_character = all(&text[..8], 10).await;
    assert!(matches!(
        within_the_character.as_slice(),
        [Ok(_), Err(LineError::NotUtf8(_))]
    ));
}

#[tokio::test]
async fn a_100_mib_line_is_one_error_and_the_next_line_is_read() {
    const LONGEST: usize = 64 * KIB;
    let endless = repeat(b'x').take(100 * 1024 * 1024);
    let mut lines = read_lines(endless.chain(&b"\nnext\n"[..]), at_most(LONGEST));
    let (mut read, mut polls, mut most_held) = (Vec::new(), 0, 0);
    while let Some(line) = poll_fn(|cx| {
        let polled = lines.poll_next_unpin(cx);
        polls += 1;
        let held = lines.read_buffer().capacity() + lines.decoder().begun().len();
        most_held = most_held.max(held);
        polled
    })
    .await
    {
        read.push(line.unwrap());
    }
    assert_eq!(read, [too_long(LONGEST), line("next")]);
    assert!(polls > 50, "looked at too seldom: {polls}");
    assert!(most_held <= LONGEST + 1 + BUFFER, "{most_held} bytes held");
}

#[tokio::test]
async fn a_line_that_grows_bit_by_bit_takes_no_more_room_than_the_limit() {
    const LONGEST: usize = 100_000; // no power of two
    let text = [vec![b'x'; LONGEST], b"\r\n".to_vec()].concat();
    let mut lines = read_lines(&text[..], at_most(LONGEST));
    let read = lines.next().await.unwrap().unwrap().unwrap();
    assert_eq!(read.len(), LONGEST);
    assert!(read.capacity() <= LONGEST + 1, "{}", read.capacity());
    assert!(lines.read_buffer().capacity() <= BUFFER, "it stays large");
}

#[test]
fn a_line_that_comes_in_pieces_takes_twice_its_length_at_most_and_no_more_than_the_limit() {
    const LONGEST: usize = 100_000;
    for (length, first, piece) in [(100, 1, 1), (LONGEST, 1_000, 777)] {
        let mut codec = LineCodec::new(at_most(LONGEST));
        let line = vec![b'x'; length];
        let (first, others) = line.split_at(first);
        for piece in [first].into_iter().chain(others.chunks(piece)) {
            assert_eq!(codec.decode(&mut BytesMut::from(piece)).unwrap(), None);
        }
        assert_eq!(codec.begun().len(), length);
        let read = codec.decode(&mut BytesMut::from("\n")).unwrap();
        let room = read.unwrap().unwrap().capacity();
        assert!(room <= (2 * length).min(LONGEST + 1), "{room} for {length}");
    }
}

#[tokio::test]
async fn a_line_of_the_limit_is_read_and_one_of_a_byte_more_is_not_however_it_comes() {
    for end in ["\n", "\r\n"] {
        let text = format!("{}{end}{}{end}ok{end}", "x".repeat(10), "y".repeat(11));
        let lines = [line("xxxxxxxxxx"), too_long(10), line("ok")];
        for at in 0..=text.len() {
            let (start, rest) = text.as_bytes().split_at(at);
            assert_eq!(decode_in_pieces(10, [start, rest]), lines, "split at {at}");
        }
        assert_eq!(decode_in_pieces(10, text.as_bytes().chunks(1)), lines);
    }
}

#[tokio::test]
async fn too_long_is_told_before_the_line_has_ended() {
    let (mut peer, reader) = duplex(100);
    let mut lines = read_lines(reader, at_most(10));
    peer.write_all(&[b'x'; 10]).await.unwrap();
    assert!(lines.next().now_or_never().is_none(), "it may end here");
    peer.write_all(b"x").await.unwrap();
    let told = lines.next().now_or_never().expect("known by now");
    assert_eq!(told.unwrap().unwrap(), too_long(10));
    peer.write_all(b"xxx\nok\n").await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), line("ok"));
}

#[tokio::test]
async fn invalid_utf8_is_that_lines_error_and_gives_its_bytes_back() {
    let lines = all(&b"before\nb\xffd\r\nafter\n"[..], 10).await;
    assert_eq!((&lines[0], &lines[2]), (&line("before"), &line("after")));
    let error = lines[1].clone().unwrap_err();
    assert!(error.to_string().contains("index 1"), "{error}");
    let LineError::NotUtf8(error) = error else {
        panic!("{error}")
    };
    assert_eq!(error.into_bytes(), b"b\xffd");
    assert_eq!(lines.len(), 3);
}

#[tokio::test]
async fn a_line_that_the_peer_did_not_end_is_no_line_and_is_there() {
    let lines = all(&b"delete 7\ndelete 12"[..], 100).await;
    let cut = Err(LineError::Unterminated("delete 12".to_owned()));
    assert_eq!(lines, [line("delete 7"), cut], "of delete 123, perhaps");
}

#[test]
fn what_comes_after_an_end_is_a_new_line() {
    let mut codec = LineCodec::new(at_most(3));
    // A file that is read to its end while somebody still writes to it.
    for start in ["long", "cut"] {
        let mut buffer = BytesMut::from(start);
        assert!(codec.decode_eof(&mut buffer).unwrap().unwrap().is_err());
        assert_eq!(codec.decode_eof(&mut buffer).unwrap(), None);
        buffer.extend_from_slice(b"new\n");
        assert_eq!(codec.decode(&mut buffer).unwrap(), Some(line("new")));
    }
}

#[tokio::test]
async fn what_follows_a_line_stays_in_the_read_buffer() {
    let mut stream = framed_lines(
        io::Cursor::new(b"UPGRADE\n\x00\x01\n".to_vec()),
        at_most(10),
    );
    assert_eq!(stream.next().await.unwrap().unwrap(), line("UPGRADE"));
    assert_eq!(stream.codec().begun(), b"");
    assert_eq!(&stream.into_parts().read_buf[..], b"\x00\x01\n");
}

#[tokio::test]
async fn enormous_and_tiny_limits_are_no_panic() {
    let huge = all(&b"one\ntwo"[..], usize::MAX).await;
    let two = Err(LineError::Unterminated("two".to_owned()));
    assert_eq!(huge, [line("one"), two]);
    assert_eq!(
        all(&b"a\nbc\n\n"[..], 1).await,
        [line("a"), too_long(1), line("")]
    );
}

#[tokio::test]
async fn a_line_that_the_peer_would_read_otherwise_is_refused_and_nothing_of_it_written() {
    let (writer, reader) = duplex(100);
    let mut sink = write_lines(writer, at_most(10));
    sink.send("first").await.unwrap();
    for bad in ["a\nb", "\n", "\r", "a\r"] {
        let error = sink.send(bad).await.unwrap_err();
        assert!(
            matches!(error, SendLineError::LineBreak),
            "{bad:?}: {error}"
        );
        assert!(sink.write_buffer().is_empty());
    }
    let error = sink.send("x".repeat(11).as_str()).await.unwrap_err();
    let advice = "a line of 11 bytes is over the limit of 10; send less, or raise the limit";
    assert_eq!(error.to_string(), advice);
    assert!(sink.write_buffer().is_empty());
    sink.send("x".repeat(10).as_str()).await.unwrap();
    SinkExt::<&str>::close(&mut sink).await.unwrap();
    assert_eq!(all(reader, 10).await, [line("first"), line("xxxxxxxxxx")]);
}

#[tokio::test]
async fn a_full_sink_holds_the_sender_back_at_8_kib_and_a_line() {
    let (writer, _reader_that_does_not_read) = duplex(1);
    let mut sink = write_lines(writer, at_most(KIB));
    let text = "x".repeat(KIB);
    let mut fed = 0;
    while let Some(result) = sink.feed(text.as_str()).now_or_never() {
        result.unwrap();
        fed += 1;
    }
    assert_eq!(fed, 8, "8 lines of 1 KiB and a newline fill 8 KiB");
    assert!(sink.write_buffer().len() <= BUFFER + KIB + 1);
}

#[tokio::test]
async fn what_is_fed_and_not_flushed_is_lost_with_the_sink() {
    for close in [false, true] {
        let (writer, reader) = duplex(100);
        let mut sink = write_lines(writer, at_most(10));
        sink.feed("one").await.unwrap();
        sink.feed("two").await.unwrap();
        if close {
            SinkExt::<&str>::close(&mut sink).await.unwrap();
        }
        drop(sink);
        let arrived = all(reader, 10).await.len();
        assert_eq!(arrived, if close { 2 } else { 0 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_around_next_bounds_the_whole_line_and_loses_nothing() {
    let (mut peer, reader) = duplex(100);
    tokio::spawn(async move {
        for byte in b"a slow line\n" {
            sleep(Duration::from_secs(1)).await;
            peer.write_all(&[*byte]).await.unwrap();
        }
    });
    let mut lines = read_lines(reader, at_most(100));
    let started = Instant::now();
    let wait = Duration::from_millis(10_500);
    timeout(wait, lines.next()).await.expect_err("it trickles");
    assert_eq!(started.elapsed(), wait);
    let slow = timeout(wait, lines.next()).await.unwrap();
    assert_eq!(slow.unwrap().unwrap(), line("a slow line"));
    assert_eq!(started.elapsed(), Duration::from_secs(12));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_next_loses_nothing() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (mut peer, reader) = duplex(3);
            tokio::spawn(async move { peer.write_all(b"one\nfour\nfifteen\ncut").await });
            (read_lines(reader, at_most(6)), Vec::new())
        },
        async |(lines, read)| {
            while let Some(line) = lines.next().await {
                read.push(line.unwrap());
            }
        },
        async |(mut lines, mut read), _| {
            while let Some(line) = lines.next().await {
                read.push(line.unwrap());
            }
            let cut = Err(LineError::Unterminated("cut".to_owned()));
            assert_eq!(read, [line("one"), line("four"), too_long(6), cut]);
        },
    )
    .await
    .unwrap();
    assert!(points >= 7, "{points}: a read for each three bytes");
}

type Sink = tokio_util::codec::FramedWrite<DuplexStream, LineCodec>;

/// A sink that is full, with a peer that begins to read after a second.
async fn full_sink() -> (Sink, JoinHandle<Vec<Line>>) {
    let (writer, reader) = duplex(KIB);
    let mut sink = write_lines(writer, at_most(BUFFER));
    sink.feed("x".repeat(BUFFER).as_str()).await.unwrap();
    let peer = tokio::spawn(async move {
        sleep(Duration::from_secs(1)).await;
        all(reader, BUFFER).await
    });
    (sink, peer)
}

/// Sends another line, and returns what arrived besides the first.
async fn then_send_the_last(mut sink: Sink, peer: JoinHandle<Vec<Line>>) -> Vec<Line> {
    sink.send("last").await.unwrap();
    drop(sink);
    let mut lines = peer.await.unwrap();
    assert_eq!(lines.remove(0).unwrap().len(), BUFFER, "the first is whole");
    assert_eq!(lines.pop(), Some(line("last")));
    lines
}

#[tokio::test(start_paused = true)]
async fn a_dropped_send_has_lost_its_line_or_left_it_for_the_next_flush() {
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
                    assert_eq!(*mine, line("mine"));
                    left.set(left.get() + 1);
                }
                (Outcome::Completed(()), arrived) => assert_eq!(arrived, [line("mine")]),
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
async fn feed_then_flush_tells_whether_the_line_will_be_sent() {
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
            assert_eq!(arrived, if fed { vec![line("mine")] } else { vec![] });
        },
    )
    .await
    .unwrap();
    assert!(points >= 8, "{points}: 8 KiB leave 1 KiB at a time");
}

#[tokio::test]
async fn with_the_codec_of_tokio_util_one_bad_line_ends_the_loop() {
    let text = b"good\nb\xffd\nlost\nlost\nlost\n";
    for (limit, bad) in [(100, "UTF8"), (3, "max line length exceeded")] {
        let codec = LinesCodec::new_with_max_length(limit);
        let read: Vec<_> = FramedRead::new(&text[..], codec).collect().await;
        let error = read.last().unwrap().as_ref().unwrap_err();
        assert!(error.to_string().contains(bad), "{error}");
        assert_eq!(read.len(), if limit == 100 { 2 } else { 1 }, "of 5 lines");
    }
    assert_eq!(all(&text[..], 100).await.len(), 5);
    assert_eq!(all(&text[..], 3).await.len(), 5);
}

#[tokio::test]
async fn lines_of_tokio_and_of_tokio_util_hold_a_line_of_any_length_unless_told() {
    const MUCH: usize = 16 * 1024 * KIB;
    let mut read = FramedRead::new(repeat(b'x').take(MUCH as u64), LinesCodec::new());
    let line = read.next().await.unwrap().unwrap();
    assert_eq!(line.len(), MUCH);
    let endless = BufReader::new(repeat(b'x').take(MUCH as u64));
    let line = endless.lines().next_line().await.unwrap().unwrap();
    assert_eq!(line.len(), MUCH);
}

/// Gives a line, fails, and gives another line.
struct Failing(u8);

impl AsyncRead for Failing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0 += 1;
        match self.0 {
            1 => buffer.put_slice(b"one\ntw"),
            2 => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            3 => buffer.put_slice(b"o\n"),
            _ => {}
        }
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn an_error_of_the_stream_is_followed_by_none_and_then_it_would_read_on() {
    let mut lines = read_lines(Failing(0), at_most(10));
    assert_eq!(lines.next().await.unwrap().unwrap(), line("one"));
    let error = lines.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(lines.next().await.is_none());
    assert_eq!(lines.next().await.unwrap().unwrap(), line("two"));
}

#[tokio::test]
async fn a_peer_that_is_gone_is_the_senders_error() {
    let (writer, reader) = duplex(100);
    drop(reader);
    let error = write_lines(writer, at_most(10)).send("one").await;
    assert!(matches!(error, Err(SendLineError::Io(it)) if it.kind() == io::ErrorKind::BrokenPipe));
}

/// Bytes with many line ends, and lengths around the limits.
fn wild_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'x'), any::<u8>()];
    vec(byte, 0..200)
}

proptest::proptest! {
    // A failure prints its input: add that as a test, rather than a file of seeds.
    #![proptest_config(proptest::test_runner::Config {
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn any_bytes_in_any_pieces_give_the_lines_that_are_in_them(
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
    fn a_line_that_is_sent_is_read_as_it_was(text in "[a-zä\r\n]{0,12}", limit in 1_usize..12) {
        let mut codec = LineCodec::new(at_most(limit));
        let mut buffer = BytesMut::from("before");
        let sent = codec.encode(&text, &mut buffer);
        let is_bad = text.len() > limit || text.contains('\n') || text.ends_with('\r');
        assert_eq!(sent.is_err(), is_bad);
        let written = buffer.split_off("before".len());
        let read = decode_in_pieces(limit, [&written[..]]);
        assert_eq!(read, if is_bad { vec![] } else { vec![Ok(text)] });
    }
}

//! What reading and writing at once promises, and what the halves of a stream do.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::io::{self, ErrorKind};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ::io::split_stream::{MAX_CHUNK, ReadEnd, Received, Report, WriteEnd, full_duplex};
use bytes::Bytes;
use testing::every_await_point::every_await_point;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter, DuplexStream, ReadBuf, ReadHalf,
    WriteHalf, duplex, split,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);
/// For what must not last for ever, on the real clock too.
const LONG: Duration = Duration::from_secs(300);
/// For what does last for ever, on the virtual clock.
const FOR_EVER: Duration = Duration::from_secs(1_000_000);
/// For what does last for ever, on the real clock.
const A_WHILE: Duration = Duration::from_millis(200);

fn size(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

/// A program that reads and writes at once.
struct Program {
    incoming: mpsc::Receiver<Received>,
    outgoing: mpsc::Sender<Bytes>,
    stop: CancellationToken,
    task: JoinHandle<Report>,
}

/// Chunks of 16 bytes, and channels of 2 items.
fn program<R, W>((reader, writer): (R, W)) -> Program
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (incoming_sender, incoming) = mpsc::channel(2);
    let (outgoing, outgoing_receiver) = mpsc::channel(2);
    let stop = CancellationToken::new();
    let token = stop.clone();
    let task = tokio::spawn(async move {
        let (incoming, outgoing) = (incoming_sender, outgoing_receiver);
        full_duplex(reader, writer, size(16), incoming, outgoing, &token).await
    });
    Program {
        incoming,
        outgoing,
        stop,
        task,
    }
}

/// Everything up to the end of the channel, and whether that was the peer's end.
async fn receive(incoming: &mut mpsc::Receiver<Received>) -> (Vec<u8>, bool) {
    let (mut all, mut ended) = (Vec::new(), false);
    while let Some(received) = incoming.recv().await {
        assert!(!ended, "something comes after the end");
        match received {
            Received::Bytes(bytes) => all.extend_from_slice(&bytes),
            Received::End => ended = true,
        }
    }
    (all, ended)
}

/// A connection over loopback: its two ends.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| u8::try_from((index * 7 + index / 251) % 256).unwrap())
        .collect()
}

/// Writes everything, then reads everything: what goes wrong if the peer does the same.
async fn write_then_read(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    bytes: &[u8],
) -> usize {
    for part in bytes.chunks(64 * 1024) {
        match timeout(A_WHILE, stream.write_all(part)).await {
            Err(_) => return 0,
            Ok(written) => written.unwrap(),
        }
    }
    stream.shutdown().await.unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap()
}

/// The same two programs with this recipe: what each has received.
async fn write_and_read<S>(a: S, b: S, bytes: Vec<u8>) -> [Vec<u8>; 2]
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let bytes = Bytes::from(bytes);
    let run = async |stream: S| {
        let mut program = program(split(stream));
        let (outgoing, item) = (program.outgoing, bytes.clone());
        let send = async move { outgoing.send(item).await.unwrap() };
        let ((received, ended), ()) = tokio::join!(receive(&mut program.incoming), send);
        assert!(ended);
        let report = program.task.await.unwrap();
        assert!(matches!(report.reading, ReadEnd::End), "{report:?}");
        assert!(matches!(report.writing, WriteEnd::Finished), "{report:?}");
        let counts = (report.sent, report.received, report.unsent);
        assert_eq!(counts, (bytes.len() as u64, received.len() as u64, 0));
        received
    };
    timeout(LONG, async {
        let (at_a, at_b) = tokio::join!(run(a), run(b));
        [at_a, at_b]
    })
    .await
    .expect("they stand still")
}

#[tokio::test(start_paused = true)]
async fn two_peers_that_write_before_they_read_stand_still() {
    let bytes = pattern(10_000);
    let (mut a, mut b) = duplex(1_000);
    let (at_a, at_b) = tokio::join!(
        write_then_read(&mut a, &bytes),
        write_then_read(&mut b, &bytes)
    );
    assert_eq!((at_a, at_b), (0, 0));

    let (a, b) = duplex(1_000);
    let received = write_and_read(a, b, bytes.clone()).await;
    assert!(received == [bytes.clone(), bytes]);
}

#[tokio::test]
async fn over_tcp_they_stand_still_as_well_once_the_kernel_s_buffers_are_full() {
    let bytes = pattern(64 * 1024 * 1024);
    let (mut a, mut b) = connection().await;
    let (at_a, at_b) = tokio::join!(
        write_then_read(&mut a, &bytes),
        write_then_read(&mut b, &bytes)
    );
    assert_eq!((at_a, at_b), (0, 0));

    let bytes = pattern(1024 * 1024); // in chunks of 16 bytes
    let (a, b) = connection().await;
    let received = write_and_read(a, b, bytes.clone()).await;
    assert!(received == [bytes.clone(), bytes]);
}

#[tokio::test(start_paused = true)]
async fn reading_goes_on_while_a_write_waits_and_writing_while_nobody_receives() {
    let (stream, mut peer) = duplex(64);
    let mut program = program(split(stream));
    program
        .outgoing
        .send(Bytes::from(pattern(1_000)))
        .await
        .unwrap();
    sleep(SECOND).await; // 64 of them fit, and the peer reads none
    for byte in 0..100 {
        peer.write_u8(byte).await.unwrap();
        let received = timeout(SECOND, program.incoming.recv()).await;
        let expected = Received::Bytes(Bytes::from(vec![byte]));
        assert_eq!(received.expect("reading waits"), Some(expected));
    }

    // Now `incoming` is full, with 2 chunks of 16 bytes at most, and the pipe too.
    let mut accepted = 0;
    while timeout(SECOND, peer.write_u8(0)).await.is_ok() {
        accepted += 1;
    }
    assert!((64 + 2..=64 + 2 * 16).contains(&accepted), "{accepted}");
    let mut sent = vec![0; 1_000];
    let read = timeout(SECOND, peer.read_exact(&mut sent)).await;
    read.expect("writing waits").unwrap();
    assert_eq!(sent, pattern(1_000));
}

#[tokio::test(start_paused = true)]
async fn at_the_end_of_outgoing_the_rest_is_written_the_peer_is_told_and_reading_goes_on() {
    let (stream, mut peer) = duplex(64);
    let Program {
        mut incoming,
        outgoing,
        task,
        ..
    } = program(split(stream));
    for item in ["one ", "two"] {
        outgoing.send(Bytes::from(item)).await.unwrap();
    }
    drop(outgoing);
    let mut text = String::new();
    timeout(SECOND, peer.read_to_string(&mut text))
        .await
        .expect("the peer hears of no end")
        .unwrap();
    assert_eq!(text, "one two");

    let mut received = Vec::new();
    for _ in 0..10 {
        sleep(SECOND).await;
        peer.write_all(b"answer").await.unwrap();
        if let Some(Received::Bytes(bytes)) = incoming.recv().await {
            received.extend(bytes);
        }
    }
    assert!(!task.is_finished());
    drop(peer);
    let (rest, ended) = receive(&mut incoming).await;
    received.extend(rest);
    assert_eq!((received, ended), (b"answer".repeat(10), true));
    let report = task.await.unwrap();
    assert!(matches!(report.writing, WriteEnd::Finished), "{report:?}");
    assert_eq!((report.sent, report.received), (7, 60));
}

#[tokio::test(start_paused = true)]
async fn after_the_peer_s_end_writing_goes_on() {
    let (stream, mut peer) = duplex(64);
    let mut program = program(split(stream));
    peer.write_all(b"ask").await.unwrap();
    peer.shutdown().await.unwrap();
    assert_eq!(
        receive(&mut program.incoming).await,
        (b"ask".to_vec(), true)
    );
    for _ in 0..10 {
        sleep(SECOND).await;
        program.outgoing.send(Bytes::from("answer")).await.unwrap();
    }
    drop(program.outgoing);
    let mut text = String::new();
    peer.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "answer".repeat(10));
    assert!(matches!(
        program.task.await.unwrap().writing,
        WriteEnd::Finished
    ));
}

#[tokio::test]
async fn a_read_error_is_told_apart_from_the_end() {
    for reset in [false, true] {
        let (stream, mut peer) = connection().await;
        let mut program = program(stream.into_split());
        peer.write_all(b"Hello").await.unwrap();
        let first = timeout(LONG, program.incoming.recv()).await.unwrap();
        assert_eq!(first, Some(Received::Bytes(Bytes::from("Hello"))));
        if reset {
            peer.set_zero_linger().unwrap();
        } else {
            drop(program.outgoing);
        }
        drop(peer);
        let (_, ended) = timeout(LONG, receive(&mut program.incoming)).await.unwrap();
        // After the reset `outgoing` is still open: nobody has to close it for this to end.
        let report = timeout(LONG, program.task).await.expect("it goes on");
        let report = report.unwrap();
        assert_eq!(report.received, 5);
        match report.reading {
            ReadEnd::End => assert!(ended && !reset),
            ReadEnd::Failed(error) => {
                assert!(!ended && reset);
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                assert!(matches!(report.writing, WriteEnd::Stopped));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A writer of which one operation fails, after it took `spared` bytes.
struct Faulty<W> {
    inner: W,
    fails: &'static str,
    spared: usize,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Faulty<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match (self.fails, self.spared) {
            ("write", 0) => return Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
            ("write to the full", 0) => return Poll::Ready(Ok(0)),
            _ => {}
        }
        let most = bytes.len().min(self.spared);
        self.spared -= most;
        Pin::new(&mut self.inner).poll_write(cx, &bytes[..most])
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.fails == "flush" {
            return Poll::Ready(Err(ErrorKind::StorageFull.into()));
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.fails == "shutdown" {
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_failed_write_the_senders_learn_of_it_and_reading_goes_on() {
    for (fails, spared, kind, counts) in [
        ("write", 8, ErrorKind::BrokenPipe, (8, 4)),
        ("write to the full", 8, ErrorKind::WriteZero, (8, 4)),
        ("flush", 100, ErrorKind::StorageFull, (12, 0)),
        ("shutdown", 100, ErrorKind::TimedOut, (12, 0)),
    ] {
        let (stream, mut peer) = duplex(64);
        let (reader, inner) = split(stream);
        let writer = Faulty {
            inner,
            fails,
            spared,
        };
        let Program {
            mut incoming,
            outgoing,
            task,
            ..
        } = program((reader, writer));
        for item in ["123456", "789012"] {
            outgoing.send(Bytes::from(item)).await.unwrap();
        }
        if fails == "shutdown" {
            drop(outgoing);
        } else {
            timeout(SECOND, outgoing.closed())
                .await
                .expect("the senders do not learn of it");
        }
        sleep(SECOND).await;
        peer.write_all(b"too much").await.unwrap();
        drop(peer);
        assert_eq!(receive(&mut incoming).await, (b"too much".to_vec(), true));
        let report = task.await.unwrap();
        assert_eq!((report.sent, report.unsent), counts, "{fails}");
        let WriteEnd::Failed(error) = report.writing else {
            panic!("{fails}: {report:?}");
        };
        assert_eq!(error.kind(), kind);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_receiver_ends_the_reading_at_once_and_not_the_writing() {
    for full in [false, true] {
        let (stream, mut peer) = duplex(64);
        let Program {
            incoming,
            outgoing,
            task,
            ..
        } = program(split(stream));
        if full {
            peer.write_all(&[0; 64]).await.unwrap();
        }
        sleep(SECOND).await;
        drop(incoming);
        yield_now().await;
        outgoing.send(Bytes::from("still")).await.unwrap();
        let mut text = [0; 5];
        peer.read_exact(&mut text).await.unwrap();
        drop(outgoing);
        let report = timeout(SECOND, task).await.expect("it reads on").unwrap();
        assert!(matches!(report.reading, ReadEnd::Unwanted), "{report:?}");
        assert!(matches!(report.writing, WriteEnd::Finished), "{report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_both_at_once_with_the_counts() {
    let (stream, mut peer) = duplex(64);
    let mut program = program(split(stream));
    peer.write_all(b"Hello").await.unwrap();
    for _ in 0..3 {
        program
            .outgoing
            .send(Bytes::from(pattern(50)))
            .await
            .unwrap();
    }
    let started = Instant::now();
    sleep(SECOND).await;
    program.stop.cancel();
    let report = program.task.await.unwrap();
    assert_eq!(started.elapsed(), SECOND);
    assert!(matches!(report.reading, ReadEnd::Stopped), "{report:?}");
    assert!(matches!(report.writing, WriteEnd::Stopped), "{report:?}");
    let counts = (report.received, report.sent, report.unsent);
    assert_eq!(counts, (5, 64, 150 - 64));
    let received = receive(&mut program.incoming).await;
    assert_eq!(received, (b"Hello".to_vec(), false), "cut short");
    assert!(program.outgoing.is_closed());
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_after_the_end_on_a_reserved_place_is_in_no_count() {
    let (_peer, stream) = duplex(64);
    let program = program(split(stream));
    let place = program.outgoing.clone().reserve_owned().await.unwrap();
    program.stop.cancel();
    let report = timeout(LONG, program.task).await.unwrap().unwrap();
    place.send(Bytes::from_static(b"lost"));
    assert_eq!((report.sent, report.unsent), (0, 0));
    let refused = program.outgoing.send(Bytes::new()).await;
    assert!(refused.is_err(), "who has reserved none is told");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_stops_both_directions() {
    let (stream, mut peer) = duplex(64);
    let mut program = program(split(stream));
    sleep(SECOND).await;
    program.task.abort();
    assert!(program.task.await.unwrap_err().is_cancelled());
    assert_eq!(receive(&mut program.incoming).await, (Vec::new(), false));
    assert!(program.outgoing.is_closed());
    assert_eq!(
        peer.read(&mut [0]).await.unwrap(),
        0,
        "both halves are gone"
    );
}

/// Never without bytes, never full.
struct Endless;

impl AsyncRead for Endless {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        buffer.initialize_unfilled();
        buffer.advance(buffer.remaining());
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn neither_direction_starves_the_other_or_the_stop() {
    let mut program = program((Endless, tokio::io::sink()));
    let receives = tokio::spawn(async move { while program.incoming.recv().await.is_some() {} });
    let (stop, outgoing) = (program.stop.clone(), program.outgoing);
    for _ in 0..10_000 {
        let sent = timeout(LONG, outgoing.send(Bytes::from_static(&[7; 100])));
        sent.await.expect("writing starves").unwrap();
    }
    stop.cancel();
    let report = timeout(LONG, program.task).await.expect("no stop").unwrap();
    assert_eq!(report.sent + report.unsent, 1_000_000);
    assert!(report.received >= 100_000, "{report:?}");
    receives.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_at_any_byte_has_sent_exactly_that_much() {
    for sent in 0..40 {
        let (stream, mut peer) = duplex(8);
        let mut program = program(split(stream));
        let bytes = pattern(sent);
        let send = async {
            peer.write_all(&bytes).await.unwrap();
            drop(peer);
        };
        let (received, ()) = tokio::join!(receive(&mut program.incoming), send);
        assert_eq!(received, (pattern(sent), true));
    }
}

#[tokio::test(start_paused = true)]
async fn a_chunk_is_as_large_as_asked_for_and_never_enormous() {
    for (asked, first) in [(1, 1), (100, 100), (usize::MAX, MAX_CHUNK)] {
        let (stream, mut peer) = duplex(2 * MAX_CHUNK);
        peer.write_all(&vec![0; 2 * MAX_CHUNK]).await.unwrap();
        let (incoming, mut received) = mpsc::channel(1);
        let (_outgoing, outgoing) = mpsc::channel(1);
        let (reader, writer) = split(stream);
        let stop = CancellationToken::new();
        let run = full_duplex(reader, writer, size(asked), incoming, outgoing, &stop);
        tokio::select! {
            report = run => panic!("{report:?}"),
            received = received.recv() => {
                let Some(Received::Bytes(bytes)) = received else {
                    panic!("{received:?}");
                };
                assert_eq!(bytes.len(), first);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_small_piece_keeps_the_memory_of_its_chunk() {
    let (stream, mut peer) = duplex(64);
    let mut program = program(split(stream));
    let mut pieces = Vec::new();
    for byte in 0..2 {
        peer.write_u8(byte).await.unwrap();
        let Some(Received::Bytes(bytes)) = program.incoming.recv().await else {
            panic!("no byte");
        };
        pieces.push(bytes);
    }
    assert!(pieces.iter().all(|piece| !piece.is_unique()));
}

/// Counts the writes.
struct Counted(Arc<Mutex<Vec<usize>>>);

impl AsyncWrite for Counted {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().push(bytes.len());
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn small_items_are_a_write_each_or_one_together_with_a_buf_writer() {
    for buffered in [false, true] {
        let writes = Arc::new(Mutex::new(Vec::new()));
        let counted = Counted(Arc::clone(&writes));
        let writer: Box<dyn AsyncWrite + Send + Unpin> = if buffered {
            Box::new(BufWriter::new(counted))
        } else {
            Box::new(counted)
        };
        let (_peer, reader) = duplex(1);
        let (incoming, _received) = mpsc::channel(1);
        let (sender, outgoing) = mpsc::channel(100);
        for _ in 0..100 {
            sender.send(Bytes::from("tiny")).await.unwrap();
        }
        let stop = CancellationToken::new();
        let run = full_duplex(reader, writer, size(16), incoming, outgoing, &stop);
        // The sender is still there: what is buffered must not wait for its end.
        timeout(SECOND, run).await.expect_err("the peer is silent");
        let sizes = writes.lock().unwrap().clone();
        assert_eq!(sizes, if buffered { vec![400] } else { vec![4; 100] });
        drop(sender);
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_sends_everything_before_it_receives_stands_still_again() {
    let (a, b) = duplex(64);
    let send_all = async |mut program: Program| {
        for _ in 0..100 {
            program
                .outgoing
                .send(Bytes::from(pattern(16)))
                .await
                .unwrap();
        }
        drop(program.outgoing);
        receive(&mut program.incoming).await
    };
    let both = async { tokio::join!(send_all(program(split(a))), send_all(program(split(b)))) };
    timeout(FOR_EVER, both)
        .await
        .expect_err("it comes to an end");
}

#[tokio::test(start_paused = true)]
async fn two_peers_that_answer_with_more_than_they_receive_stand_still() {
    let (a, b) = duplex(64);
    let (a, b) = (program(split(a)), program(split(b)));
    a.outgoing.send(Bytes::from("?")).await.unwrap();
    let answer = async |mut program: Program| {
        while let Some(Received::Bytes(bytes)) = program.incoming.recv().await {
            for _ in 0..2 {
                program.outgoing.send(bytes.clone()).await.unwrap();
            }
        }
    };
    let both = async { tokio::join!(answer(a), answer(b)) };
    timeout(FOR_EVER, both)
        .await
        .expect_err("it comes to an end");
}

type Halves = (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>);

/// What one round of the test below starts from.
struct Round {
    halves: Halves,
    peer: DuplexStream,
    incoming: mpsc::Sender<Received>,
    received: mpsc::Receiver<Received>,
    outgoing: Option<mpsc::Receiver<Bytes>>,
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_loses_nothing_that_it_read() {
    let points = every_await_point(
        LONG,
        async || {
            let (stream, mut peer) = duplex(64);
            peer.write_all(&pattern(40)).await.unwrap();
            peer.shutdown().await.unwrap();
            let (incoming, received) = mpsc::channel(10);
            let (sender, outgoing) = mpsc::channel(10);
            for part in pattern(40).chunks(20) {
                sender.send(Bytes::copy_from_slice(part)).await.unwrap();
            }
            Round {
                halves: split(stream),
                peer,
                incoming,
                received,
                outgoing: Some(outgoing),
            }
        },
        async |round| {
            let (reader, writer) = &mut round.halves;
            let (incoming, outgoing) = (round.incoming.clone(), round.outgoing.take().unwrap());
            let stop = CancellationToken::new();
            full_duplex(reader, writer, size(16), incoming, outgoing, &stop).await
        },
        async |mut round, _| {
            drop(round.incoming);
            let (mut all, ended) = receive(&mut round.received).await;
            let mut rest = Vec::new();
            round.halves.0.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty() || !ended);
            all.extend(rest);
            assert_eq!(all, pattern(40), "read, and neither passed on nor left");
            drop(round.halves);
            let mut sent = Vec::new();
            round.peer.read_to_end(&mut sent).await.unwrap();
            assert!(pattern(40).starts_with(&sent));
        },
    )
    .await;
    let points = points.unwrap();
    assert!(points >= 10, "{points}");
}

// What the halves of a stream do, without this recipe.

#[tokio::test]
async fn a_dropped_owned_write_half_ends_the_stream_and_a_forgotten_one_does_not() {
    let (stream, mut peer) = connection().await;
    let (mut read, write) = stream.into_split();
    drop(write);
    let end = timeout(LONG, peer.read(&mut [0])).await;
    assert_eq!(end.expect("no end comes").unwrap(), 0);
    peer.write_all(b"x").await.unwrap();
    assert_eq!(read.read_u8().await.unwrap(), b'x', "one direction only");

    let (stream, mut peer) = connection().await;
    let (_read, write) = stream.into_split();
    write.forget();
    timeout(A_WHILE, peer.read(&mut [0]))
        .await
        .expect_err("the peer hears of it");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_write_half_of_the_generic_split_leaves_the_peer_waiting() {
    let (stream, mut peer) = duplex(64);
    let (_read, write) = split(stream);
    drop(write);
    timeout(FOR_EVER, peer.read(&mut [0]))
        .await
        .expect_err("the peer hears of it");

    let (stream, mut peer) = duplex(64);
    let (_read, mut write) = split(stream);
    write.shutdown().await.unwrap();
    assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_dropped_read_half_tells_nobody_and_the_peer_s_writes_get_stuck() {
    let (stream, mut peer) = connection().await;
    let (read, mut write) = stream.into_split();
    drop(read);
    let mut accepted = 0;
    while let Ok(written) = timeout(A_WHILE, peer.write(&[0; 64 * 1024])).await {
        accepted += written.unwrap(); // an error would tell the peer
    }
    assert!(accepted > 0);
    write.write_all(b"x").await.unwrap();
    assert_eq!(
        peer.read_u8().await.unwrap(),
        b'x',
        "and the other way is open"
    );
}

#[tokio::test]
async fn reunited_halves_are_the_stream_again_and_others_come_back_in_the_error() {
    let (stream, mut peer) = connection().await;
    let (other, _other_peer) = connection().await;
    let (read, write) = stream.into_split();
    let (other_read, _other_write) = other.into_split();
    let error = other_read.reunite(write).unwrap_err();
    let tokio::net::tcp::ReuniteError(_, write) = error;
    let mut stream = read.reunite(write).unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(peer.read_u8().await.unwrap(), b'x', "the end was not sent");
}

/// How much a peer receives that reads only after the other end, which had written `written`
/// bytes, is closed; and the error that it meets.
async fn received_after_a_close(unread: bool) -> (usize, usize, Option<ErrorKind>) {
    let (mut stream, mut peer) = connection().await;
    let mut written = 0;
    while let Ok(bytes) = timeout(A_WHILE, stream.write(&[7; 64 * 1024])).await {
        written += bytes.unwrap();
    }
    if unread {
        peer.write_all(b"x").await.unwrap();
        stream.readable().await.unwrap();
    }
    drop(stream);
    let mut received = Vec::new();
    let read = timeout(LONG, peer.read_to_end(&mut received)).await;
    let error = read.expect("no end comes").err().map(|error| error.kind());
    (written, received.len(), error)
}

#[tokio::test]
async fn a_close_with_a_byte_unread_destroys_what_was_on_its_way() {
    let (written, received, error) = received_after_a_close(true).await;
    assert!(received < written, "all {written} bytes arrived");
    assert_eq!(error, Some(ErrorKind::ConnectionReset));

    let (written, received, error) = received_after_a_close(false).await;
    assert_eq!((received, error), (written, None));
}

#[tokio::test]
async fn a_stop_looks_like_a_clean_end_to_the_peer_unless_the_stream_is_reset() {
    for linger_zero in [false, true] {
        let (mut stream, mut peer) = connection().await;
        let (incoming, mut received) = mpsc::channel(1);
        let (sender, outgoing) = mpsc::channel(1);
        sender.send(Bytes::from("Hello")).await.unwrap();
        let stop = CancellationToken::new();
        let (reader, writer) = stream.split();
        let run = full_duplex(reader, writer, size(16), incoming, outgoing, &stop);
        let mut text = [0; 5];
        let talk = async {
            peer.read_exact(&mut text).await.unwrap();
            stop.cancel();
        };
        let (report, ()) = timeout(LONG, async { tokio::join!(run, talk) })
            .await
            .unwrap();
        assert!(matches!(report.writing, WriteEnd::Stopped), "{report:?}");
        assert_eq!(received.recv().await, None);
        if linger_zero {
            stream.set_zero_linger().unwrap();
        }
        drop(stream);
        let end = timeout(LONG, peer.read(&mut [0])).await.unwrap();
        match end {
            Ok(bytes) => assert_eq!((bytes, linger_zero), (0, false)),
            Err(error) => {
                assert_eq!(
                    (error.kind(), linger_zero),
                    (ErrorKind::ConnectionReset, true)
                );
            }
        }
    }
}

/// A stream whose read blocks its thread until a write has begun, or for a while. `true` is sent
/// if the write came first.
struct Overlap {
    reads: blocking::Sender<()>,
    write_begins: (blocking::Sender<()>, Arc<Mutex<blocking::Receiver<()>>>),
    overlapped: blocking::Sender<bool>,
}

impl AsyncRead for Overlap {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reads.send(()).unwrap();
        let begins = self.write_begins.1.lock().unwrap();
        let overlapped = begins.recv_timeout(A_WHILE).is_ok();
        self.overlapped.send(overlapped).unwrap();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Overlap {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write_begins.0.send(()).unwrap();
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Ignored;

impl Wake for Ignored {
    fn wake(self: Arc<Self>) {}
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "it blocks a thread to see who waits for it"
)]
fn halves_of_the_generic_split_wait_for_each_other_s_operations() {
    let (reads, reading) = blocking::channel();
    let (begins, begun) = blocking::channel();
    let (overlapped, outcome) = blocking::channel();
    let stream = Overlap {
        reads,
        write_begins: (begins, Arc::new(Mutex::new(begun))),
        overlapped,
    };
    let (mut read, mut write) = split(stream);
    let reader = std::thread::spawn(move || {
        let waker = Waker::from(Arc::new(Ignored));
        let mut bytes = [0; 1];
        let mut buffer = ReadBuf::new(&mut bytes);
        let read = Pin::new(&mut read).poll_read(&mut Context::from_waker(&waker), &mut buffer);
        assert!(read.is_ready());
    });
    reading.recv().unwrap(); // the read is under way, on its thread
    let waker = Waker::from(Arc::new(Ignored));
    let write = Pin::new(&mut write).poll_write(&mut Context::from_waker(&waker), b"x");
    assert!(matches!(write, Poll::Ready(Ok(1))));
    reader.join().unwrap();
    assert!(
        !outcome.recv().unwrap(),
        "the write came while the read was under way"
    );
}

//! What the relay promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::error::Error;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::num::NonZeroUsize;
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::io::relay::{Carried, End, Limits, MAX_BUFFER, Operation, Report, Side, relay};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, copy_bidirectional,
    duplex,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, unconstrained, yield_now};
use tokio::time::{Instant, advance, sleep, timeout};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(30);
/// For what must not last for ever, on the real clock too.
const LONG: Duration = Duration::from_secs(300);

fn limits(idle: Duration, buffer: usize) -> Limits {
    Limits {
        idle,
        buffer: NonZeroUsize::new(buffer).unwrap(),
    }
}

fn carried(read: u64, written: u64) -> Carried {
    Carried { read, written }
}

/// A relay with its two peers. It drops the relayed streams when it ends.
struct Pair {
    a: DuplexStream,
    b: DuplexStream,
    stop: CancellationToken,
    relay: JoinHandle<(Report, Duration)>,
}

/// A relay that holds `buffer` bytes, over streams that hold `pipe` bytes each way.
fn relayed(pipe: usize, limits: Limits) -> Pair {
    let (a, mut near) = duplex(pipe);
    let (mut far, b) = duplex(pipe);
    let stop = CancellationToken::new();
    let token = stop.clone();
    let started = Instant::now();
    let relay = tokio::spawn(async move {
        let report = relay(&mut near, &mut far, limits, &token).await;
        (report, started.elapsed())
    });
    Pair { a, b, stop, relay }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_one_side_is_passed_on_and_the_other_direction_goes_on() {
    for swapped in [false, true] {
        let Pair { a, b, relay, .. } = relayed(64, limits(IDLE, 16));
        let (mut asks, mut answers) = if swapped { (b, a) } else { (a, b) };
        let mut text = String::new();
        asks.write_all(b"ask").await.unwrap();
        asks.shutdown().await.unwrap();
        timeout(LONG, answers.read_to_string(&mut text))
            .await
            .expect("the end is not passed on")
            .unwrap();
        assert_eq!(text, "ask");

        for _ in 0..10 {
            sleep(IDLE * 2 / 3).await;
            answers.write_all(b"answer").await.unwrap();
        }
        drop(answers);
        text.clear();
        asks.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "answer".repeat(10));

        let (report, ended) = relay.await.unwrap();
        assert!(matches!(report.end, End::Finished), "{report:?}");
        assert_eq!(ended, 10 * IDLE * 2 / 3);
        let mut counts = [report.a_to_b, report.b_to_a];
        if swapped {
            counts.reverse();
        }
        assert_eq!(counts, [carried(3, 3), carried(60, 60)]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_relay_is_reaped_exactly_the_limit_after_its_last_byte() {
    let mut pair = relayed(64, limits(IDLE, 16));
    sleep(7 * SECOND).await;
    pair.a.write_all(b"there").await.unwrap();
    sleep(6 * SECOND).await;
    pair.b.write_all(b"back").await.unwrap();
    let (report, ended) = pair.relay.await.unwrap();
    assert!(matches!(report.end, End::Idle), "{report:?}");
    assert_eq!(ended, 13 * SECOND + IDLE);
    assert_eq!(
        (report.a_to_b, report.b_to_a),
        (carried(5, 5), carried(4, 4))
    );

    let (report, ended) = relayed(64, limits(IDLE, 16)).into_relay().await;
    assert!(matches!(report.end, End::Finished), "both peers were gone");
    assert_eq!(ended, Duration::ZERO);
}

impl Pair {
    /// Drops both peers.
    async fn into_relay(self) -> (Report, Duration) {
        drop((self.a, self.b));
        self.relay.await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_a_second_in_either_direction_is_not_idle() {
    for from_a in [true, false] {
        let mut pair = relayed(64, limits(2 * SECOND, 16));
        let (talks, listens) = if from_a {
            (&mut pair.a, &mut pair.b)
        } else {
            (&mut pair.b, &mut pair.a)
        };
        for _ in 0..100 {
            sleep(SECOND).await;
            talks.write_all(b"x").await.unwrap();
            listens.read_u8().await.unwrap();
        }
        let (report, ended) = pair.relay.await.unwrap();
        assert!(matches!(report.end, End::Idle));
        assert_eq!(ended, 102 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_a_byte_a_second_is_not_idle() {
    // The sender is done at once: from then on nothing is read, and a byte a second is written.
    let mut pair = relayed(1, limits(2 * SECOND, 100));
    let sender = tokio::spawn(async move {
        pair.a.write_all(&[7; 60]).await.unwrap();
        pair.a
    });
    for _ in 0..60 {
        sleep(SECOND).await;
        assert_eq!(pair.b.read_u8().await.unwrap(), 7);
    }
    drop(pair.b);
    drop(sender.await.unwrap());
    let (report, ended) = pair.relay.await.unwrap();
    assert!(matches!(report.end, End::Finished), "{report:?}");
    assert_eq!((report.a_to_b, ended), (carried(60, 60), 60 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_byte_a_second_into_the_buffer_of_a_stalled_direction_is_not_idle() {
    let mut pair = relayed(1, limits(2 * SECOND, 10));
    let sender = tokio::spawn(async move {
        while pair.a.write_u8(0).await.is_ok() {
            sleep(SECOND).await;
        }
    });
    let (report, ended) = pair.relay.await.unwrap();
    assert!(matches!(report.end, End::Idle), "{report:?}");
    // The first, at 0 s, is in the pipe to the stalled peer, the eleventh is the buffer's last.
    assert_eq!((report.a_to_b, ended), (carried(11, 1), 12 * SECOND));
    sender.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn bytes_that_came_while_the_task_could_not_run_are_not_idleness() {
    let mut pair = relayed(64, limits(IDLE, 16));
    yield_now().await;
    pair.a.write_all(b"x").await.unwrap();
    advance(2 * IDLE).await; // as when something blocks the thread
    let (report, ended) = pair.relay.await.unwrap();
    assert!(matches!(report.end, End::Idle), "{report:?}");
    assert_eq!((report.a_to_b, ended), (carried(1, 1), 3 * IDLE));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_holds_a_fast_sender_and_a_stalled_one_is_idle() {
    let mut pair = relayed(64, limits(IDLE, 16));
    let mut accepted = 0;
    while timeout(SECOND, pair.a.write_u8(0)).await.is_ok() {
        accepted += 1;
    }
    assert_eq!(accepted, 64 + 16 + 64, "two pipes and the relay's buffer");
    let (report, ended) = pair.relay.await.unwrap();
    assert!(matches!(report.end, End::Idle), "{report:?}");
    assert_eq!(report.a_to_b, carried(16 + 64, 64), "16 are lost");
    assert_eq!(ended, IDLE);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_it_at_once_with_the_counts() {
    let mut pair = relayed(64, limits(IDLE, 16));
    pair.a.write_all(&[0; 100]).await.unwrap();
    pair.b.write_all(&[0; 70]).await.unwrap();
    sleep(SECOND).await;
    pair.stop.cancel();
    let (report, ended) = pair.relay.await.unwrap();
    assert!(matches!(report.end, End::Stopped), "{report:?}");
    assert_eq!(
        (report.a_to_b, report.b_to_a),
        (carried(80, 64), carried(70, 64))
    );
    assert_eq!(ended, SECOND);

    let (mut near, mut far) = (duplex(1).0, duplex(1).0);
    let report = relay(&mut near, &mut far, limits(IDLE, 1), &pair.stop).await;
    assert!(matches!(report.end, End::Stopped), "stopped beforehand");
}

#[tokio::test]
async fn a_stop_ends_a_relay_that_always_has_bytes_to_move() {
    let mut source = tokio::io::join(tokio::io::repeat(7), tokio::io::sink());
    let mut drain = tokio::io::join(tokio::io::empty(), tokio::io::sink());
    let stop = CancellationToken::new();
    let run = relay(&mut source, &mut drain, limits(IDLE, 1024), &stop);
    let cancel = async {
        for _ in 0..100 {
            yield_now().await;
        }
        stop.cancel();
    };
    let (report, ()) = tokio::join!(run, cancel);
    assert!(matches!(report.end, End::Stopped), "{report:?}");
    assert!(report.a_to_b.written >= 1024);
}

#[tokio::test(start_paused = true)]
async fn zero_and_enormous_limits_are_no_panic() {
    let mut pair = relayed(64, limits(Duration::ZERO, 16));
    pair.a.write_all(&[0; 50]).await.unwrap();
    let (report, ended) = pair.relay.await.unwrap();
    assert!(matches!(report.end, End::Idle), "{report:?}");
    assert_eq!((report.a_to_b, ended), (carried(50, 50), Duration::ZERO));

    let mut pair = relayed(4 * MAX_BUFFER, limits(Duration::MAX, usize::MAX));
    pair.a.write_all(&vec![0; 4 * MAX_BUFFER]).await.unwrap();
    sleep(1_000_000 * IDLE).await;
    assert!(!pair.relay.is_finished());
    // Each read fills a whole buffer, and no more than that.
    let (first, second) = (duplex(4 * MAX_BUFFER), duplex(1));
    let (mut sender, mut near) = first;
    let (mut far, _stalled) = second;
    sender.write_all(&vec![0; 4 * MAX_BUFFER]).await.unwrap();
    let stop = CancellationToken::new();
    let report = relay(&mut near, &mut far, limits(IDLE, usize::MAX), &stop).await;
    assert_eq!(report.a_to_b, carried(MAX_BUFFER as u64, 1));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_at_any_byte_ends_its_direction_there() {
    for sent in 0..40 {
        let mut pair = relayed(8, limits(IDLE, 5));
        let mut received = Vec::new();
        let send = async {
            pair.a.write_all(&[7; 40][..sent]).await.unwrap();
            drop(pair.a);
        };
        let (_, ()) = tokio::join!(pair.b.read_to_end(&mut received), send);
        drop(pair.b);
        let (report, _) = pair.relay.await.unwrap();
        assert!(matches!(report.end, End::Finished), "{report:?}");
        assert_eq!(received.len(), sent);
        assert_eq!(report.a_to_b, carried(sent as u64, sent as u64));
    }
}

/// A stream on which one kind of operation fails, after `spared` good ones.
struct Faulty {
    inner: DuplexStream,
    fails: &'static str,
    kind: ErrorKind,
    spared: usize,
}

impl Faulty {
    fn fault(&mut self, operation: &str) -> io::Result<()> {
        if operation != self.fails {
            return Ok(());
        }
        if self.spared > 0 {
            self.spared -= 1;
            return Ok(());
        }
        if self.kind == ErrorKind::Interrupted {
            self.fails = "nothing more"; // it is tried again at once
        }
        Err(self.kind.into())
    }
}

impl AsyncRead for Faulty {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.fault("read")?;
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Faulty {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.fails == "write" && self.kind == ErrorKind::WriteZero {
            return Poll::Ready(Ok(0));
        }
        self.fault("write")?;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fault("flush")?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fault("shutdown")?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Both peers send ten bytes and finish; one of the relay's streams is faulty.
async fn relay_with(
    side: Side,
    fails: &'static str,
    kind: ErrorKind,
    spared: usize,
) -> (Report, Vec<u8>, Vec<u8>) {
    let ((mut a, near), (far, mut b)) = (duplex(64), duplex(64));
    for peer in [&mut a, &mut b] {
        peer.write_all(b"0123456789").await.unwrap();
        peer.shutdown().await.unwrap();
    }
    let faulty = |inner, here| Faulty {
        inner,
        fails: if here == side { fails } else { "nothing" },
        kind,
        spared,
    };
    let (mut near, mut far) = (faulty(near, Side::A), faulty(far, Side::B));
    let stop = CancellationToken::new();
    let report = relay(&mut near, &mut far, limits(IDLE, 4), &stop).await;
    drop((near, far));
    let (mut at_a, mut at_b) = (Vec::new(), Vec::new());
    a.read_to_end(&mut at_a).await.unwrap();
    b.read_to_end(&mut at_b).await.unwrap();
    (report, at_a, at_b)
}

#[tokio::test(start_paused = true)]
async fn a_failure_says_which_stream_and_what_and_why() {
    for side in [Side::A, Side::B] {
        for (fails, operation, kind, message) in [
            (
                "read",
                Operation::Read,
                ErrorKind::ConnectionReset,
                "read from",
            ),
            ("write", Operation::Write, ErrorKind::BrokenPipe, "write to"),
            ("write", Operation::Write, ErrorKind::WriteZero, "write to"),
            (
                "flush",
                Operation::Write,
                ErrorKind::StorageFull,
                "write to",
            ),
            (
                "shutdown",
                Operation::Write,
                ErrorKind::TimedOut,
                "write to",
            ),
        ] {
            let (report, ..) = relay_with(side, fails, kind, 0).await;
            let End::Failed(failure) = report.end else {
                panic!("{fails} of {side:?}: {report:?}");
            };
            assert_eq!(
                (failure.side, failure.operation),
                (side, operation),
                "{fails}"
            );
            assert_eq!(failure.source.kind(), kind);
            let expected = format!("cannot {message} stream {side:?} any more: drop both");
            assert_eq!(failure.to_string(), expected);
            assert!(failure.source().is_some());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_ends_both_directions_and_the_counts_tell_what_is_lost() {
    // Side B takes 4 bytes and no more: of the 8 read from A, 4 are lost.
    let (report, at_a, at_b) = relay_with(Side::B, "write", ErrorKind::BrokenPipe, 1).await;
    assert!(matches!(report.end, End::Failed(_)), "{report:?}");
    assert_eq!(
        (report.a_to_b, report.b_to_a),
        (carried(8, 4), carried(0, 0))
    );
    assert_eq!(at_b, b"0123");
    assert_eq!(at_a, b"", "the ten bytes that B had sent are lost too");
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_operation_is_tried_again_and_never_blamed() {
    for fails in ["read", "write"] {
        let (report, at_a, at_b) = relay_with(Side::A, fails, ErrorKind::Interrupted, 0).await;
        assert!(matches!(report.end, End::Finished), "{report:?}");
        assert_eq!((at_a, at_b), (b"0123456789".into(), b"0123456789".into()));
    }

    let ((mut a, near), (far, _b)) = (duplex(64), duplex(64));
    a.write_all(b"0123456789").await.unwrap();
    let faulty = |inner, fails, kind| Faulty {
        inner,
        fails,
        kind,
        spared: 0,
    };
    let mut near = faulty(near, "read", ErrorKind::Interrupted);
    let mut far = faulty(far, "write", ErrorKind::BrokenPipe);
    let stop = CancellationToken::new();
    let report = relay(&mut near, &mut far, limits(IDLE, 4), &stop).await;
    let End::Failed(failure) = report.end else {
        panic!("{report:?}");
    };
    assert_eq!(
        (failure.side, failure.operation),
        (Side::B, Operation::Write)
    );
}

#[tokio::test(start_paused = true)]
async fn bare_copying_waits_for_silent_peers_and_a_timeout_around_it_cuts_busy_ones() {
    let ((_a, mut near), (mut far, _b)) = (duplex(64), duplex(64));
    timeout(10_000 * IDLE, copy_bidirectional(&mut near, &mut far))
        .await
        .expect_err("it ends by itself");

    let ((mut a, mut near), (mut far, mut b)) = (duplex(64), duplex(64));
    let talk = async {
        for second in 0..60 {
            if a.write_all(b"x").await.is_err() {
                return second;
            }
            sleep(SECOND).await;
        }
        60
    };
    let run = async {
        let copy = copy_bidirectional(&mut near, &mut far);
        timeout(SECOND * 59 / 2, copy).await.expect_err("busy");
        drop((near, far));
    };
    let mut received = Vec::new();
    let (sent, (), _) = tokio::join!(talk, run, b.read_to_end(&mut received));
    assert_eq!((sent, received.len()), (30, 30), "half of it");
}

/// Suspends before every read and write. It spends none of the cooperative budget: the copying
/// takes a unit itself and hence never gets anywhere if the budget is one and the stream wants one.
struct Halting {
    inner: DuplexStream,
    halted: [bool; 2],
}

impl Halting {
    fn halt(&mut self, operation: usize, cx: &Context<'_>) -> Poll<()> {
        self.halted[operation] = !self.halted[operation];
        if self.halted[operation] {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn go_on<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(Pin<&mut DuplexStream>, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let operation = poll_fn(|cx| operation(Pin::new(&mut self.inner), cx));
        pin!(unconstrained(operation)).poll(cx)
    }
}

impl AsyncRead for Halting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.halt(0, cx));
        self.go_on(cx, |stream, cx| stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Halting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.halt(1, cx));
        self.go_on(cx, |stream, cx| stream.poll_write(cx, bytes))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.go_on(cx, AsyncWrite::poll_flush)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.go_on(cx, AsyncWrite::poll_shutdown)
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_relay_loses_its_buffers_and_leaves_the_streams_usable() {
    const SENT: [(u8, usize); 2] = [(7, 60), (8, 30)];
    let lost = Mutex::new([0; 2]); // the most in any round, by direction
    let points = every_await_point(
        LONG,
        async || {
            let ((mut a, near), (far, mut b)) = (duplex(64), duplex(64));
            for (peer, (byte, size)) in [&mut a, &mut b].into_iter().zip(SENT) {
                peer.write_all(&vec![byte; size]).await.unwrap();
                peer.shutdown().await.unwrap();
            }
            let halted = [false; 2];
            let halting = |inner| Halting { inner, halted };
            ((a, halting(near)), (halting(far), b))
        },
        async |((_, near), (far, _))| {
            relay(near, far, limits(IDLE, 16), &CancellationToken::new()).await
        },
        async |((mut a, near), (far, mut b)), outcome| {
            let (mut near, mut far) = (near.inner, far.inner);
            let mut rest = [Vec::new(), Vec::new()];
            near.read_to_end(&mut rest[0]).await.unwrap();
            far.read_to_end(&mut rest[1]).await.unwrap();
            drop((near, far));
            let mut arrived = [Vec::new(), Vec::new()];
            b.read_to_end(&mut arrived[0]).await.unwrap();
            a.read_to_end(&mut arrived[1]).await.unwrap();
            for (index, (byte, size)) in SENT.into_iter().enumerate() {
                let (rest, arrived) = (&rest[index], &arrived[index]);
                assert!(rest.iter().chain(arrived).all(|got| *got == byte));
                let missing = size - rest.len() - arrived.len();
                assert!(missing <= 16, "{missing}: more than a buffer");
                let most = &mut lost.lock().unwrap()[index];
                *most = missing.max(*most);
                if matches!(outcome, Outcome::Completed(_)) {
                    assert_eq!(arrived.len(), size);
                }
            }
        },
    )
    .await;
    let points = points.unwrap();
    assert!(points >= 12, "{points}");
    assert_eq!(*lost.lock().unwrap(), [16, 16], "a full buffer each way");
}

/// A connection over loopback: its two ends.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

#[tokio::test]
async fn harm_a_peer_that_reads_all_the_time_but_slowly_is_idle() {
    let (mut a, mut near) = duplex(64 * 1024);
    let (mut far, mut b) = connection().await;
    let flood = tokio::spawn(async move { while a.write_all(&[7; 1 << 16]).await.is_ok() {} });
    let run = tokio::spawn(async move {
        let stop = CancellationToken::new();
        relay(&mut near, &mut far, limits(2 * SECOND, 64 * 1024), &stop).await
    });
    let (mut piece, mut taken) = ([0; 4 * 1024], Vec::new());
    let take = async {
        loop {
            b.read_exact(&mut piece).await.unwrap();
            taken.push(Instant::now());
            sleep(SECOND / 50).await;
        }
    };
    let report = tokio::select! {
        report = timeout(LONG, run) => report.expect("it goes on").unwrap(),
        () = take => unreachable!(),
    };
    let ended = Instant::now();
    assert!(matches!(report.end, End::Idle), "{report:?}");
    let lately = |at: &&Instant| ended - **at < 2 * SECOND;
    assert!(taken.iter().filter(lately).count() > 10, "it did not read");
    flood.await.unwrap();
}

#[tokio::test]
async fn ten_mebibytes_pass_each_way_over_real_sockets() {
    const SIZE: usize = 10 * 1024 * 1024;
    let ((mut a, mut near), (mut far, mut b)) = (connection().await, connection().await);
    let run = tokio::spawn(async move {
        let stop = CancellationToken::new();
        relay(&mut near, &mut far, limits(LONG, 64 * 1024), &stop).await
    });
    let pattern = |seed: usize| -> Vec<u8> {
        let byte = |index: usize| u8::try_from((index * seed + index / 251) % 256).unwrap();
        (0..SIZE).map(byte).collect()
    };
    let (from_a, from_b) = (pattern(7), pattern(13));
    let (mut at_a, mut at_b) = (Vec::new(), Vec::new());
    let exchange = async {
        let (mut read_a, mut write_a) = a.split();
        let (mut read_b, mut write_b) = b.split();
        let send_a = async {
            write_a.write_all(&from_a).await.unwrap();
            write_a.shutdown().await.unwrap();
        };
        let send_b = async {
            write_b.write_all(&from_b).await.unwrap();
            write_b.shutdown().await.unwrap();
        };
        let receive_a = read_a.read_to_end(&mut at_a);
        let receive_b = read_b.read_to_end(&mut at_b);
        let (received_a, received_b, (), ()) = tokio::join!(receive_a, receive_b, send_a, send_b);
        assert_eq!((received_a.unwrap(), received_b.unwrap()), (SIZE, SIZE));
    };
    timeout(LONG, exchange).await.expect("it stands still");
    assert!(
        at_a == from_b && at_b == from_a,
        "bytes changed on their way"
    );
    let report = timeout(LONG, run).await.expect("it does not end").unwrap();
    assert!(matches!(report.end, End::Finished), "{report:?}");
    let all = carried(SIZE as u64, SIZE as u64);
    assert_eq!((report.a_to_b, report.b_to_a), (all, all));
}

/// One peer sends five bytes and then resets its connection. What the other peer then reads from
/// the relay, which drops its streams, with a reset if `linger_zero`.
async fn reset_of(side: Side, linger_zero: bool) -> (Report, io::Result<Vec<u8>>) {
    let ((a, mut near), (mut far, b)) = (connection().await, connection().await);
    let run = tokio::spawn(async move {
        let stop = CancellationToken::new();
        let report = relay(&mut near, &mut far, limits(LONG, 1024), &stop).await;
        if linger_zero && !matches!(report.end, End::Finished) {
            near.set_zero_linger().unwrap();
            far.set_zero_linger().unwrap();
        }
        report
    });
    let (mut breaks, mut other) = if side == Side::A { (a, b) } else { (b, a) };
    breaks.write_all(b"Hello").await.unwrap();
    let mut received = vec![0; 5];
    other.read_exact(&mut received).await.unwrap();
    breaks.set_zero_linger().unwrap();
    drop(breaks);
    let report = timeout(LONG, run).await.expect("it goes on").unwrap();
    let rest = timeout(LONG, other.read_to_end(&mut received)).await;
    let rest = rest.expect("the other peer hears of no end");
    (report, rest.map(|_| received))
}

#[tokio::test]
async fn the_reset_of_one_side_is_reported_with_the_counts() {
    for side in [Side::A, Side::B] {
        let (report, _) = reset_of(side, false).await;
        let (there, back) = (report.a_to_b, report.b_to_a);
        let End::Failed(failure) = report.end else {
            panic!("{report:?}");
        };
        assert_eq!((failure.side, failure.operation), (side, Operation::Read));
        assert_eq!(failure.source.kind(), ErrorKind::ConnectionReset);
        let mut counts = [there, back];
        if side == Side::B {
            counts.reverse();
        }
        assert_eq!(counts, [carried(5, 5), carried(0, 0)]);
    }
}

#[tokio::test]
async fn a_reset_looks_like_a_clean_end_to_the_other_peer_unless_it_is_passed_on() {
    let (_, received) = reset_of(Side::A, false).await;
    assert_eq!(received.unwrap(), b"Hello", "and a clean end");
    let (_, received) = reset_of(Side::A, true).await;
    assert_eq!(received.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

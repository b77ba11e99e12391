//! What the TCP server promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::convert::Infallible;
use std::future::pending;
use std::io::{Error, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::io::tcp_server::{Connection, Limits, Listener, Report, bind, echo, serve};
use futures_util::FutureExt;
use testing::capture_events::{Capture, Captured};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream, DuplexStream, duplex, split,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Level;
use tracing::instrument::WithSubscriber;

const SECOND: Duration = Duration::from_secs(1);
/// For what must not take for ever.
const LIMIT: Duration = Duration::from_secs(60);
/// What a pipe between a client and the server holds.
const PIPE: usize = 64;

const LIMITS: Limits = Limits {
    connections: NonZeroUsize::MIN.saturating_add(9_999),
    idle: Duration::MAX,
    write: Duration::MAX,
    lifetime: Duration::MAX,
    drain: SECOND,
};

fn at_most(connections: usize) -> Limits {
    let connections = NonZeroUsize::new(connections).unwrap();
    Limits {
        connections,
        ..LIMITS
    }
}

/// A listener without a network: it accepts what the test sends.
struct Fake {
    accepts: mpsc::UnboundedReceiver<std::io::Result<(DuplexStream, u32)>>,
    accepted: Arc<Mutex<Vec<Instant>>>,
}

impl Listener for Fake {
    type Stream = DuplexStream;
    type Client = u32;

    async fn accept(&mut self) -> std::io::Result<(DuplexStream, u32)> {
        let Some(accepted) = self.accepts.recv().await else {
            pending::<Infallible>().await;
            return Err(ErrorKind::Other.into());
        };
        self.accepted.lock().unwrap().push(Instant::now());
        accepted
    }
}

/// The ends of a [`Fake`] that the test holds.
struct Network {
    accepts: mpsc::UnboundedSender<std::io::Result<(DuplexStream, u32)>>,
    /// When each accept came back.
    accepted: Arc<Mutex<Vec<Instant>>>,
    next: u32,
}

impl Network {
    #[expect(clippy::disallowed_methods, reason = "a test sends a few")]
    fn new() -> (Self, Fake) {
        let (sender, accepts) = mpsc::unbounded_channel();
        let accepted = Arc::<Mutex<Vec<Instant>>>::default();
        let network = Self {
            accepts: sender,
            accepted: Arc::clone(&accepted),
            next: 0,
        };
        (network, Fake { accepts, accepted })
    }

    /// Clients are numbered from 0.
    fn connect(&mut self) -> DuplexStream {
        let (client, server) = duplex(PIPE);
        self.accepts.send(Ok((server, self.next))).ok().unwrap();
        self.next += 1;
        client
    }

    fn fail(&self, kind: ErrorKind) {
        self.accepts.send(Err(kind.into())).ok().unwrap();
    }

    /// The instants of the accepts since `started`.
    fn accepted(&self, started: Instant) -> Vec<u128> {
        let accepted = self.accepted.lock().unwrap();
        accepted
            .iter()
            .map(|instant| instant.duration_since(started).as_millis())
            .collect()
    }
}

struct Server {
    stop: CancellationToken,
    task: JoinHandle<Report>,
}

impl Server {
    fn start<L, F>(
        listener: L,
        limits: Limits,
        handler: impl Fn(Connection<L::Stream>, L::Client, CancellationToken) -> F
        + Send
        + Sync
        + 'static,
    ) -> Self
    where
        L: Listener + Send + 'static,
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let server = serve(listener, limits, stop.clone(), handler);
        // Whoever captures events hears it on other threads, too.
        let task = tokio::spawn(server.with_current_subscriber());
        Self { stop, task }
    }

    async fn stop(self) -> Report {
        self.stop.cancel();
        timeout(LIMIT, self.task)
            .await
            .expect("it does not stop")
            .unwrap()
    }
}

/// An echo server without a network.
fn echo_server(limits: Limits) -> (Network, Server) {
    let (network, fake) = Network::new();
    let server = Server::start(fake, limits, |stream, _, stop| echo(stream, stop));
    (network, server)
}

/// An echo server on a free port of this host.
async fn tcp_echo_server(limits: Limits) -> (SocketAddr, Server) {
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::start(listener, limits, |stream, _, stop| echo(stream, stop));
    (address, server)
}

/// Sends `message` and reads the same back.
async fn exchange(client: &mut (impl AsyncRead + AsyncWrite + Unpin), message: &[u8]) {
    timeout(LIMIT, async {
        client.write_all(message).await.unwrap();
        let mut answer = vec![0; message.len()];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, message);
    })
    .await
    .expect("no answer");
}

/// Ends what is sent, and reads all that comes.
async fn rest(client: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Vec<u8> {
    rest_within(LIMIT, client).await
}

async fn rest_within(
    limit: Duration,
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Vec<u8> {
    let mut all = Vec::new();
    client.shutdown().await.unwrap();
    let read = timeout(limit, client.read_to_end(&mut all)).await;
    read.expect("the stream does not end").unwrap();
    all
}

// Accepting

#[tokio::test(start_paused = true)]
async fn failed_accepts_are_repeated_after_growing_pauses_and_never_end_the_server() {
    let (mut network, server) = echo_server(LIMITS);
    let started = Instant::now();
    for _ in 0..9 {
        network.fail(ErrorKind::OutOfMemory);
    }
    let mut client = network.connect();
    exchange(&mut client, b"still there").await;
    let expected = [0, 10, 30, 70, 150, 310, 630, 1_270, 2_270, 3_270];
    assert_eq!(network.accepted(started), expected);

    let again = Instant::now();
    network.fail(ErrorKind::OutOfMemory);
    let mut other = network.connect();
    exchange(&mut other, b"and now").await;
    assert_eq!(again.elapsed().as_millis(), 10, "a success ends the row");
    drop((client, other));
    let report = server.stop().await;
    assert_eq!((report.served, report.failed_accepts), (2, 10));
}

#[tokio::test(start_paused = true)]
async fn clients_that_leave_before_they_are_accepted_cost_the_others_no_pause() {
    let log = Capture::of("io::tcp_server");
    let _guard = log.start();
    let (mut network, server) = echo_server(LIMITS);
    let started = Instant::now();
    for _ in 0..1_000 {
        network.fail(ErrorKind::ConnectionAborted);
    }
    exchange(&mut network.connect(), b"next").await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(server.stop().await.failed_accepts, 1_000);
    let lines = log.lines();
    let left = |line: &&String| line.starts_with("DEBUG a client left before it was accepted ");
    assert_eq!(lines.iter().filter(left).count(), 1_000);
    assert_eq!(lines.len(), 1_000);
}

/// A listener that does not wait, for so many accepts.
struct Eager {
    left: usize,
    fails: bool,
}

impl Listener for Eager {
    type Stream = DuplexStream;
    type Client = usize;

    async fn accept(&mut self) -> std::io::Result<(DuplexStream, usize)> {
        if self.left == 0 {
            pending::<Infallible>().await;
        }
        self.left -= 1;
        if self.fails {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        Ok((duplex(1).0, self.left))
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_never_waits_leaves_other_tasks_their_turns() {
    for fails in [false, true] {
        let left = 10_000;
        let limits = Limits {
            connections: NonZeroUsize::MAX,
            ..LIMITS
        };
        let server = Server::start(Eager { left, fails }, limits, async |_, _, _| Ok(()));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let report = server.stop().await;
        let accepts = report.served + report.failed_accepts;
        assert!((1..10_000).contains(&accepts), "{accepts}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_heard_during_a_pause() {
    let (network, server) = echo_server(LIMITS);
    for _ in 0..12 {
        network.fail(ErrorKind::OutOfMemory);
    }
    let started = Instant::now();
    sleep(Duration::from_millis(1_500)).await; // in the first pause of a second
    assert_eq!(server.stop().await.failed_accepts, 8);
    assert_eq!(started.elapsed(), Duration::from_millis(1_500));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_during_a_pause_is_counted_and_the_pause_is_kept() {
    let (mut network, server) = echo_server(LIMITS);
    let mut client = network.connect();
    exchange(&mut client, b"open").await;
    let started = Instant::now();
    for _ in 0..3 {
        network.fail(ErrorKind::OutOfMemory);
    }
    sleep(Duration::from_millis(40)).await; // in the pause from 30 ms to 70 ms
    rest(&mut client).await;
    exchange(&mut network.connect(), b"next").await;
    assert_eq!(network.accepted(started)[1..], [0, 10, 30, 70]);
    assert_eq!(server.stop().await.served, 2);
}

#[tokio::test(start_paused = true)]
async fn no_more_connections_than_allowed_are_accepted_and_each_end_makes_room_for_one() {
    let (mut network, server) = echo_server(at_most(2));
    let started = Instant::now();
    let mut clients: Vec<_> = (0..5).map(|_| network.connect()).collect();
    for (round, mut client) in clients.drain(..).enumerate() {
        exchange(&mut client, b"my turn").await;
        sleep(SECOND).await;
        assert_eq!(network.accepted(started).len(), (round + 2).min(5));
        rest(&mut client).await;
    }
    assert_eq!(network.accepted(started), [0, 0, 1_000, 2_000, 3_000]);
    assert_eq!(server.stop().await.served, 5);
}

#[tokio::test(start_paused = true)]
async fn ends_by_error_panic_and_limit_make_room_as_well() {
    let (mut network, fake) = Network::new();
    let limits = Limits {
        lifetime: SECOND,
        ..at_most(1)
    };
    let server = Server::start(fake, limits, async |_, client, _| match client {
        0 => Err(Error::other("broken")),
        1 => panic!("very broken"),
        2 => pending().await,
        _ => Ok(()),
    });
    let started = Instant::now();
    let _clients: Vec<_> = (0..1_000).map(|_| network.connect()).collect();
    sleep(2 * SECOND).await;
    let accepted = network.accepted(started);
    assert_eq!(accepted[..4], [0, 0, 0, 1_000]);
    assert_eq!((accepted.len(), accepted[999]), (1_000, 1_000));
    let report = server.stop().await;
    assert_eq!((report.failed, report.panicked, report.served), (2, 1, 997));
}

// Limits

/// The kind of the error, when it came, and what it said.
type Failure = (ErrorKind, Duration, String);

/// Runs `handler` for one client; gives its end, and the error of the handler.
fn one_client<F>(
    limits: Limits,
    handler: impl Fn(Connection<DuplexStream>) -> F + Send + Sync + 'static,
) -> (DuplexStream, mpsc::Receiver<Failure>, Server)
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let (mut network, fake) = Network::new();
    let (failure, failures) = mpsc::channel(10);
    let started = Instant::now();
    let server = Server::start(fake, limits, move |stream, _, _| {
        let (work, failure) = (handler(stream), failure.clone());
        async move {
            if let Err(error) = work.await {
                let told = (error.kind(), started.elapsed(), error.to_string());
                failure.send(told).await.unwrap();
            }
            Ok(())
        }
    });
    (network.connect(), failures, server)
}

fn token() -> CancellationToken {
    CancellationToken::new()
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_at_the_limit_after_its_last_byte() {
    let limits = Limits {
        idle: 5 * SECOND,
        ..LIMITS
    };
    let (mut client, mut failures, server) = one_client(limits, |stream| echo(stream, token()));
    for pause in [3, 4, 4] {
        sleep(pause * SECOND).await;
        exchange(&mut client, b"hello").await;
    }
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "it was closed");
    let (kind, at, said) = failures.recv().await.unwrap();
    assert_eq!((kind, at), (ErrorKind::TimedOut, 16 * SECOND));
    assert_eq!(said, "no byte has passed for 5s");
    assert_eq!(server.stop().await.served, 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_a_byte_a_second_is_never_idle_and_ends_with_its_lifetime() {
    let limits = Limits {
        idle: 2 * SECOND,
        lifetime: 3_600 * SECOND + SECOND / 2,
        ..LIMITS
    };
    let (mut network, server) = echo_server(limits);
    let mut client = network.connect();
    let started = Instant::now();
    for second in 0..3_600_u16 {
        sleep(SECOND).await;
        exchange(&mut client, &second.to_be_bytes()[1..]).await;
    }
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(started.elapsed(), limits.lifetime);
    assert_eq!(server.stop().await.failed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_ends_at_the_write_limit() {
    let limits = Limits {
        write: 5 * SECOND,
        ..LIMITS
    };
    let (mut client, mut failures, _server) = one_client(limits, |stream| echo(stream, token()));
    let flood = async { while client.write_all(b"take this").await.is_ok() {} };
    timeout(LIMIT, flood).await.expect("it was not closed");
    let (kind, at, said) = failures.recv().await.unwrap();
    assert_eq!((kind, at), (ErrorKind::TimedOut, 5 * SECOND));
    assert_eq!(said, "no byte could be written for 5s");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_a_byte_now_and_then_is_within_the_write_limit() {
    let limits = Limits {
        idle: 5 * SECOND,
        write: 5 * SECOND,
        ..LIMITS
    };
    let (mut client, mut failures, server) = one_client(limits, async |mut stream| {
        stream.write_all(&[7; 3 * PIPE]).await
    });
    for _ in 0..3 * PIPE {
        sleep(4 * SECOND).await;
        assert_eq!(client.read_u8().await.unwrap(), 7);
    }
    assert_eq!(server.stop().await.served, 1);
    assert_eq!(failures.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_is_done_at_once_extends_no_write_limit() {
    let limits = Limits {
        write: 5 * SECOND,
        ..LIMITS
    };
    let (_client, mut failures, _server) = one_client(limits, async |mut stream| {
        loop {
            match timeout(SECOND * 7 / 10, stream.write(&[7; PIPE])).await {
                Ok(written) => drop(written?),
                Err(_) => stream.flush().await?,
            }
        }
    });
    let failure = timeout(LIMIT, failures.recv()).await;
    assert_eq!(failure.expect("no limit").unwrap().1, 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_only_sends_is_not_idle_until_it_stops() {
    let limits = Limits {
        idle: 2 * SECOND,
        ..LIMITS
    };
    let (mut client, mut failures, _server) = one_client(limits, async |stream| {
        let (mut reader, mut writer) = split(stream);
        let send = async {
            for _ in 0..60 {
                sleep(SECOND).await;
                writer.write_u8(7).await?;
            }
            pending().await
        };
        tokio::select! {
            read = reader.read_u8() => read.map(drop),
            sent = send => sent,
        }
    });
    let mut taken = Vec::new();
    client.read_to_end(&mut taken).await.unwrap();
    assert_eq!(taken.len(), 60);
    let (kind, at, _) = failures.recv().await.unwrap();
    assert_eq!((kind, at), (ErrorKind::TimedOut, 62 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn both_halves_of_a_connection_hear_their_limits_in_tasks_of_their_own() {
    let limits = Limits {
        idle: 5 * SECOND,
        write: 3 * SECOND,
        ..LIMITS
    };
    let (_client, mut failures, _server) = one_client(limits, async |stream| {
        let started = Instant::now();
        let (mut reader, mut writer) = split(stream);
        let read = tokio::spawn(async move { (reader.read_u8().await, started.elapsed()) });
        let write = tokio::spawn(async move {
            let written = writer.write_all(&[7; 2 * PIPE]).await;
            (written, started.elapsed())
        });
        let ((read, read_at), (written, written_at)) = (read.await.unwrap(), write.await.unwrap());
        let kinds = (read.unwrap_err().kind(), written.unwrap_err().kind());
        assert_eq!(kinds, (ErrorKind::TimedOut, ErrorKind::TimedOut));
        Err(Error::other(format!("{read_at:?} {written_at:?}")))
    });
    let (_, _, said) = timeout(LIMIT, failures.recv())
        .await
        .expect("a limit was not heard")
        .unwrap();
    assert_eq!(said, "5s 3s");
}

#[tokio::test(start_paused = true)]
async fn after_a_limit_the_connection_can_still_be_used_and_waits_anew() {
    let limits = Limits {
        idle: 2 * SECOND,
        ..LIMITS
    };
    let (mut client, mut failures, _server) = one_client(limits, async |mut stream| {
        assert_eq!(
            stream.read_u8().await.unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        assert_eq!(
            stream.read_u8().await.unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        stream.write_all(b"are you there?").await?;
        stream.read_u8().await.map(drop)
    });
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "are you there?");
    assert_eq!(failures.recv().await.unwrap().1, 6 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn enormous_limits_are_no_panic_and_no_limit() {
    let limits = Limits {
        connections: NonZeroUsize::MAX,
        drain: Duration::MAX,
        ..LIMITS
    };
    for long in [
        Duration::MAX,
        Duration::from_secs(1 << 33),
        Duration::from_secs(1 << 40),
    ] {
        let limits = Limits {
            idle: long,
            write: long,
            lifetime: long,
            ..limits
        };
        let (mut network, server) = echo_server(limits);
        let mut client = network.connect();
        exchange(&mut client, b"now").await;
        client.write_all(&[7; 2 * PIPE]).await.unwrap(); // its write waits, then its read
        sleep(1_000_000 * SECOND).await;
        assert_eq!(rest(&mut client).await, [7; 2 * PIPE]);
        exchange(&mut network.connect(), b"later").await;
        assert_eq!(server.stop().await.served, 2, "{long:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn limits_of_zero_end_what_has_to_wait_and_serve_what_has_not() {
    let zero = Duration::ZERO;
    let limits = Limits {
        idle: zero,
        write: zero,
        lifetime: zero,
        drain: zero,
        connections: NonZeroUsize::MIN,
    };
    let (mut network, server) = echo_server(limits);
    let started = Instant::now();
    let mut prepared = network.connect();
    prepared.write_all(b"all at once").await.unwrap();
    assert_eq!(rest(&mut prepared).await, b"all at once");
    let mut silent = network.connect();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    let report = server.stop().await;
    assert_eq!((report.served, report.failed), (1, 1));
    assert_eq!(started.elapsed(), zero);
}

// One client and the others

#[tokio::test(start_paused = true)]
async fn a_panic_or_an_error_is_told_with_its_client_and_touches_no_other() {
    let log = Capture::of("io::tcp_server");
    let _guard = log.start();
    let (mut network, fake) = Network::new();
    let server = Server::start(fake, LIMITS, |stream, client, stop| {
        assert_ne!(client, 1, "before the future"); // in the call
        async move {
            tokio::task::yield_now().await;
            assert_ne!(client, 2, "in the future");
            if client == 3 {
                return Err(Error::other("out of order"));
            }
            echo(stream, stop).await
        }
    });
    let mut first = network.connect();
    let others: Vec<_> = (1..=3).map(|_| network.connect()).collect();
    let mut last = network.connect();
    for message in [b"before", b"after."] {
        exchange(&mut first, message).await;
        exchange(&mut last, message).await;
    }
    drop((first, last, others));
    let report = server.stop().await;
    assert_eq!((report.served, report.failed, report.panicked), (2, 1, 2));
    let told = log.events();
    for (level, client, what) in [
        (Level::ERROR, "1", "before the future"),
        (Level::ERROR, "2", "in the future"),
        (Level::DEBUG, "3", "out of order"),
    ] {
        let tells = |event: &&Captured| {
            let error = event.field("error").unwrap_or_default();
            event.level == level && event.field("client") == Some(client) && error.contains(what)
        };
        assert_eq!(told.iter().filter(tells).count(), 1, "{told:#?}");
    }
    assert_eq!(told.len(), 3, "{told:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_destructor_that_panics_in_an_abort_is_a_panic_too() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in the destructor");
        }
    }
    let (mut network, fake) = Network::new();
    let server = Server::start(fake, LIMITS, async |_, _, _| {
        let _bomb = Bomb;
        pending().await
    });
    let _client = network.connect();
    sleep(SECOND).await;
    assert_eq!(
        server.stop().await,
        Report {
            panicked: 1,
            ..Report::default()
        }
    );
}

#[tokio::test]
async fn a_reset_is_that_clients_failure_and_touches_no_other() {
    let (address, server) = tcp_echo_server(LIMITS).await;
    let mut steady = TcpStream::connect(address).await.unwrap();
    for _ in 0..20 {
        let mut rude = TcpStream::connect(address).await.unwrap();
        exchange(&mut rude, b"hello").await;
        rude.set_zero_linger().unwrap();
        drop(rude); // a reset, not an end of stream
        exchange(&mut steady, b"still here").await;
    }
    rest(&mut steady).await;
    let report = server.stop().await;
    assert_eq!((report.served, report.failed), (1, 20));
}

#[tokio::test]
async fn a_client_that_closes_at_once_is_served_and_so_is_the_next() {
    let (address, server) = tcp_echo_server(LIMITS).await;
    for _ in 0..100 {
        drop(TcpStream::connect(address).await.unwrap());
    }
    let mut next = TcpStream::connect(address).await.unwrap();
    exchange(&mut next, b"hello").await;
    rest(&mut next).await;
    assert_eq!(server.stop().await.served, 101);
}

#[tokio::test]
async fn a_client_that_closes_at_any_byte_gets_back_what_it_sent() {
    let (address, server) = tcp_echo_server(LIMITS).await;
    let message: Vec<u8> = (0..100).collect();
    for length in 0..=message.len() {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&message[..length]).await.unwrap();
        assert_eq!(rest(&mut client).await, message[..length]);
    }
    assert_eq!(server.stop().await.served, 101);
}

#[tokio::test]
async fn ten_mebibytes_in_odd_pieces_come_back_to_a_client_that_half_closes() {
    let (address, server) = tcp_echo_server(LIMITS).await;
    let client = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = client.into_split();
    let sent: Vec<u8> = (0..10_u32 << 20)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        let (mut rest, mut piece) = (&sent[..], 1);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(piece.min(rest.len()));
            writer.write_all(now).await.unwrap();
            (rest, piece) = (later, (piece * 3 + 1) % 65_521);
        }
        writer.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    timeout(LIMIT, reader.read_to_end(&mut received))
        .await
        .expect("no end")
        .unwrap();
    assert!(
        received == expected,
        "{} of {} bytes",
        received.len(),
        expected.len()
    );
    writer.await.unwrap();
    assert_eq!(server.stop().await.served, 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_back_less_than_it_sends_loses_no_byte() {
    let (mut network, server) = echo_server(LIMITS);
    let (mut reader, mut writer) = split(network.connect());
    let sent: Vec<u8> = (0..=250).cycle().take(100_000).collect();
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let (mut received, mut piece) = (Vec::new(), [0; 7]); // so the server's writes are partial
    while let length @ 1.. = reader.read(&mut piece).await.unwrap() {
        received.extend_from_slice(&piece[..length]);
        sleep(Duration::from_millis(1)).await;
    }
    assert!(received == expected, "{} bytes", received.len());
    writer.await.unwrap();
    drop(reader);
    assert_eq!(server.stop().await.served, 1);
}

#[tokio::test]
async fn every_connection_sends_without_delay() {
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::start(listener, LIMITS, async |stream, client, _| {
        assert!(stream.get_ref().nodelay()?);
        assert_eq!(stream.get_ref().peer_addr()?, client);
        Ok(())
    });
    rest(&mut TcpStream::connect(address).await.unwrap()).await;
    assert_eq!(server.stop().await.served, 1);
}

#[tokio::test]
async fn slices_written_together_are_sent_together() {
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::start(listener, LIMITS, async |mut stream, _, _| {
        assert!(stream.is_write_vectored());
        let slices = [IoSlice::new(b"head "), IoSlice::new(b"body")];
        assert_eq!(stream.write_vectored(&slices).await?, 9);
        Ok(())
    });
    let mut client = TcpStream::connect(address).await.unwrap();
    assert_eq!(rest(&mut client).await, b"head body");
    assert_eq!(server.stop().await.served, 1);
}

#[tokio::test(start_paused = true)]
async fn slices_written_together_hear_the_write_limit() {
    let limits = Limits {
        write: 5 * SECOND,
        ..LIMITS
    };
    let (_client, mut failures, _server) = one_client(limits, async |mut stream| {
        loop {
            let _: usize = stream.write_vectored(&[IoSlice::new(&[7; PIPE])]).await?;
        }
    });
    let failure = timeout(LIMIT, failures.recv()).await;
    assert_eq!(failure.expect("no limit").unwrap().1, 5 * SECOND);
}

/// A listener with one connection.
struct Once<S>(Option<S>);

impl<S: Send + 'static> Listener for Once<S> {
    type Stream = S;
    type Client = ();

    async fn accept(&mut self) -> std::io::Result<(S, ())> {
        match self.0.take() {
            Some(stream) => Ok((stream, ())),
            None => pending().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_flush_reaches_a_stream_that_buffers_as_one_of_tls_does() {
    let (mut client, stream) = duplex(PIPE);
    let listener = Once(Some(BufStream::new(stream)));
    let server = Server::start(listener, LIMITS, async |mut stream, (), _| {
        stream.write_all(b"hello").await?;
        stream.flush().await?;
        stream.read_u8().await.map(drop)
    });
    let mut heard = [0; 5];
    let reading = timeout(LIMIT, client.read_exact(&mut heard)).await;
    reading.expect("it is still in the buffer").unwrap();
    assert_eq!(&heard, b"hello");
    client.write_u8(1).await.unwrap();
    assert_eq!(server.stop().await.served, 1);
}

// The stop

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_handlers_that_come_to_their_end_and_no_longer() {
    let (mut network, fake) = Network::new();
    let server = Server::start(fake, LIMITS, async |_, client, stop: CancellationToken| {
        stop.cancelled().await;
        sleep(Duration::from_millis(100) * client).await;
        Ok(())
    });
    let _clients: Vec<_> = (0..=5).map(|_| network.connect()).collect();
    sleep(SECOND).await;
    let stopped = Instant::now();
    server.stop.cancel();
    sleep(Duration::from_millis(50)).await;
    assert!(network.accepts.is_closed(), "it listens on while it waits");
    let expected = Report {
        served: 6,
        ..Report::default()
    };
    assert_eq!(server.stop().await, expected);
    assert_eq!(stopped.elapsed().as_millis(), 500);
}

#[tokio::test(start_paused = true)]
async fn a_stop_aborts_what_is_stuck_at_the_deadline_and_it_is_gone() {
    let log = Capture::of("io::tcp_server");
    let _guard = log.start();
    let (mut network, fake) = Network::new();
    let (alive, mut gone) = mpsc::channel::<()>(1);
    let server = Server::start(fake, LIMITS, move |_, client, stop| {
        let alive = alive.clone();
        async move {
            let _alive = alive;
            match client {
                0 => stop.cancelled().await,
                _ => pending().await,
            }
            Ok(())
        }
    });
    let _polite = network.connect();
    let mut stuck = network.connect();
    sleep(SECOND).await;
    let stopped = Instant::now();
    let report = server.stop().await;
    let expected = Report {
        served: 1,
        aborted: 1,
        ..Report::default()
    };
    assert_eq!(report, expected);
    assert_eq!(stopped.elapsed(), LIMITS.drain);
    assert_eq!(
        gone.try_recv(),
        Err(mpsc::error::TryRecvError::Disconnected)
    );
    assert_eq!(
        stuck.read(&mut [0]).await.unwrap(),
        0,
        "its connection is closed"
    );
    assert_eq!(log.lines(), ["ERROR a connection was aborted client=1"]);
}

#[tokio::test(start_paused = true)]
async fn the_stopped_echo_gives_back_what_has_arrived_and_ends_the_stream() {
    let (mut network, server) = echo_server(LIMITS);
    let mut idle = network.connect();
    let mut busy = network.connect();
    exchange(&mut idle, b"hello").await;
    busy.write_all(&[7; PIPE]).await.unwrap();
    let started = Instant::now();
    server.stop.cancel(); // and the server has not run since it was written
    assert_eq!(rest(&mut busy).await, [7; PIPE]);
    assert_eq!(rest(&mut idle).await, []);
    assert_eq!(server.stop().await.served, 2);
    assert_eq!(started.elapsed(), Duration::ZERO);

    // More than a task may read in one turn.
    let (mut client, server) = duplex(4 << 20);
    client.write_all(&[7; 4 << 20]).await.unwrap();
    let stopped = token();
    stopped.cancel();
    let (echoed, answer) = tokio::join!(echo(server, stopped), rest(&mut client));
    echoed.unwrap();
    assert_eq!(answer.len(), 4 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_close_after_a_stop_is_aborted_at_the_deadline() {
    let (mut network, server) = echo_server(LIMITS);
    let mut client = network.connect();
    exchange(&mut client, b"hello").await;
    let stopped = Instant::now();
    server.stop.cancel();
    assert_eq!(
        client.read(&mut [0]).await.unwrap(),
        0,
        "it is told at once"
    );
    assert_eq!(stopped.elapsed(), Duration::ZERO);
    let client = tokio::spawn(async move {
        while client.write_all(b"I go on").await.is_ok() {
            sleep(SECOND / 7).await;
        }
    });
    assert_eq!(server.stop().await.aborted, 1);
    assert_eq!(stopped.elapsed(), LIMITS.drain);
    timeout(SECOND, client)
        .await
        .expect("it is still open")
        .unwrap();
}

#[tokio::test]
async fn the_stopped_echo_resets_no_client_in_the_middle_of_sending() {
    for _ in 0..20 {
        let (address, server) = tcp_echo_server(LIMITS).await;
        let client = TcpStream::connect(address).await.unwrap();
        let (mut reader, mut writer) = client.into_split();
        let sending = tokio::spawn(async move {
            let mut sent = 0;
            while sent < 1 << 20 {
                writer.write_all(&[7; 1_000]).await.unwrap();
                sent += 1_000;
                tokio::task::yield_now().await;
            }
            writer.shutdown().await.unwrap();
        });
        let mut answer = vec![0; 10_000];
        reader.read_exact(&mut answer).await.unwrap();
        server.stop.cancel();
        let read = timeout(LIMIT, reader.read_to_end(&mut answer)).await;
        read.expect("no end").expect("a reset");
        sending.await.unwrap();
        assert_eq!(server.stop().await.served, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_before_the_start_accepts_nobody() {
    let (mut network, fake) = Network::new();
    let _client = network.connect();
    let stop = CancellationToken::new();
    stop.cancel();
    let report = serve(fake, LIMITS, stop, |stream, _, stop| echo(stream, stop)).await;
    assert_eq!(report, Report::default());
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_cancels_its_token_stops_nobody_else() {
    let (mut network, fake) = Network::new();
    let server = Server::start(
        fake,
        LIMITS,
        async |stream, client, stop: CancellationToken| {
            if client == 0 {
                stop.cancel();
            }
            echo(stream, stop).await
        },
    );
    assert_eq!(network.connect().read(&mut [0]).await.unwrap(), 0);
    exchange(&mut network.connect(), b"unmoved").await;
    assert_eq!(server.stop().await.served, 2);
}

#[tokio::test]
async fn a_stop_resets_the_clients_that_nobody_has_accepted() {
    let (address, server) = tcp_echo_server(at_most(1)).await;
    let mut served = TcpStream::connect(address).await.unwrap();
    exchange(&mut served, b"hello").await;
    let mut waiting = TcpStream::connect(address).await.unwrap(); // as far as it can tell
    waiting.write_all(b"hello").await.unwrap();
    let nothing = timeout(Duration::from_millis(50), waiting.read(&mut [0])).await;
    nothing.expect_err("one at a time");
    server.stop.cancel();
    rest(&mut served).await;
    assert_eq!(server.stop().await.served, 1);
    let error = timeout(LIMIT, waiting.read(&mut [0]))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(
        refused.kind(),
        ErrorKind::ConnectionRefused,
        "it listens on"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_comes_to_no_await_is_told_as_still_running() {
    let log = Capture::of("io::tcp_server");
    let _guard = log.start();
    let (mut network, fake) = Network::new();
    let limits = Limits {
        drain: Duration::from_millis(10),
        ..LIMITS
    };
    let (begun, has_begun) = oneshot::channel();
    let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
    let handler = Mutex::new(Some((begun, released)));
    let server = Server::start(fake, limits, move |_, _, _| {
        let (begun, released) = handler.lock().unwrap().take().unwrap();
        async move {
            begun.send(()).unwrap();
            released.recv().ok(); // blocks the thread
            Ok(())
        }
    });
    let _client = network.connect();
    has_begun.await.unwrap();
    let report = server.stop().await;
    drop(release);
    assert_eq!(
        report,
        Report {
            still_running: 1,
            ..Report::default()
        }
    );
    assert_eq!(
        log.lines(),
        ["ERROR a connection's handler does not stop client=0"]
    );
}

#[tokio::test]
async fn a_blocking_handler_on_the_only_thread_holds_up_every_deadline() {
    const BLOCKS: Duration = Duration::from_millis(300);
    let (mut network, fake) = Network::new();
    let limits = Limits {
        lifetime: Duration::from_millis(1),
        drain: Duration::ZERO,
        ..LIMITS
    };
    let (begun, has_begun) = oneshot::channel();
    let begun = Mutex::new(Some(begun));
    let server = Server::start(fake, limits, move |_, _, _| {
        let begun = begun.lock().unwrap().take();
        async move {
            begun.unwrap().send(()).unwrap();
            #[expect(clippy::disallowed_methods, reason = "the harm that is shown")]
            std::thread::sleep(BLOCKS);
            Ok(())
        }
    });
    let started = Instant::now();
    let _client = network.connect();
    has_begun.await.unwrap();
    assert_eq!(server.stop().await.served, 1);
    assert!(started.elapsed() >= BLOCKS, "{:?}", started.elapsed());
}

// Dropped futures

#[tokio::test(start_paused = true)]
async fn a_dropped_server_stops_listening_and_aborts_its_connections() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (mut network, fake) = Network::new();
            let clients = [network.connect(), network.connect()];
            let (alive, gone) = mpsc::channel::<()>(1);
            let stop = CancellationToken::new();
            (network, Some(fake), clients, Some(alive), gone, stop)
        },
        async |(_, fake, _, alive, _, stop)| {
            let alive = alive.take().unwrap();
            let asked = stop.clone();
            serve(
                fake.take().unwrap(),
                LIMITS,
                stop.clone(),
                move |_, client, _| {
                    let (alive, asked) = (alive.clone(), asked.clone());
                    async move {
                        let _alive = alive;
                        if client == 1 {
                            asked.cancel();
                            return Ok(());
                        }
                        pending().await
                    }
                },
            )
            .await
        },
        async |(network, fake, _clients, alive, mut gone, _), outcome| {
            drop((fake, alive)); // if it was dropped before it began
            assert!(network.accepts.is_closed(), "it listens on");
            assert_eq!(
                timeout(SECOND, gone.recv()).await,
                Ok(None),
                "a handler lives on"
            );
            if let Outcome::Completed(report) = outcome {
                assert_eq!((report.served, report.aborted), (1, 1));
            }
        },
    )
    .await
    .unwrap();
    assert!(
        points >= 4,
        "{points}: accepts, the ends, the drain, the abort"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dropped_echo_loses_16_kib_at_most() {
    const SENT: usize = 3 * 16 * 1024;
    let points = every_await_point(
        LIMIT,
        async || {
            let (mut client, server) = duplex(2 * SENT);
            client.write_all(&[7; SENT]).await.unwrap();
            client.shutdown().await.unwrap();
            (client, server)
        },
        async |(_, server)| echo(server, token()).await.unwrap(),
        async |(mut client, mut server), outcome| {
            server.shutdown().await.unwrap();
            let (mut unread, mut returned) = (Vec::new(), Vec::new());
            server.read_to_end(&mut unread).await.unwrap();
            drop(server);
            client.read_to_end(&mut returned).await.unwrap();
            let lost = SENT - unread.len() - returned.len();
            match outcome {
                Outcome::Completed(()) => assert_eq!(lost, 0),
                Outcome::Dropped(_) => assert!([0, 16 * 1024].contains(&lost), "{lost}"),
            }
        },
    )
    .await
    .unwrap();
    assert!(
        points >= 7,
        "{points}: three times a read and a write, and the end"
    );
}

#[tokio::test]
async fn a_dropped_bind_listens_on_nothing() {
    let points = every_await_point(
        LIMIT,
        async || {
            let listener = bind("localhost:0").await.unwrap();
            format!("localhost:{}", listener.local_addr().unwrap().port())
        },
        async |address| drop(bind(address).await.unwrap()),
        async |address, _| drop(bind(&address).await.unwrap()),
    )
    .await
    .unwrap();
    assert!(points >= 1, "{points}: the resolver");
}

// Addresses

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it_and_says_what_to_do() {
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let error = bind(&address).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let said = error.to_string();
    let address = format!("cannot listen on {address}: ");
    assert!(
        said.starts_with(&address) && said.ends_with(REMEDY),
        "{said}"
    );
}

const REMEDY: &str =
    "; it takes host:port, an address of this host, and a port that is free and permitted";

#[tokio::test]
async fn an_address_that_cannot_be_used_is_an_error_that_says_what_to_do() {
    for address in [
        "192.0.2.1:0", // reserved for documentation
        "127.0.0.1",
        "127.0.0.1:65536",
        "no such host:80",
    ] {
        let said = bind(address).await.unwrap_err().to_string();
        assert!(said.contains(address) && said.ends_with(REMEDY), "{said}");
    }
}

#[tokio::test]
async fn a_stopped_server_can_be_started_again_at_once_on_the_same_port() {
    let (address, server) = tcp_echo_server(LIMITS).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    exchange(&mut client, b"hello").await;
    server.stop.cancel();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0); // it closes first: its end is in TIME_WAIT
    drop(client);
    assert_eq!(server.stop().await.served, 1);
    let again = bind(&address.to_string()).await.unwrap();
    assert_eq!(again.local_addr().unwrap(), address);
}

/// The stop of a server whose client does not read is a reset; this one reads, and never ends.
#[tokio::test(start_paused = true)]
async fn at_a_stop_echo_ends_the_stream_for_a_client_that_never_stops_sending_as_well() {
    const SIZE: usize = 64 * 1024;
    let (client, server) = duplex(SIZE);
    let stop = CancellationToken::new();
    let echoing = tokio::spawn(echo(server, stop.clone()));
    let (mut answers, mut sends) = split(client);
    let flood = tokio::spawn(async move { while sends.write_all(&[7; SIZE]).await.is_ok() {} });
    let (mut piece, mut came) = ([0; 1_024], 0);
    for _ in 0..2_000 {
        answers.read_exact(&mut piece).await.unwrap();
    }
    stop.cancel();
    loop {
        match answers.read(&mut piece).await.unwrap() {
            0 => break,
            length => came += length,
        }
        assert!(came < 16 << 20, "16 MiB after the stop, and no end");
    }
    assert!(came >= 8 << 20, "as much may have been on its way: {came}");
    flood.abort();
    drop((answers, flood.await)); // the client ends its stream
    timeout(LIMIT, echoing).await.unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_handler_that_has_ended_is_taken_for_one_that_goes_on() {
    /// Its drop is slow: with 600 of them, the time for the abort is over when all are gone.
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            tokio::time::advance(SECOND / 100).now_or_never();
        }
    }
    let (mut network, fake) = Network::new();
    let limits = Limits {
        drain: Duration::ZERO,
        ..LIMITS
    };
    let server = Server::start(fake, limits, async |_, _, _| {
        let _slow = Slow;
        pending().await
    });
    let _clients: Vec<_> = (0..600).map(|_| network.connect()).collect();
    sleep(SECOND).await;
    let expected = Report {
        aborted: 600,
        ..Report::default()
    };
    assert_eq!(server.stop().await, expected);
}

// What to watch out for

#[tokio::test]
async fn a_handler_that_leaves_bytes_unread_loses_the_end_of_its_answer() {
    for reads_to_the_end in [true, false] {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (written, mut was_written) = mpsc::channel(1);
        let server = Server::start(listener, LIMITS, move |mut stream, _, _| {
            let written = written.clone();
            async move {
                stream.read_u8().await?;
                // As much as the kernel takes of an answer, while the client takes nothing.
                let (mut length, answer) = (0, [7; 1 << 16]);
                while let Ok(taken) = timeout(SECOND / 5, stream.write(&answer)).await {
                    length += taken?;
                }
                written.send(length).await.unwrap();
                if reads_to_the_end {
                    stream.shutdown().await?;
                    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
                }
                Ok(())
            }
        });
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&[7; 1_000]).await.unwrap(); // it will read one of these
        let written = timeout(LIMIT, was_written.recv()).await.unwrap().unwrap();
        if !reads_to_the_end {
            server.stop.cancel();
            while !server.task.is_finished() {
                tokio::task::yield_now().await;
            }
        }
        let mut answer = Vec::new();
        let end = async {
            client.shutdown().await.ok();
            client.read_to_end(&mut answer).await
        };
        let end = timeout(LIMIT, end).await.expect("no end");
        assert_eq!(end.is_ok(), reads_to_the_end);
        if let Err(error) = end {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        assert_eq!(
            answer.len() == written,
            reads_to_the_end,
            "{} of {written}",
            answer.len()
        );
        assert_eq!(server.stop().await.served, 1, "the handler notices nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_spawns_outlives_the_server_unless_the_handler_owns_it() {
    for owned in [false, true] {
        let (mut network, fake) = Network::new();
        let server = Server::start(fake, LIMITS, move |mut stream, _, _| async move {
            let mut tasks = tokio::task::JoinSet::new();
            tasks.spawn(async move {
                sleep(3 * SECOND).await;
                stream.write_u8(7).await
            });
            if owned {
                tasks.join_all().await;
            } else {
                tasks.detach_all();
            }
            Ok(())
        });
        let mut client = network.connect();
        sleep(SECOND).await;
        let report = server.stop().await;
        assert_eq!(
            (report.served, report.aborted),
            if owned { (0, 1) } else { (1, 0) }
        );
        let alive = client.read_u8().await.is_ok();
        assert_eq!(alive, !owned);
    }
}

#[tokio::test]
async fn a_write_is_done_although_the_client_never_receives_it() {
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::start(listener, LIMITS, async |mut stream, _, _| {
        stream.write_all(b"thanks").await
    });
    let client = TcpStream::connect(address).await.unwrap();
    client.readable().await.unwrap();
    drop(client); // it has read nothing
    assert_eq!(server.stop().await.served, 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_with_all_places_keeps_the_others_out_for_a_lifetime() {
    let limits = Limits {
        idle: 60 * SECOND,
        lifetime: 3_600 * SECOND,
        ..at_most(2)
    };
    let (mut network, server) = echo_server(limits);
    let mut greedy = [network.connect(), network.connect()];
    let mut other = network.connect();
    let started = Instant::now();
    let drip = tokio::spawn(async move {
        loop {
            for connection in &mut greedy {
                connection.write_u8(7).await.ok();
                connection.read_u8().await.ok();
            }
            sleep(30 * SECOND).await;
        }
    });
    other.write_all(b"my turn").await.unwrap();
    assert_eq!(
        rest_within(2 * limits.lifetime, &mut other).await,
        b"my turn"
    );
    assert_eq!(started.elapsed(), limits.lifetime);
    drip.abort();
    let report = server.stop().await;
    assert_eq!((report.served, report.failed), (1, 2));
}

#[tokio::test]
async fn a_client_that_takes_bytes_too_slowly_ends_at_the_write_limit_all_the_same() {
    let limits = Limits {
        write: 2 * SECOND,
        ..LIMITS
    };
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (failure, mut failures) = mpsc::channel(1);
    let server = Server::start(listener, limits, move |mut stream, _, _| {
        let failure = failure.clone();
        async move {
            let mut last = Instant::now();
            let error = loop {
                match stream.write(&[7; 1 << 16]).await {
                    Ok(_) => last = Instant::now(),
                    Err(error) => break error,
                }
            };
            failure.send((error.kind(), last)).await.unwrap();
            Err(error)
        }
    });
    let mut client = TcpStream::connect(address).await.unwrap();
    let (mut piece, mut taken) = ([0; 4_096], Vec::new());
    let take = async {
        loop {
            taken.push((Instant::now(), client.read(&mut piece).await.unwrap()));
            sleep(Duration::from_millis(20)).await;
        }
    };
    let (kind, last_write) = tokio::select! {
        failed = timeout(LIMIT, failures.recv()) => failed.expect("no limit").unwrap(),
        () = take => unreachable!(),
    };
    assert_eq!(kind, ErrorKind::TimedOut);
    let meanwhile = taken.iter().filter(|(at, _)| *at > last_write);
    let meanwhile: usize = meanwhile.map(|(_, length)| length).sum();
    assert!(meanwhile > 0, "it took nothing while the write waited");
    assert_eq!(server.stop().await.failed, 1);
}

/// What needs a limit on file descriptors of its own, and so a process of its own.
#[cfg(unix)]
mod descriptors {
    use std::os::fd::AsRawFd;
    use std::process::Command;

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::*;

    /// Runs the test of this name in a process of its own. `true` in that process.
    fn in_own_process(test: &str) -> bool {
        const MARK: &str = "TCP_SERVER_TEST";
        if std::env::var_os(MARK).is_some_and(|value| value == test) {
            return true;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args([&format!("descriptors::{test}"), "--exact", "--nocapture"])
            .env(MARK, test)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        false
    }

    fn set_limit(descriptors: u64) {
        let limit = Rlimit {
            current: Some(descriptors),
            ..getrlimit(Resource::Nofile)
        };
        setrlimit(Resource::Nofile, limit).expect("`ulimit -Hn` is too low for this test");
    }

    /// Leaves room for so many more. A new descriptor takes the lowest free number.
    fn leave_room_for(descriptors: u64) {
        let next = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
        set_limit(u64::try_from(next).unwrap() + descriptors);
    }

    /// As many as the system lets wait, and 500 at most: macOS lets 128, as old Linux does.
    fn clients_in_a_queue() -> usize {
        let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
        let allowed = allowed.map_or(128, |text| text.trim().parse().unwrap());
        allowed.min(500)
    }

    #[test]
    fn five_hundred_clients_connect_before_the_first_is_accepted() {
        if in_own_process("five_hundred_clients_connect_before_the_first_is_accepted") {
            set_limit(1_000);
            run(async {
                let listener = bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let mut clients = Vec::new();
                for number in 0..clients_in_a_queue() {
                    let client = timeout(SECOND * 5, TcpStream::connect(address)).await;
                    let client = client.unwrap_or_else(|_| panic!("{number} connected"));
                    clients.push(client.unwrap());
                }
            });
        }
    }

    #[test]
    fn without_file_descriptors_clients_wait_and_are_served_once_there_are_some() {
        if in_own_process(
            "without_file_descriptors_clients_wait_and_are_served_once_there_are_some",
        ) {
            run(async {
                let log = Capture::of("io::tcp_server");
                let _guard = log.start();
                let listener = bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let mut clients = Vec::new();
                for _ in 0..60 {
                    clients.push(TcpStream::connect(address).await.unwrap());
                }
                leave_room_for(20);
                let server = Server::start(listener, LIMITS, |stream, _, stop| echo(stream, stop));
                let mut waiting = clients.split_off(20);
                for client in &mut clients {
                    exchange(client, b"in time").await;
                }
                for client in &mut waiting {
                    client.write_all(b"waiting").await.unwrap();
                }
                sleep(2 * SECOND).await;
                for client in &mut clients {
                    exchange(client, b"still served").await;
                }
                for client in &waiting {
                    let nothing = client.try_read(&mut [0]).unwrap_err();
                    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
                }
                // At 0, 10, 30, 70, 150, 310, 630, 1,270 and 2,270 ms; if it spun, thousands.
                let failed = log.lines();
                assert!((7..=30).contains(&failed.len()), "{failed:#?}");
                assert!(failed[0].starts_with("ERROR") && failed[0].contains("cannot accept"));

                drop(clients);
                for mut client in waiting {
                    let mut answer = [0; 7];
                    timeout(LIMIT, client.read_exact(&mut answer))
                        .await
                        .unwrap()
                        .unwrap();
                    assert_eq!(&answer, b"waiting");
                }
                let report = server.stop().await;
                assert_eq!((report.served, report.failed), (60, 0));
                assert_eq!(report.failed_accepts, log.lines().len() as u64);
            });
        }
    }

    #[test]
    fn a_loop_that_returns_the_error_of_accept_ends_when_descriptors_run_out() {
        if in_own_process("a_loop_that_returns_the_error_of_accept_ends_when_descriptors_run_out") {
            run(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let client = std::net::TcpStream::connect(address).unwrap();
                leave_room_for(0);
                let server = async || -> std::io::Result<Infallible> {
                    loop {
                        drop(listener.accept().await?);
                    }
                };
                let ended = timeout(LIMIT, server()).await.expect("it goes on");
                assert_eq!(ended.unwrap_err().raw_os_error(), Some(24), "EMFILE");
                drop(client);
            });
        }
    }

    #[test]
    fn an_error_of_bind_that_has_another_cause_is_told_as_it_is() {
        if in_own_process("an_error_of_bind_that_has_another_cause_is_told_as_it_is") {
            run(async {
                leave_room_for(0);
                let error = bind("127.0.0.1:0").await.unwrap_err();
                let said = error.to_string();
                assert!(
                    said.contains("(os error 24)") && !said.contains("resolve"),
                    "{said}"
                );
            });
        }
    }

    #[test]
    fn five_thousand_clients_at_once_are_all_answered() {
        const CLIENTS: u16 = 5_000;
        if in_own_process("five_thousand_clients_at_once_are_all_answered") {
            set_limit(2 * u64::from(CLIENTS) + 100); // both ends are in this process
            run(async {
                let (address, server) = tcp_echo_server(at_most(CLIENTS.into())).await;
                let mut connecting = tokio::task::JoinSet::new();
                let everybody = Arc::new(tokio::sync::Barrier::new(CLIENTS.into()));
                // Or the queue overflows, and a client tries again after 1, 3, 7, … s.
                let queue = Arc::new(tokio::sync::Semaphore::new(500));
                let answered = Arc::new(AtomicUsize::new(0));
                for number in 0..CLIENTS {
                    let (everybody, answered) = (Arc::clone(&everybody), Arc::clone(&answered));
                    let queue = Arc::clone(&queue);
                    connecting.spawn(async move {
                        let turn = queue.acquire().await.unwrap();
                        let mut client = TcpStream::connect(address).await.unwrap();
                        exchange(&mut client, &number.to_be_bytes()).await;
                        drop(turn);
                        answered.fetch_add(1, Ordering::Relaxed);
                        everybody.wait().await; // all of them are open now
                        exchange(&mut client, &number.to_le_bytes()).await;
                        rest(&mut client).await;
                    });
                }
                let all = timeout(LIMIT, connecting.join_all()).await;
                assert!(all.is_ok(), "{answered:?} were answered");
                let expected = Report {
                    served: CLIENTS.into(),
                    ..Report::default()
                };
                assert_eq!(server.stop().await, expected);
            });
        }
    }

    /// One thread, so that the log sees everything.
    fn run(test: impl Future<Output = ()>) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(test);
    }
}

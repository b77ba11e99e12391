//! What the UDP server promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::future::pending;
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::io::udp_server::{BindError, Limits, Report, Socket, bind, serve};
use futures_util::poll;
use testing::capture_events::Capture;
use testing::every_await_point::{Outcome, every_await_point};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, advance, sleep, timeout};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);
/// For what must not take for ever.
const LIMIT: Duration = Duration::from_secs(60);
/// The longest datagram over IPv4.
const LONGEST: usize = 65_507;
/// The longest one that a socket sends which nobody has set up for more.
const SENDS: usize = if cfg!(target_os = "macos") {
    9_216
} else {
    LONGEST
};

const LIMITS: Limits = Limits {
    datagram: LONGEST,
    in_flight: NonZeroUsize::MIN.saturating_add(9_999),
    answer: Duration::MAX,
    drain: SECOND,
    abort: SECOND,
};

fn at_most(in_flight: usize) -> Limits {
    let in_flight = NonZeroUsize::new(in_flight).unwrap();
    Limits {
        in_flight,
        ..LIMITS
    }
}

/// To this peer of a [`Fake`] nothing can be sent.
const UNREACHABLE: u32 = 1_000;
/// Sending to this one takes for ever.
const STUCK: u32 = 1_001;

/// A datagram and its sender, or a failure.
type Received = Result<(Vec<u8>, u32)>;

/// A socket without a network: it receives what the test sends.
struct Fake {
    datagrams: tokio::sync::Mutex<mpsc::Receiver<Received>>,
    received: Arc<Mutex<Vec<Instant>>>,
    answers: mpsc::Sender<(Vec<u8>, u32)>,
}

impl Socket for Fake {
    type Peer = u32;

    async fn receive(&self, buffer: &mut [u8]) -> Result<(usize, u32)> {
        let Some(received) = self.datagrams.lock().await.recv().await else {
            return pending().await;
        };
        self.received.lock().unwrap().push(Instant::now());
        let (datagram, peer) = received?;
        let length = datagram.len().min(buffer.len()); // as most systems do
        buffer[..length].copy_from_slice(&datagram[..length]);
        Ok((length, peer))
    }

    async fn answer(&self, answer: &[u8], peer: u32) -> Result<()> {
        match peer {
            UNREACHABLE => Err(Error::other("no way")),
            STUCK => pending().await,
            _ => {
                self.answers.send((answer.to_vec(), peer)).await.ok();
                Ok(())
            }
        }
    }
}

/// The ends of a [`Fake`] that the test holds.
struct Network {
    datagrams: mpsc::Sender<Received>,
    /// When each receive came back.
    received: Arc<Mutex<Vec<Instant>>>,
    answers: mpsc::Receiver<(Vec<u8>, u32)>,
}

impl Network {
    fn new() -> (Self, Arc<Fake>) {
        let (datagrams, taken) = mpsc::channel(10_000);
        let (sent, answers) = mpsc::channel(10_000);
        let received = Arc::<Mutex<Vec<Instant>>>::default();
        let fake = Fake {
            datagrams: taken.into(),
            received: Arc::clone(&received),
            answers: sent,
        };
        let network = Self {
            datagrams,
            received,
            answers,
        };
        (network, Arc::new(fake))
    }

    fn send(&self, peer: u32, datagram: &[u8]) {
        let datagram = datagram.to_vec();
        self.datagrams.try_send(Ok((datagram, peer))).unwrap();
    }

    fn fail(&self, kind: ErrorKind) {
        self.datagrams.try_send(Err(kind.into())).unwrap();
    }

    async fn answer(&mut self) -> (Vec<u8>, u32) {
        let answer = timeout(LIMIT, self.answers.recv()).await;
        answer.expect("no answer").expect("the server is gone")
    }

    async fn exchange(&mut self, peer: u32, message: &[u8]) {
        self.send(peer, message);
        assert_eq!(self.answer().await, (message.to_vec(), peer));
    }

    /// The instants of the receives since `started`.
    fn received(&self, started: Instant) -> Vec<u128> {
        let received = self.received.lock().unwrap();
        received
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
    fn start<S: Socket, F>(
        socket: Arc<S>,
        limits: Limits,
        handler: impl Fn(Vec<u8>, S::Peer) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Option<Vec<u8>>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(socket, limits, stop.clone(), handler));
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

async fn echo<P>(datagram: Vec<u8>, _: P) -> Option<Vec<u8>> {
    Some(datagram)
}

/// An echo server without a network.
fn echo_server(limits: Limits) -> (Network, Server) {
    let (network, fake) = Network::new();
    (network, Server::start(fake, limits, echo))
}

/// An echo server on a free port of this host.
async fn udp_echo_server(limits: Limits) -> (SocketAddr, Server) {
    let socket = bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (address, Server::start(Arc::new(socket), limits, echo))
}

/// A client's socket, with which it talks to `server` only.
async fn client(server: SocketAddr) -> UdpSocket {
    let any = if server.is_ipv4() {
        "127.0.0.1:0"
    } else {
        "[::1]:0"
    };
    let socket = bind(any).await.unwrap();
    socket.connect(server).await.unwrap();
    socket
}

async fn receive(client: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let length = timeout(LIMIT, client.recv(&mut buffer)).await;
    buffer.truncate(length.expect("no answer").unwrap());
    buffer
}

/// Sends `message` and receives the same.
async fn exchange(client: &UdpSocket, message: &[u8]) {
    client.send(message).await.unwrap();
    assert!(receive(client).await == message, "{} bytes", message.len());
}

/// Sends `message` until an answer comes, which is the same: some may be lost.
async fn until_answered(client: &UdpSocket, message: &[u8]) {
    let answered = async {
        loop {
            client.send(message).await.unwrap();
            if let Ok(answer) = timeout(SECOND / 10, receive(client)).await {
                break answer;
            }
        }
    };
    let answer = timeout(LIMIT, answered).await.expect("no answer");
    assert_eq!(answer, message);
}

fn pattern(length: usize) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(length).collect()
}

// Receiving

#[tokio::test(start_paused = true)]
async fn failed_receives_are_repeated_after_growing_pauses_and_never_end_the_server() {
    let log = Capture::of("io::udp_server");
    let _guard = log.start();
    let (mut network, server) = echo_server(LIMITS);
    let started = Instant::now();
    for _ in 0..9 {
        network.fail(ErrorKind::OutOfMemory);
    }
    network.exchange(1, b"still there").await;
    let expected = [0, 10, 30, 70, 150, 310, 630, 1_270, 2_270, 3_270];
    assert_eq!(network.received(started), expected);

    let again = Instant::now();
    network.fail(ErrorKind::OutOfMemory);
    network.exchange(1, b"and now").await;
    assert_eq!(again.elapsed().as_millis(), 10, "a success ends the row");
    let report = server.stop().await;
    assert_eq!((report.answered, report.failed_receives), (2, 10));
    assert_told(&log, 10, "ERROR", "cannot receive");
}

#[tokio::test(start_paused = true)]
async fn answers_that_did_not_arrive_cost_the_others_no_pause() {
    let log = Capture::of("io::udp_server");
    let _guard = log.start();
    let (mut network, server) = echo_server(LIMITS);
    let started = Instant::now();
    for _ in 0..250 {
        network.fail(ErrorKind::ConnectionRefused);
        network.fail(ErrorKind::ConnectionReset);
        network.fail(ErrorKind::HostUnreachable);
        network.fail(ErrorKind::NetworkUnreachable);
    }
    network.exchange(1, b"next").await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(server.stop().await.failed_receives, 1_000);
    assert_told(&log, 1_000, "DEBUG", "did not arrive");
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_heard_during_a_pause() {
    let (network, server) = echo_server(LIMITS);
    for _ in 0..12 {
        network.fail(ErrorKind::OutOfMemory);
    }
    let started = Instant::now();
    sleep(Duration::from_millis(1_500)).await; // in the first pause of a second
    assert_eq!(server.stop().await.failed_receives, 8);
    assert_eq!(started.elapsed(), Duration::from_millis(1_500));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_ends_during_a_pause_is_counted_and_the_pause_is_kept() {
    let (network, fake) = Network::new();
    let server = Server::start(fake, LIMITS, |datagram, peer| async move {
        sleep(Duration::from_millis(40)).await; // in the pause from 30 ms to 70 ms
        echo(datagram, peer).await
    });
    let started = Instant::now();
    network.send(1, b"first");
    for _ in 0..3 {
        network.fail(ErrorKind::OutOfMemory);
    }
    network.send(1, b"next");
    sleep(SECOND).await;
    assert_eq!(network.received(started), [0, 0, 10, 30, 70]);
    assert_eq!(server.stop().await.answered, 2);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_allowed_are_received_and_each_end_makes_room_for_one() {
    let (mut network, fake) = Network::new();
    let server = Server::start(fake, at_most(2), async |datagram, _| {
        sleep(SECOND * u32::from(datagram[0])).await;
        Some(datagram)
    });
    let started = Instant::now();
    for seconds in [1, 3, 1, 5, 1] {
        network.send(0, &[seconds]);
    }
    for _ in 0..5 {
        network.answer().await;
    }
    // Up to 2 s the second one runs as well, from 3 s to 4 s the fifth.
    assert_eq!(network.received(started), [0, 0, 1_000, 2_000, 3_000]);
    let report = server.stop().await;
    assert_eq!((report.answered, report.full), (5, 4));
}

#[tokio::test(start_paused = true)]
async fn a_server_with_room_is_never_full() {
    let (mut network, server) = echo_server(at_most(2));
    for _ in 0..100 {
        network.exchange(1, b"one by one").await;
    }
    assert_eq!(server.stop().await.full, 0);
}

#[tokio::test(start_paused = true)]
async fn whatever_ends_makes_room() {
    let (network, fake) = Network::new();
    let limits = Limits {
        answer: SECOND,
        ..at_most(1)
    };
    let server = Server::start(fake, limits, async |datagram, _| match datagram[..] {
        [0] => panic!("broken"),
        [1] => pending().await,
        [2] => None,
        _ => Some(datagram),
    });
    let started = Instant::now();
    network.send(0, &[0]);
    network.send(0, &[1]);
    network.send(0, &[2]);
    network.send(UNREACHABLE, &[3]);
    network.send(STUCK, &[3]);
    network.send(0, &pattern(LONGEST + 1));
    network.send(0, &[3]);
    sleep(LIMIT).await;
    assert_eq!(
        network.received(started),
        [0, 0, 1_000, 1_000, 1_000, 2_000, 2_000]
    );
    let report = Report {
        answered: 1,
        unanswered: 1,
        unsent: 1,
        late: 2,
        panicked: 1,
        oversize: 1,
        full: 6,
        ..Report::default()
    };
    assert_eq!(server.stop().await, report);
}

// Lengths

#[tokio::test]
async fn the_longest_datagrams_that_can_be_sent_over_ipv4_come_back_whole() {
    let (address, server) = udp_echo_server(LIMITS).await;
    let client = client(address).await;
    let lengths = [1, 1_472, 1_473, 9_000, 32_768, SENDS - 1, SENDS];
    let lengths = lengths.map(|length| length.min(SENDS));
    for length in lengths {
        exchange(&client, &pattern(length)).await;
    }
    client.send(&pattern(SENDS + 1)).await.unwrap_err();
    assert_eq!(server.stop().await.answered, lengths.len() as u64);
}

#[tokio::test]
#[cfg(target_os = "linux")] // others send less
async fn the_longest_datagrams_that_can_be_sent_over_ipv6_come_back_whole() {
    let Ok(socket) = bind("[::1]:0").await else {
        return; // this host has no IPv6
    };
    let address = socket.local_addr().unwrap();
    let limits = Limits {
        datagram: usize::MAX,
        ..LIMITS
    };
    let server = Server::start(Arc::new(socket), limits, echo);
    let client = client(address).await;
    exchange(&client, &pattern(65_527)).await;
    client.send(&pattern(65_528)).await.unwrap_err();
    assert_eq!(server.stop().await.answered, 1);
}

#[tokio::test]
async fn an_empty_datagram_is_a_datagram_and_so_is_an_empty_answer() {
    let (address, server) = udp_echo_server(LIMITS).await;
    let client = client(address).await;
    client.send(&[]).await.unwrap();
    assert_eq!(receive(&client).await, []);
    exchange(&client, b"and on").await;
    assert_eq!(server.stop().await.answered, 2);
}

#[tokio::test]
async fn what_is_longer_than_the_limit_is_counted_and_never_reaches_the_handler() {
    let log = Capture::of("io::udp_server");
    let _guard = log.start();
    for limit in [0, 1, 1_000, SENDS - 10] {
        let socket = bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let limits = Limits {
            datagram: limit,
            ..LIMITS
        };
        let server = Server::start(Arc::new(socket), limits, move |datagram, peer| {
            assert!(datagram.len() <= limit, "{} bytes", datagram.len());
            echo(datagram, peer)
        });
        let client = client(address).await;
        client.send(&pattern(limit + 1)).await.unwrap();
        client.send(&pattern(SENDS)).await.unwrap();
        exchange(&client, &pattern(limit)).await; // the others came before it
        let report = Report {
            answered: 1,
            oversize: 2,
            ..Report::default()
        };
        assert_eq!(server.stop().await, report);
        assert_told(&log, 1, "DEBUG", &format!("length={} ", limit + 1));
    }
    assert_told(&log, 8, "DEBUG", "too long");
}

#[tokio::test(start_paused = true)]
async fn what_fills_the_buffer_may_have_been_cut_and_is_too_long_for_every_limit() {
    let limits = Limits {
        datagram: usize::MAX,
        ..LIMITS
    };
    let (mut network, server) = echo_server(limits);
    network.send(1, &pattern(65_536));
    network.send(1, &pattern(65_537));
    network.exchange(1, &pattern(65_535)).await;
    let report = server.stop().await;
    assert_eq!((report.answered, report.oversize), (1, 2));
}

// Sending

/// A socket that takes each datagram for one from `peer`, if it begins with a 1.
struct Misled {
    socket: UdpSocket,
    peer: SocketAddr,
}

impl Socket for Misled {
    type Peer = SocketAddr;

    async fn receive(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr)> {
        let (length, peer) = self.socket.receive(buffer).await?;
        Ok((length, if buffer[0] == 1 { self.peer } else { peer }))
    }

    async fn answer(&self, answer: &[u8], peer: SocketAddr) -> Result<()> {
        self.socket.answer(answer, peer).await
    }
}

#[tokio::test]
async fn answers_that_cannot_be_sent_are_counted_and_told_and_end_nothing() {
    for (peer, length) in [
        ("127.0.0.1:0", 1),           // a sender's port may be forged, too
        ("[::1]:9", 1),               // not over an IPv4 socket
        ("127.0.0.1:9", LONGEST + 1), // more than a datagram holds
        ("127.0.0.1:9", 10 * LONGEST),
        ("255.255.255.255:9", 1), // which needs the socket's permission
    ] {
        let log = Capture::of("io::udp_server");
        let _guard = log.start();
        let socket = bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let peer = peer.parse().unwrap();
        let misled = Arc::new(Misled { socket, peer });
        let server = Server::start(misled, LIMITS, move |datagram, _| async move {
            let length = if datagram[0] == 1 { length } else { 1 };
            Some(vec![datagram[0]; length])
        });
        let client = client(address).await;
        for _ in 0..3 {
            client.send(&[1]).await.unwrap();
            exchange(&client, &[2]).await;
        }
        let report = Report {
            answered: 3,
            unsent: 3,
            ..Report::default()
        };
        assert_eq!(server.stop().await, report, "{peer} {length}");
        assert_told(&log, 3, "DEBUG", "cannot be sent");
        assert_told(&log, 3, "DEBUG", &format!("peer={peer} "));
    }
}

#[tokio::test]
async fn a_peer_that_is_gone_ends_nothing() {
    let (address, server) = udp_echo_server(LIMITS).await;
    let client = client(address).await;
    for _ in 0..100 {
        let gone = bind("127.0.0.1:0").await.unwrap();
        gone.send_to(b"bye", address).await.unwrap();
        drop(gone);
        exchange(&client, b"hello").await;
    }
    let report = server.stop().await;
    // Windows tells of each in a failed receive.
    assert_eq!((report.answered, report.unsent), (200, 0));
    assert!(report.failed_receives == 0 || cfg!(windows));
}

#[tokio::test]
#[cfg(target_os = "linux")] // elsewhere nothing can be sent to an address over a connected socket
async fn a_connected_socket_that_is_refused_is_received_from_on() {
    let peer = bind("127.0.0.1:0").await.unwrap();
    let peer_address = peer.local_addr().unwrap();
    let socket = Arc::new(client(peer_address).await);
    let address = socket.local_addr().unwrap();
    let server = Server::start(Arc::clone(&socket), LIMITS, echo);
    drop(peer);
    socket.send(b"anybody there?").await.unwrap(); // nobody is, and the next receive tells
    let peer = bind(&peer_address.to_string()).await.unwrap();
    peer.connect(address).await.unwrap();
    until_answered(&peer, b"me").await;
    let report = server.stop().await;
    assert_eq!(report.failed_receives + report.unsent, 1, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_send_that_takes_for_ever_is_late_and_keeps_nobody_waiting() {
    let log = Capture::of("io::udp_server");
    let _guard = log.start();
    let limits = Limits {
        answer: 5 * SECOND,
        ..at_most(2)
    };
    let (mut network, server) = echo_server(limits);
    let started = Instant::now();
    network.send(STUCK, b"stuck");
    for _ in 0..10 {
        network.exchange(1, b"hello").await;
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    network.send(STUCK, b"stuck");
    network.exchange(1, b"room again").await;
    assert_eq!(started.elapsed(), 5 * SECOND);
    sleep(5 * SECOND).await;
    let report = server.stop().await;
    assert_eq!((report.answered, report.late), (11, 2));
    assert_told(&log, 2, "DEBUG", "late");
}

// Limits

#[tokio::test(start_paused = true)]
async fn the_limit_of_an_answer_is_the_handlers_and_the_sends_together() {
    let (alive, mut gone) = mpsc::channel::<()>(1);
    let (network, fake) = Network::new();
    let limits = Limits {
        answer: 5 * SECOND,
        ..at_most(1)
    };
    let server = Server::start(fake, limits, move |datagram, _| {
        let alive = alive.clone();
        async move {
            let _alive = alive;
            sleep(SECOND * u32::from(datagram[0])).await;
            Some(datagram)
        }
    });
    let started = Instant::now();
    network.send(STUCK, &[4]); // then it sends for ever
    network.send(0, &[6]);
    network.send(0, &[4]);
    sleep(LIMIT).await;
    assert_eq!(network.received(started), [0, 5_000, 10_000]);
    let report = server.stop().await;
    assert_eq!((report.answered, report.late), (1, 2));
    assert_eq!(gone.recv().await, None, "a late handler is dropped");
}

#[tokio::test(start_paused = true)]
async fn enormous_limits_are_no_panic_and_no_limit() {
    for long in [
        Duration::MAX,
        Duration::from_secs(1 << 33),
        Duration::from_secs(1 << 40),
    ] {
        let limits = Limits {
            datagram: usize::MAX,
            in_flight: NonZeroUsize::MAX,
            answer: long,
            drain: long,
            abort: long,
        };
        let (mut network, fake) = Network::new();
        let server = Server::start(fake, limits, async |datagram, _| {
            sleep(1_000_000 * SECOND).await;
            Some(datagram)
        });
        network.send(1, b"early");
        sleep(999_970 * SECOND).await;
        assert_eq!(network.answer().await.0, b"early");
        network.send(1, b"at the stop");
        sleep(999_970 * SECOND).await;
        assert_eq!(server.stop().await.answered, 2, "{long:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn limits_of_zero_end_what_has_to_wait_and_answer_what_has_not() {
    let zero = Duration::ZERO;
    let limits = Limits {
        datagram: 0,
        in_flight: NonZeroUsize::MIN,
        answer: zero,
        drain: zero,
        abort: SECOND,
    };
    let (mut network, server) = echo_server(limits);
    let started = Instant::now();
    network.exchange(1, b"").await;
    network.send(1, b"1");
    network.send(STUCK, b"");
    network.exchange(1, b"").await;
    let report = server.stop().await;
    assert_eq!((report.answered, report.oversize, report.late), (2, 1, 1));
    assert_eq!(started.elapsed(), zero);
}

// One peer and the others

#[tokio::test(start_paused = true)]
async fn a_panic_is_told_with_its_peer_and_touches_no_other() {
    let log = Capture::of("io::udp_server");
    let _guard = log.start();
    let (mut network, fake) = Network::new();
    let server = Server::start(fake, LIMITS, |datagram, peer| {
        assert_ne!(peer, 71, "before the future"); // in the call
        async move {
            tokio::task::yield_now().await;
            assert_ne!(peer, 72, "in the future");
            Some(datagram)
        }
    });
    for _ in 0..2 {
        network.exchange(70, b"hello").await;
        network.send(71, b"hello");
        network.send(72, b"hello");
        network.exchange(73, b"hello").await;
    }
    let report = Report {
        answered: 4,
        panicked: 4,
        ..Report::default()
    };
    assert_eq!(server.stop().await, report);
    for (peer, what) in [
        ("peer=71 ", "before the future"),
        ("peer=72 ", "in the future"),
    ] {
        assert_told(&log, 2, "ERROR", peer);
        assert_told(&log, 2, "ERROR", what);
    }
    assert_eq!(log.lines().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_holds_up_nobody() {
    let (mut network, fake) = Network::new();
    let server = Server::start(fake, LIMITS, async |datagram, peer| {
        if peer == 1 {
            sleep(SECOND).await;
        }
        Some(datagram)
    });
    let started = Instant::now();
    network.send(1, b"slow");
    network.exchange(2, b"fast").await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(network.answer().await, (b"slow".to_vec(), 1));
    assert_eq!(started.elapsed(), SECOND);
    assert_eq!(server.stop().await.answered, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_peers_each_get_their_own_answers() {
    const PEERS: u16 = 50;
    const EACH: u16 = 100;
    let (address, server) = udp_echo_server(at_most(8)).await;
    let peers: Vec<_> = (0..PEERS)
        .map(|peer| {
            tokio::spawn(async move {
                let client = client(address).await;
                for number in 0..EACH {
                    let message = [peer.to_be_bytes(), number.to_be_bytes()].concat();
                    exchange(&client, &message).await;
                }
            })
        })
        .collect();
    for peer in peers {
        peer.await.unwrap();
    }
    let report = server.stop().await;
    assert_eq!(report.answered, u64::from(PEERS) * u64::from(EACH));
}

/// A socket that does not wait: it tells without end of an answer that did not arrive.
struct Refused;

impl Socket for Refused {
    type Peer = u32;

    async fn receive(&self, _: &mut [u8]) -> Result<(usize, u32)> {
        Err(ErrorKind::ConnectionRefused.into())
    }

    async fn answer(&self, _: &[u8], _: u32) -> Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_never_waits_leaves_other_tasks_their_turns() {
    let stop = CancellationToken::new();
    let button = stop.clone();
    tokio::spawn(async move { button.cancel() });
    let report = serve(Arc::new(Refused), LIMITS, stop, async |_, _| None).await;
    assert!((1..1_000).contains(&report.failed_receives), "{report:?}");
}

// The stop

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_answers_and_no_longer_and_receives_no_more() {
    let (mut network, fake) = Network::new();
    let limits = Limits {
        drain: 30 * SECOND,
        ..LIMITS
    };
    let server = Server::start(fake, limits, async |datagram, _| {
        sleep(3 * SECOND).await;
        Some(datagram)
    });
    network.send(1, b"in flight");
    sleep(SECOND).await;
    let started = Instant::now();
    server.stop.cancel();
    sleep(SECOND).await;
    network.send(1, b"too late");
    assert_eq!(server.stop().await.answered, 1);
    assert_eq!(started.elapsed(), 2 * SECOND);
    assert_eq!(network.answer().await.0, b"in flight");
    assert_eq!(network.answers.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn no_answer_that_has_ended_is_taken_for_one_that_goes_on() {
    let (network, socket) = Network::new();
    let limits = Limits {
        abort: Duration::ZERO,
        ..at_most(1_000)
    };
    let (stop, go_on) = (CancellationToken::new(), CancellationToken::new());
    let ended = Arc::new(AtomicUsize::new(0));
    let (open, ends) = (go_on.clone(), Arc::clone(&ended));
    let mut server = pin!(serve(socket, limits, stop.clone(), move |_, _| {
        let (open, ends) = (open.clone(), Arc::clone(&ends));
        async move {
            open.cancelled().await;
            ends.fetch_add(1, Ordering::SeqCst);
            None
        }
    }));
    for _ in 0..600 {
        network.send(1, b"hello");
        assert!(poll!(&mut server).is_pending());
        yield_now().await; // each time with a new budget
    }
    stop.cancel();
    assert!(poll!(&mut server).is_pending(), "it waits for them");
    go_on.cancel();
    let all = async {
        while ended.load(Ordering::SeqCst) < 600 {
            yield_now().await;
        }
    };
    timeout(LIMIT, all).await.unwrap();
    // When it is polled again, all have ended and the time is over; but tokio's budget is 128.
    advance(limits.drain).await;
    assert_eq!(server.await.unanswered, 600);
}

#[tokio::test(start_paused = true)]
async fn a_stop_aborts_what_is_stuck_at_the_deadline_and_it_is_gone() {
    let log = Capture::of("io::udp_server");
    let _guard = log.start();
    let (alive, mut gone) = mpsc::channel::<()>(1);
    let (network, fake) = Network::new();
    let limits = Limits {
        drain: 5 * SECOND,
        ..LIMITS
    };
    let server = Server::start(fake, limits, move |_, _| {
        let alive = alive.clone();
        async move {
            let _alive = alive;
            pending().await
        }
    });
    network.send(71, b"hello");
    sleep(SECOND).await;
    let started = Instant::now();
    let report = Report {
        aborted: 1,
        ..Report::default()
    };
    assert_eq!(server.stop().await, report);
    assert_eq!(started.elapsed(), 5 * SECOND);
    assert_eq!(gone.recv().await, None);
    assert_told(&log, 1, "ERROR", "peer=71 ");
    assert_told(&log, 1, "ERROR", "aborted");
}

#[tokio::test(start_paused = true)]
async fn a_destructor_that_panics_in_an_abort_is_a_panic_too() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in the destructor");
        }
    }
    let (network, fake) = Network::new();
    let server = Server::start(fake, LIMITS, async |_, _| {
        let _bomb = Bomb;
        pending().await
    });
    network.send(1, b"hello");
    sleep(SECOND).await;
    let report = Report {
        panicked: 1,
        ..Report::default()
    };
    assert_eq!(server.stop().await, report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_comes_to_no_await_is_told_as_still_running() {
    let limits = Limits {
        drain: Duration::from_millis(10),
        abort: Duration::from_millis(10),
        ..LIMITS
    };
    let log = Capture::of("io::udp_server");
    let _guard = log.start();
    let stop = CancellationToken::new();
    let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
    let state = Mutex::new(Some((stop.clone(), released)));
    let (network, fake) = Network::new();
    network.send(71, b"hello");
    // Not in a task, so that what it tells is told on this thread.
    let server = serve(fake, limits, stop, move |_, _| {
        let (stop, released) = state.lock().unwrap().take().unwrap();
        async move {
            stop.cancel();
            released.recv().ok(); // blocks the thread
            None
        }
    });
    let report = timeout(LIMIT, server).await.expect("it does not stop");
    drop(release);
    let expected = Report {
        still_running: 1,
        ..Report::default()
    };
    assert_eq!(report, expected);
    assert_told(&log, 1, "ERROR", "peer=71 ");
    assert_told(&log, 1, "ERROR", "cannot be stopped");
}

#[tokio::test(start_paused = true)]
async fn a_stop_before_the_start_receives_nothing() {
    let (network, fake) = Network::new();
    network.send(1, b"hello");
    let server = Server::start(fake, LIMITS, echo);
    assert_eq!(server.stop().await, Report::default());
    assert_eq!(network.received(Instant::now()), []);
}

#[tokio::test]
async fn a_stop_is_heard_in_a_flood() {
    let (address, server) = udp_echo_server(LIMITS).await;
    let flood = tokio::spawn(async move {
        let client = bind("127.0.0.1:0").await.unwrap();
        loop {
            client.send_to(b"again", address).await.ok();
        }
    });
    let client = client(address).await;
    until_answered(&client, b"among many").await;
    let stopped = Instant::now();
    assert!(server.stop().await.answered > 0);
    assert!(stopped.elapsed() < LIMIT / 2, "{:?}", stopped.elapsed());
    flood.abort();
}

#[tokio::test]
async fn the_caller_can_send_unasked_and_the_port_is_free_once_its_handle_is_gone() {
    let socket = Arc::new(bind("127.0.0.1:0").await.unwrap());
    let address = socket.local_addr().unwrap();
    let server = Server::start(Arc::clone(&socket), LIMITS, echo);
    let client = client(address).await;
    exchange(&client, b"hello").await;
    let peer = client.local_addr().unwrap();
    socket.send_to(b"news", peer).await.unwrap();
    assert_eq!(receive(&client).await, b"news");
    assert_eq!(server.stop().await.answered, 1);
    let error = bind(&address.to_string()).await.unwrap_err();
    assert_eq!(error.error.kind(), ErrorKind::AddrInUse);
    drop(socket);
    bind(&address.to_string()).await.unwrap();
}

// Dropped futures

#[tokio::test(start_paused = true)]
async fn a_dropped_server_receives_no_more_and_aborts_its_handlers() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (network, fake) = Network::new();
            network.send(0, b"stay");
            network.fail(ErrorKind::OutOfMemory);
            network.send(1, b"stop");
            let (alive, gone) = mpsc::channel::<()>(1);
            (
                network,
                Some(fake),
                Some(alive),
                gone,
                CancellationToken::new(),
            )
        },
        async |(_, fake, alive, _, stop)| {
            let (fake, alive) = (fake.take().unwrap(), alive.take().unwrap());
            let asked = stop.clone();
            serve(fake, LIMITS, stop.clone(), move |datagram, _| {
                let (alive, asked) = (alive.clone(), asked.clone());
                async move {
                    let _alive = alive;
                    if datagram == b"stop" {
                        asked.cancel();
                        return None;
                    }
                    pending().await
                }
            })
            .await
        },
        async |(network, fake, alive, mut gone, _), outcome| {
            drop((fake, alive)); // if it was dropped before it began
            let last = timeout(SECOND, gone.recv()).await;
            assert_eq!(last, Ok(None), "a handler lives on");
            assert!(network.datagrams.is_closed(), "it keeps the socket");
            if let Outcome::Completed(report) = outcome {
                assert_eq!((report.unanswered, report.aborted), (1, 1));
            }
        },
    )
    .await
    .unwrap();
    assert!(
        points >= 5,
        "{points}: two datagrams, a failure, a pause, the stop"
    );
}

#[tokio::test]
async fn a_dropped_receive_has_taken_no_datagram() {
    let points = every_await_point(
        LIMIT,
        async || {
            let server = bind("127.0.0.1:0").await.unwrap();
            let client = client(server.local_addr().unwrap()).await;
            client.send(b"one").await.unwrap();
            server
        },
        async |server| server.receive(&mut [0; 10]).await.unwrap().0,
        async |server, outcome| match outcome {
            Outcome::Completed(length) => assert_eq!(length, 3),
            Outcome::Dropped(_) => assert_eq!(receive(&server).await, b"one"),
        },
    )
    .await
    .unwrap();
    assert!(points >= 1, "{points}");
}

#[tokio::test]
async fn a_dropped_answer_is_sent_whole_or_not_at_all() {
    let points = every_await_point(
        LIMIT,
        async || {
            let server = bind("127.0.0.1:0").await.unwrap();
            let client = client(server.local_addr().unwrap()).await;
            (server, client)
        },
        async |(server, client)| {
            let peer = client.local_addr().unwrap();
            server.answer(&pattern(5_000), peer).await.unwrap();
        },
        async |(server, client), outcome| {
            let peer = client.local_addr().unwrap();
            server.answer(b"next", peer).await.unwrap();
            let mut received = receive(&client).await;
            if outcome == Outcome::Completed(()) || received != b"next" {
                assert!(received == pattern(5_000), "{} bytes", received.len());
                received = receive(&client).await;
            }
            assert_eq!(received, b"next");
        },
    )
    .await
    .unwrap();
    assert!(points >= 1, "{points}");
}

#[tokio::test]
async fn a_dropped_bind_is_bound_to_nothing() {
    let points = every_await_point(
        LIMIT,
        async || {
            let socket = bind("localhost:0").await.unwrap();
            format!("localhost:{}", socket.local_addr().unwrap().port())
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
    let socket = bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let error = bind(&address).await.unwrap_err();
    assert_eq!(error.error.kind(), ErrorKind::AddrInUse);
    let said = error.to_string();
    let begin = format!("cannot receive on {address}: ");
    assert!(said.starts_with(&begin), "{said}");
    let end = "stop the program that receives there, or take another port";
    assert!(said.ends_with(end), "{said}");
}

#[tokio::test]
async fn an_address_that_cannot_be_used_is_an_error_that_says_what_to_do() {
    for (address, remedy) in [
        ("192.0.2.1:0", "take an address of this host"), // reserved for documentation
        ("127.0.0.1", "write it as host:port"),
        ("127.0.0.1:65536", "write it as host:port"),
        ("no such host:53", "check the name"),
    ] {
        let error = bind(address).await.unwrap_err();
        let said = error.to_string();
        assert!(said.contains(address) && said.contains(remedy), "{said}");
    }
    let denied = BindError {
        address: "[::]:53".to_owned(),
        error: ErrorKind::PermissionDenied.into(),
    };
    assert!(denied.to_string().contains("take a port above 1023"));
}

// What to watch out for

/// What is written at first, on one socket, with a buffer of `N` bytes.
async fn naive<const N: usize>(
    socket: &UdpSocket,
    answer: impl Fn(&[u8]) -> Vec<u8>,
) -> Result<()> {
    let mut buffer = [0; N];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await?;
        socket.send_to(&answer(&buffer[..length]), peer).await?;
    }
}

#[tokio::test]
async fn the_naive_loop_ends_at_the_first_answer_that_cannot_be_sent() {
    let socket = bind("127.0.0.1:0").await.unwrap();
    let client = client(socket.local_addr().unwrap()).await;
    let too_long = |request: &[u8]| vec![7; request.len() * (LONGEST + 1)];
    client.send(&[]).await.unwrap();
    client.send(&[1]).await.unwrap();
    client.send(&[]).await.unwrap();
    let ended = timeout(LIMIT, naive::<10>(&socket, too_long)).await;
    ended.expect("it goes on").unwrap_err();
    assert_eq!(receive(&client).await, []);
    client.try_recv(&mut [0]).unwrap_err(); // the third had no answer
}

#[tokio::test]
async fn a_buffer_that_is_too_small_gives_the_beginning_for_the_whole() {
    let socket = bind("127.0.0.1:0").await.unwrap();
    let client = client(socket.local_addr().unwrap()).await;
    let server = tokio::spawn(async move { naive::<8>(&socket, <[u8]>::to_vec).await });
    client.send(b"transfer 1000000").await.unwrap();
    if cfg!(windows) {
        server.await.unwrap().unwrap_err();
        return;
    }
    assert_eq!(receive(&client).await, b"transfer");
    exchange(&client, b"next").await; // and the rest is gone
    server.abort();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_floods_the_server_keeps_the_others_waiting() {
    let (mut network, fake) = Network::new();
    let limits = Limits {
        answer: SECOND,
        ..at_most(10)
    };
    let server = Server::start(fake, limits, async |datagram, peer| {
        if peer == 1 {
            pending::<()>().await;
        }
        Some(datagram)
    });
    for _ in 0..100 {
        network.send(1, b"flood");
    }
    let started = Instant::now();
    network.exchange(2, b"hello").await;
    assert_eq!(started.elapsed(), 10 * SECOND, "100 by 10 at a time");
    assert_eq!(server.stop().await.late, 100);
}

#[tokio::test]
async fn what_the_kernels_buffer_does_not_hold_is_lost_and_no_call_tells() {
    const SENT: u64 = 8_000; // 64 MB
    let socket = bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let client = client(address).await;
    for _ in 0..SENT {
        client.send(&pattern(8_000)).await.unwrap();
    }
    let dropped = dropped(address);
    let server = Server::start(Arc::new(socket), LIMITS, async |datagram, _| {
        (datagram == b"last").then_some(datagram)
    });
    until_answered(&client, b"last").await; // the first of these are lost as well
    let report = server.stop().await;
    let received = report.unanswered;
    assert!(0 < received && received < SENT, "{received}");
    assert_eq!(report.failed_receives, 0);
    if cfg!(target_os = "linux") {
        assert_eq!(dropped, Some(SENT - received));
    }
}

/// The count in the last column of `/proc/net/udp`.
fn dropped(address: SocketAddr) -> Option<u64> {
    let table = std::fs::read_to_string("/proc/net/udp").ok()?;
    let port = format!(":{:04X}", address.port());
    let line = table.lines().find(|line| {
        let local = line.split_whitespace().nth(1);
        local.is_some_and(|local| local.ends_with(&port))
    })?;
    line.split_whitespace().last()?.parse().ok()
}

#[tokio::test(start_paused = true)]
async fn an_answer_longer_than_its_request_floods_whomever_the_request_names() {
    const VICTIM: u32 = 7;
    let (mut network, fake) = Network::new();
    let server = Server::start(fake, LIMITS, async |_, _| Some(pattern(LONGEST)));
    for _ in 0..100 {
        network.send(VICTIM, b"?"); // in the victim's name
    }
    let mut flood = 0;
    for _ in 0..100 {
        let (answer, peer) = network.answer().await;
        assert_eq!(peer, VICTIM);
        flood += answer.len();
    }
    assert_eq!(flood, 100 * LONGEST, "for 100 bytes");
    assert_eq!(server.stop().await.answered, 100);
}

#[tokio::test]
async fn two_servers_that_answer_answers_never_end() {
    const ENOUGH: usize = 1_000;
    let first = Arc::new(bind("127.0.0.1:0").await.unwrap());
    let second = Arc::new(bind("127.0.0.1:0").await.unwrap());
    let answers = Arc::new(AtomicUsize::new(0));
    let (enough, had_enough) = oneshot::channel();
    let enough = Mutex::new(Some(enough));
    let count = Arc::clone(&answers);
    let one = Server::start(Arc::clone(&first), LIMITS, echo);
    let other = Server::start(Arc::clone(&second), LIMITS, move |datagram, peer| {
        if count.fetch_add(1, Ordering::Relaxed) + 1 == ENOUGH {
            enough.lock().unwrap().take().unwrap().send(()).unwrap();
        }
        echo(datagram, peer)
    });
    // One datagram, as if it came from the second server.
    let address = first.local_addr().unwrap();
    second.send_to(b"ping", address).await.unwrap();
    timeout(LIMIT, had_enough).await.expect("it ended").unwrap();
    assert!(one.stop().await.answered >= ENOUGH as u64 - 1);
    assert!(other.stop().await.answered >= ENOUGH as u64 - 1);
}

#[tokio::test(start_paused = true)]
async fn answers_overtake_each_other_and_what_comes_twice_is_handled_twice() {
    let (mut network, fake) = Network::new();
    let server = Server::start(fake, LIMITS, async |datagram, _| {
        sleep(SECOND * u32::from(datagram[0])).await;
        Some(datagram)
    });
    for datagram in [&[2], &[1], &[1]] {
        network.send(7, datagram);
    }
    for expected in [[1], [1], [2]] {
        assert_eq!(network.answer().await, (expected.to_vec(), 7));
    }
    assert_eq!(server.stop().await.answered, 3);
}

#[tokio::test]
#[cfg(target_os = "linux")] // the only one on which all of 127.0.0.0/8 is this host
async fn behind_every_address_an_answer_leaves_from_another_than_the_one_that_was_asked() {
    for (bound, answered) in [("0.0.0.0:0", false), ("127.0.0.2:0", true)] {
        let socket = bind(bound).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let server = Server::start(Arc::new(socket), LIMITS, echo);
        let client = client(SocketAddr::from(([127, 0, 0, 2], port))).await;
        client.send(b"hello").await.unwrap();
        let wait = if answered { LIMIT } else { SECOND / 5 };
        let answer = timeout(wait, client.recv(&mut [0; 10])).await;
        assert_eq!(answer.is_ok_and(|length| length.unwrap() == 5), answered);
        assert_eq!(
            server.stop().await.answered,
            1,
            "the server notices nothing"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_spawns_outlives_the_server() {
    let (network, fake) = Network::new();
    let (done, is_done) = oneshot::channel();
    let done = Mutex::new(Some(done));
    let server = Server::start(fake, at_most(1), move |_, _| {
        let done = done.lock().unwrap().take();
        async move {
            tokio::spawn(async move {
                sleep(LIMIT).await;
                done.map(|done| done.send(()))
            });
            None
        }
    });
    let started = Instant::now();
    network.send(1, b"hello");
    sleep(SECOND).await;
    assert_eq!(server.stop().await.unanswered, 1);
    is_done.await.unwrap();
    assert_eq!(started.elapsed(), LIMIT);
}

/// So many events of this level have `what` in their line, which ends with a space.
#[track_caller]
fn assert_told(log: &Capture, times: usize, level: &str, what: &str) {
    let lines = log.lines();
    let tells = |line: &&String| line.starts_with(level) && format!("{line} ").contains(what);
    let told = lines.iter().filter(tells).count();
    assert_eq!(told, times, "{level} {what}: {lines:#?}");
}

//! That no peer, no answer and no datagram is the end of the server, over real sockets.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::fmt::Debug;
use std::future::pending;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use ::io::udp_server::{Limits, Report, bind, serve};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::field::Field;
use tracing::{Dispatch, Event, Metadata, Subscriber, span};

/// For what comes: a loaded machine may be slow.
const LIMIT: Duration = Duration::from_secs(60);
/// For what never comes.
const WHILE: Duration = Duration::from_millis(200);
const LARGEST: usize = 65_507;

fn limits() -> Limits {
    Limits {
        datagram: NonZeroUsize::new(LARGEST).unwrap(),
        at_once: NonZeroUsize::new(16).unwrap(),
        answer: LIMIT,
        drain: LIMIT,
    }
}

fn count(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Report>,
}

impl Server {
    async fn start<F>(
        limits: Limits,
        handler: impl Fn(Vec<u8>, SocketAddr) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Option<Vec<u8>>> + Send + 'static,
    {
        Self::on(bind("127.0.0.1:0").await.unwrap(), limits, handler)
    }

    fn on<F>(
        socket: UdpSocket,
        limits: Limits,
        handler: impl Fn(Vec<u8>, SocketAddr) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Option<Vec<u8>>> + Send + 'static,
    {
        let (address, stop) = (socket.local_addr().unwrap(), CancellationToken::new());
        let task = tokio::spawn(serve(socket, limits, stop.clone(), handler));
        Self {
            address,
            stop,
            task,
        }
    }

    async fn stop(self) -> Report {
        self.stop.cancel();
        timeout(LIMIT, self.task).await.unwrap().unwrap()
    }
}

async fn echo(datagram: Vec<u8>, _: SocketAddr) -> Option<Vec<u8>> {
    Some(datagram)
}

async fn client() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; LARGEST + 1];
    let received = timeout(LIMIT, socket.recv(&mut buffer)).await.unwrap();
    buffer.truncate(received.unwrap());
    buffer
}

async fn ask(server: SocketAddr, question: &[u8]) -> Vec<u8> {
    let socket = client().await;
    socket.send_to(question, server).await.unwrap();
    receive(&socket).await
}

#[tokio::test]
async fn datagrams_of_every_length_come_back_whole_the_empty_and_the_largest_too() {
    let server = Server::start(limits(), echo).await;
    let lengths = [0, 1, 511, 1_472, 1_473, 9_000, LARGEST - 1, LARGEST];
    for length in lengths {
        let question: Vec<_> = (0..=250).cycle().take(length).collect();
        assert_eq!(ask(server.address, &question).await, question);
    }
    let expected = Report {
        answered: lengths.len() as u64,
        ..Report::default()
    };
    assert_eq!(server.stop().await, expected);
}

#[tokio::test]
async fn a_datagram_over_the_limit_is_counted_and_not_passed_on() {
    let (log, _guard) = Log::keep();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let lengths = Arc::clone(&seen);
    let handler = move |datagram: Vec<u8>, peer| {
        lengths.lock().unwrap().push(datagram.len());
        echo(datagram, peer)
    };
    let server = Server::start(
        Limits {
            datagram: count(100),
            ..limits()
        },
        handler,
    )
    .await;
    let socket = client().await;
    for length in [101, LARGEST] {
        socket
            .send_to(&vec![0; length], server.address)
            .await
            .unwrap();
    }
    assert_eq!(ask(server.address, &[7; 100]).await, [7; 100]);
    let report = server.stop().await;
    assert_eq!(
        report,
        Report {
            answered: 1,
            too_long: 2,
            ..Report::default()
        }
    );
    assert_eq!(*seen.lock().unwrap(), [100]);
    let peer = socket.local_addr().unwrap();
    let line = format!("WARN dropped a datagram that is too long {peer} 101");
    assert!(log.has(&line), "{log:#?}");
}

#[tokio::test]
async fn harm_a_short_buffer_cuts_a_datagram_and_says_nothing() {
    let (one, two) = (client().await, client().await);
    one.send_to(&[7; 200], two.local_addr().unwrap())
        .await
        .unwrap();
    let mut short = [0; 100];
    let (length, _) = two.recv_from(&mut short).await.unwrap();
    assert_eq!(length, 100);
    assert!(
        timeout(WHILE, two.recv_from(&mut short)).await.is_err(),
        "the rest is gone"
    );
}

#[tokio::test]
async fn an_answer_that_cannot_be_sent_ends_nothing() {
    let (log, _guard) = Log::keep();
    // One byte more than a datagram holds.
    let handler = async |question: Vec<u8>, _| {
        Some(vec![0; if question == b"large" { LARGEST + 1 } else { 1 }])
    };
    let server = Server::start(limits(), handler).await;
    let socket = client().await;
    for _ in 0..3 {
        socket.send_to(b"large", server.address).await.unwrap();
    }
    assert_eq!(ask(server.address, b"small").await, [0]);
    let report = server.stop().await;
    assert_eq!(
        report,
        Report {
            answered: 1,
            failed: 3,
            ..Report::default()
        }
    );
    let line = format!(
        "WARN cannot send an answer {}",
        socket.local_addr().unwrap()
    );
    assert!(log.has(&line), "{log:#?}");
}

#[tokio::test]
async fn a_peer_that_is_gone_ends_nothing() {
    let server = Server::start(limits(), echo).await;
    for _ in 0..10 {
        client()
            .await
            .send_to(b"gone", server.address)
            .await
            .unwrap();
    }
    assert_eq!(ask(server.address, b"here").await, b"here");
    let report = server.stop().await;
    assert_eq!(
        report.answered, 11,
        "what is sent to a closed port counts as well"
    );
}

#[tokio::test]
async fn harm_a_send_to_a_closed_port_fails_the_next_receive_of_a_connected_socket() {
    let gone = client().await.local_addr().unwrap();
    let socket = client().await;
    socket.connect(gone).await.unwrap();
    socket.send(b"anybody?").await.unwrap();
    let error = timeout(LIMIT, socket.recv(&mut [0; 1]))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_receive_that_fails_is_counted_and_the_next_one_tried() {
    let (log, _guard) = Log::keep();
    // As above: each answer to a peer that has left is an error of a later receive.
    let peer = client().await;
    let peer_address = peer.local_addr().unwrap();
    let socket = bind("127.0.0.1:0").await.unwrap();
    socket.connect(peer_address).await.unwrap();
    let server = Server::on(socket, limits(), echo);
    peer.send_to(b"hello", server.address).await.unwrap();
    assert_eq!(receive(&peer).await, b"hello");
    peer.send_to(b"last", server.address).await.unwrap();
    drop(peer);
    until(|| log.has("WARN cannot receive Connection refused")).await;
    let peer = UdpSocket::bind(peer_address).await.unwrap();
    peer.send_to(b"back", server.address).await.unwrap();
    assert_eq!(receive(&peer).await, b"back");
    let report = server.stop().await;
    assert!(report.failed_receives >= 1, "{report:?}");
}

#[tokio::test]
async fn a_handler_that_panics_is_counted_and_the_others_go_on() {
    let (log, _guard) = Log::keep();
    let handler = async |question: Vec<u8>, _| {
        assert!(question != b"panic", "no such question");
        (question != b"silence").then_some(question)
    };
    let server = Server::start(limits(), handler).await;
    let socket = client().await;
    socket.send_to(b"panic", server.address).await.unwrap();
    socket.send_to(b"silence", server.address).await.unwrap();
    assert_eq!(ask(server.address, b"fine").await, b"fine");
    let expected = Report {
        answered: 1,
        unanswered: 1,
        panicked: 1,
        ..Report::default()
    };
    assert_eq!(server.stop().await, expected);
    assert!(log.has("ERROR a handler panicked"), "{log:#?}");
}

#[tokio::test]
async fn a_slow_answer_holds_up_no_other_and_is_given_up_at_its_limit() {
    let handler = async |question: Vec<u8>, _| {
        if question == b"slow" {
            pending::<()>().await;
        }
        Some(question)
    };
    let server = Server::start(
        Limits {
            answer: WHILE,
            ..limits()
        },
        handler,
    )
    .await;
    let socket = client().await;
    socket.send_to(b"slow", server.address).await.unwrap();
    assert_eq!(ask(server.address, b"fast").await, b"fast");
    assert!(timeout(2 * WHILE, socket.recv(&mut [0; 1])).await.is_err());
    assert_eq!(
        server.stop().await,
        Report {
            answered: 1,
            timed_out: 1,
            ..Report::default()
        }
    );
}

#[tokio::test]
async fn no_more_answers_are_at_work_than_may_be() {
    let (running, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let go_on = Arc::new(Notify::new());
    let handler = {
        let (running, peak, go_on) = (running.clone(), peak.clone(), go_on.clone());
        move |question: Vec<u8>, _| {
            let (running, peak, go_on) = (running.clone(), peak.clone(), go_on.clone());
            async move {
                peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                go_on.notified().await;
                running.fetch_sub(1, Ordering::SeqCst);
                Some(question)
            }
        }
    };
    let server = Server::start(
        Limits {
            at_once: count(3),
            ..limits()
        },
        handler,
    )
    .await;
    let socket = client().await;
    for number in 0..10 {
        socket.send_to(&[number], server.address).await.unwrap();
    }
    for _ in 0..10 {
        until(|| running.load(Ordering::SeqCst) > 0).await;
        go_on.notify_one();
        receive(&socket).await;
    }
    assert_eq!(server.stop().await.answered, 10);
    assert_eq!(peak.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_stop_lets_answers_end_within_their_limit_and_aborts_the_rest() {
    for (drain, expected) in [
        (
            LIMIT,
            Report {
                answered: 1,
                ..Report::default()
            },
        ),
        (
            Duration::MAX,
            Report {
                answered: 1,
                ..Report::default()
            },
        ),
        (
            Duration::ZERO,
            Report {
                aborted: 1,
                ..Report::default()
            },
        ),
    ] {
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (begins, goes_on) = (begun.clone(), go_on.clone());
        let handler = move |question, _| {
            let (begun, go_on) = (begins.clone(), goes_on.clone());
            async move {
                begun.notify_one();
                go_on.notified().await;
                Some(question)
            }
        };
        let server = Server::start(
            Limits {
                drain,
                answer: Duration::MAX,
                ..limits()
            },
            handler,
        )
        .await;
        let socket = client().await;
        socket.send_to(b"late", server.address).await.unwrap();
        begun.notified().await;
        server.stop.cancel();
        if expected.aborted == 0 {
            go_on.notify_one();
            assert_eq!(receive(&socket).await, b"late");
        }
        assert_eq!(server.stop().await, expected);
    }
}

#[tokio::test]
async fn what_has_ended_at_the_stop_is_counted_as_ended_though_there_is_no_time_to_wait() {
    let limits = Limits {
        at_once: count(1_000),
        drain: Duration::ZERO,
        ..limits()
    };
    let ended = Arc::new(AtomicUsize::new(0));
    let (go_on, ends) = (CancellationToken::new(), ended.clone());
    let (socket, stop) = (bind("127.0.0.1:0").await.unwrap(), CancellationToken::new());
    let (address, open) = (socket.local_addr().unwrap(), go_on.clone());
    let handler = move |_, _| {
        let (open, ends) = (open.clone(), ends.clone());
        async move {
            open.cancelled().await;
            ends.fetch_add(1, Ordering::SeqCst);
            None
        }
    };
    let mut server = Box::pin(serve(socket, limits, stop.clone(), handler));
    let socket = client().await;
    // The server is polled only here, so that all tasks have ended before it looks.
    for number in 0..600_u16 {
        socket
            .send_to(&number.to_be_bytes(), address)
            .await
            .unwrap();
        if number % 50 == 49 {
            let receives = timeout(Duration::from_millis(5), &mut server);
            assert!(receives.await.is_err());
        }
    }
    go_on.cancel();
    until(|| ended.load(Ordering::SeqCst) == 600).await;
    stop.cancel();
    // It looks at 128 of them at a time. When it comes to look again, its time is over.
    let late = tokio::spawn(async {
        loop {
            #[expect(clippy::disallowed_methods, reason = "a task that blocks is the point")]
            std::thread::sleep(Duration::from_millis(5));
            tokio::task::yield_now().await;
        }
    });
    let report = server.await;
    late.abort();
    assert_eq!(
        report,
        Report {
            unanswered: 600,
            ..Report::default()
        }
    );
}

#[tokio::test]
async fn dropped_anywhere_it_closes_the_socket_and_aborts_the_answers() {
    struct Alive(Arc<AtomicUsize>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let points = every_await_point(
        LIMIT,
        async || {
            let (socket, peer) = (bind("127.0.0.1:0").await.unwrap(), client().await);
            let (address, alive) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
            peer.send_to(b"hello", address).await.unwrap();
            (Some(socket), address, alive, CancellationToken::new())
        },
        async |(socket, _, alive, stop)| {
            let (alive, stops) = (alive.clone(), stop.clone());
            let handler = move |question, _| {
                alive.fetch_add(1, Ordering::SeqCst);
                let (alive, stops) = (Alive(alive.clone()), stops.clone());
                async move {
                    tokio::task::yield_now().await;
                    stops.cancel();
                    drop(alive);
                    Some(question)
                }
            };
            serve(socket.take().unwrap(), limits(), stop.clone(), handler).await
        },
        async |(_, address, alive, _), outcome| {
            if let Outcome::Completed(report) = outcome {
                assert_eq!(report.answered, 1);
            }
            until(|| alive.load(Ordering::SeqCst) == 0).await;
            let again = timeout(LIMIT, async {
                while UdpSocket::bind(address).await.is_err() {
                    tokio::task::yield_now().await;
                }
            });
            again.await.expect("the socket is still open");
        },
    )
    .await;
    assert!(points.unwrap() >= 2);
}

#[tokio::test]
async fn binding_says_what_to_do() {
    let taken = bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (address, advice) in [
        (taken.as_str(), "or take another"),
        ("127.0.0.1", "write it as host:port"),
        ("192.0.2.1:0", "an address of this machine"),
        ("no-such-host.invalid:1", "write it as host:port"),
    ] {
        let said = bind(address).await.unwrap_err().to_string();
        assert!(said.contains(address) && said.contains(advice), "{said}");
    }
    let points = every_await_point(
        LIMIT,
        async || (),
        async |()| drop(bind("localhost:0").await.unwrap()),
        async |(), _| {},
    );
    points.await.unwrap();
}

#[tokio::test]
async fn harm_a_burst_is_lost_and_every_send_of_it_succeeds() {
    let (receiver, sender) = (client().await, client().await);
    let address = receiver.local_addr().unwrap();
    let (sent, mut received) = (2_000, 0);
    for _ in 0..sent {
        assert_eq!(sender.send_to(&[7; 8_000], address).await.unwrap(), 8_000);
    }
    while timeout(WHILE, receiver.recv(&mut [0; 8_000])).await.is_ok() {
        received += 1;
    }
    assert!(received > 0 && received < sent, "{received} of {sent}");
}

async fn until(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LIMIT, wait).await.expect("it never came");
}

/// Keeps all events of the server: the level, then the values of the fields.
#[derive(Clone, Default, Debug)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// For as long as the guard lives, on this thread. While there is but one subscriber, an event
    /// that first happens on a thread without it is taken to interest nobody, ever. So there is a
    /// second one.
    fn keep() -> (Self, tracing::subscriber::DefaultGuard) {
        static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Log::default()));
        LazyLock::force(&SECOND);
        let log = Self::default();
        (log.clone(), tracing::subscriber::set_default(log))
    }

    fn has(&self, beginning: &str) -> bool {
        self.0
            .lock()
            .unwrap()
            .iter()
            .any(|line| line.starts_with(beginning))
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().contains("udp_server")
    }
    fn event(&self, event: &Event<'_>) {
        let mut line = event.metadata().level().to_string();
        event.record(&mut |_: &Field, value: &dyn Debug| line.push_str(&format!(" {value:?}")));
        self.0.lock().unwrap().push(line);
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

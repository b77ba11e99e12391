//! What the TCP client promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ::io::tcp_client::{Client, ConnectError, Limits, RequestError, connect};
use ::io::tcp_server::echo;
use testing::every_await_point::{Outcome, every_await_point};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::coop;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const BOUND: Duration = Duration::from_secs(60);
const LIMITS: Limits = Limits {
    connect: Duration::from_secs(10),
    request: Duration::from_secs(2),
    message: NonZeroUsize::MIN.saturating_add(999),
};
const HELLO: &[u8] = b"\0\0\0\x05hello";

/// A client, and the peer's end. Each side holds 64 bytes.
fn pair() -> (Client<DuplexStream>, DuplexStream) {
    let (here, there) = duplex(64);
    (Client::new(here, LIMITS), there)
}

async fn receive(peer: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut message = vec![0; peer.read_u32().await? as usize];
    peer.read_exact(&mut message).await?;
    Ok(message)
}

async fn send(peer: &mut (impl AsyncWrite + Unpin), message: &[u8]) {
    peer.write_u32(message.len().try_into().unwrap())
        .await
        .unwrap();
    peer.write_all(message).await.unwrap();
}

async fn rest(mut peer: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = timeout(BOUND, peer.read_to_end(&mut bytes)).await;
    read.expect("the connection is open").unwrap();
    bytes
}

#[tokio::test(start_paused = true)]
async fn an_answer_split_at_every_position_comes_back_whole() {
    for cut in 0..=HELLO.len() {
        let (mut client, mut peer) = pair();
        let serve = async {
            assert_eq!(receive(&mut peer).await.unwrap(), b"ping");
            peer.write_all(&HELLO[..cut]).await.unwrap();
            sleep(LIMITS.request / 2).await;
            peer.write_all(&HELLO[cut..]).await.unwrap();
        };
        let (got, ()) = tokio::join!(client.request(b"ping"), serve);
        assert_eq!(got.unwrap(), b"hello", "cut at {cut}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_at_every_position_is_an_error() {
    for cut in 0..HELLO.len() {
        let (mut client, mut peer) = pair();
        let serve = async move {
            receive(&mut peer).await.unwrap();
            peer.write_all(&HELLO[..cut]).await.unwrap();
        };
        let (got, ()) = tokio::join!(client.request(b"ping"), serve);
        assert!(matches!(got, Err(RequestError::CutShort)), "{cut}: {got:?}");
        let again = client.request(b"ping").await;
        assert!(matches!(again, Err(RequestError::Broken)), "{again:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_at_every_position_of_the_request_is_an_error() {
    for taken in 0..100 {
        let (mut client, mut peer) = pair();
        let serve = async move {
            peer.read_exact(&mut vec![0; taken]).await.unwrap();
        };
        let (got, ()) = tokio::join!(client.request(&[1; 200]), serve);
        assert!(
            matches!(&got, Err(RequestError::Io(error)) if error.kind() == ErrorKind::BrokenPipe),
            "{taken}: {got:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn one_connection_serves_requests_in_sequence_empty_ones_too() {
    let (mut client, mut peer) = pair();
    tokio::spawn(async move {
        while let Ok(request) = receive(&mut peer).await {
            send(&mut peer, &request).await;
        }
    });
    for length in 0..200_u8 {
        let request = vec![length; length.into()];
        assert_eq!(client.request(&request).await.unwrap(), request);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_answers_costs_the_request_limit_and_no_more() {
    for sent in 0..HELLO.len() {
        let (mut client, mut peer) = pair();
        let serve = async {
            receive(&mut peer).await.unwrap();
            peer.write_all(&HELLO[..sent]).await.unwrap();
        };
        let started = Instant::now();
        let (got, ()) = tokio::join!(client.request(b"ping"), serve);
        assert!(matches!(got, Err(RequestError::TimedOut(limit)) if limit == LIMITS.request));
        assert_eq!(started.elapsed(), LIMITS.request);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_request_costs_the_request_limit_and_no_more() {
    let (mut client, _peer) = pair();
    let started = Instant::now();
    let got = client.request(&[0; 61]).await;
    assert!(matches!(got, Err(RequestError::TimedOut(_))), "{got:?}");
    assert_eq!(started.elapsed(), LIMITS.request);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_drips_reaches_the_request_limit_but_never_one_per_read() {
    let drip = async |mut peer: DuplexStream| {
        peer.write_u32(200).await.unwrap();
        for _ in 0..200 {
            sleep(LIMITS.request / 2).await;
            if peer.write_all(b".").await.is_err() {
                break;
            }
        }
    };
    let (mut client, mut peer) = pair();
    tokio::spawn(async move {
        receive(&mut peer).await.unwrap();
        drip(peer).await;
    });
    let started = Instant::now();
    let got = client.request(b"ping").await;
    assert!(matches!(got, Err(RequestError::TimedOut(_))), "{got:?}");
    assert_eq!(started.elapsed(), LIMITS.request);

    let (mut here, peer) = duplex(64);
    tokio::spawn(drip(peer));
    let (started, mut received) = (Instant::now(), 0);
    while received < 204 {
        let read = timeout(LIMITS.request, here.read(&mut [0; 64])).await;
        received += read.expect("no read takes that long").unwrap();
    }
    assert_eq!(started.elapsed(), 100 * LIMITS.request);
}

/// Answers each request with itself, the first one later than the client waits.
async fn answer_late(mut peer: impl AsyncRead + AsyncWrite + Unpin) -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    while let Ok(request) = receive(&mut peer).await {
        if requests.is_empty() {
            sleep(2 * LIMITS.request).await;
        }
        peer.write_u32(request.len().try_into().unwrap()).await.ok(); // the client may have left
        peer.write_all(&request).await.ok();
        requests.push(request);
    }
    requests
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_goes_to_nobody() {
    let (mut client, peer) = pair();
    let server = tokio::spawn(answer_late(peer));
    let first = client.request(b"one").await;
    assert!(matches!(first, Err(RequestError::TimedOut(_))), "{first:?}");
    assert!(client.get_ref().is_none());
    sleep(2 * LIMITS.request).await;
    let second = client.request(b"two").await;
    assert!(matches!(second, Err(RequestError::Broken)), "{second:?}");
    // The client is there still, and its connection closed: the server has come to its end.
    let requests = timeout(BOUND, server).await.unwrap().unwrap();
    assert_eq!(requests, [b"one"]);
}

#[tokio::test(start_paused = true)]
async fn over_a_bare_stream_a_late_answer_goes_to_the_next_request() {
    let (mut here, peer) = duplex(64);
    tokio::spawn(answer_late(peer));
    let mut request = async |request: &[u8]| {
        let exchange = async {
            send(&mut here, request).await;
            receive(&mut here).await.unwrap()
        };
        timeout(LIMITS.request, exchange).await
    };
    request(b"one").await.expect_err("it is late");
    sleep(2 * LIMITS.request).await;
    assert_eq!(request(b"two").await.unwrap(), b"one");
}

#[tokio::test(start_paused = true)]
async fn a_second_answer_that_has_arrived_is_found_out_before_the_next_request_is_sent() {
    for extra in 1..=HELLO.len() {
        let (mut client, mut peer) = pair();
        let serve = async {
            receive(&mut peer).await.unwrap();
            peer.write_all(HELLO).await.unwrap();
            peer.write_all(&HELLO[..extra]).await.unwrap();
        };
        assert_eq!(
            tokio::join!(client.request(b"one"), serve).0.unwrap(),
            b"hello"
        );
        let got = client.request(b"two").await;
        assert!(matches!(got, Err(RequestError::Unasked)), "{got:?}");
        assert!(rest(peer).await.is_empty(), "it was sent");
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_task_finds_a_second_answer_out_as_well() {
    let (mut client, mut peer) = pair();
    peer.write_all(HELLO).await.unwrap();
    while coop::has_budget_remaining() {
        coop::consume_budget().await;
    }
    let got = client.request(b"one").await;
    assert!(matches!(got, Err(RequestError::Unasked)), "{got:?}");
}

#[tokio::test(start_paused = true)]
async fn a_second_answer_that_comes_later_is_taken_for_the_next_requests() {
    let (mut client, mut peer) = pair();
    tokio::spawn(async move {
        receive(&mut peer).await.unwrap();
        send(&mut peer, b"first").await;
        sleep(LIMITS.request / 2).await;
        send(&mut peer, b"first").await; // once too often, while "two" is under way
        sleep(BOUND).await;
    });
    client.request(b"one").await.unwrap();
    assert_eq!(client.request(b"two").await.unwrap(), b"first");
}

#[tokio::test(start_paused = true)]
async fn a_connection_closed_while_idle_is_told_apart_since_nothing_was_sent() {
    let (mut client, peer) = pair();
    drop(peer);
    let got = client.request(b"ping").await.unwrap_err();
    assert!(matches!(got, RequestError::Closed), "{got:?}");
    assert!(got.to_string().contains("repeat"));
}

#[tokio::test]
async fn a_socket_closed_or_reset_while_idle_is_told_apart() {
    for reset in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut client = connect(&address, LIMITS).await.unwrap();
        let (peer, _) = listener.accept().await.unwrap();
        if reset {
            peer.set_zero_linger().unwrap();
        }
        drop(peer);
        let stream = client.get_ref().unwrap();
        timeout(BOUND, stream.readable()).await.unwrap().unwrap(); // the end has arrived
        let got = client.request(b"ping").await;
        assert!(matches!(got, Err(RequestError::Closed)), "{got:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_error_the_request_may_have_been_carried_out() {
    let (mut client, mut peer) = pair();
    let mut paid = 0;
    let serve = async {
        receive(&mut peer).await.unwrap();
        paid += 10;
        drop(peer);
    };
    let (got, ()) = tokio::join!(client.request(b"pay 10"), serve);
    assert!(matches!(got, Err(RequestError::CutShort)), "{got:?}");
    assert_eq!(paid, 10);
}

#[tokio::test(start_paused = true)]
async fn an_answer_above_the_limit_is_refused_at_its_header() {
    for (announced, refused) in [(1_000, false), (1_001, true), (u32::MAX, true)] {
        let (mut client, mut peer) = pair();
        let serve = async move {
            receive(&mut peer).await.unwrap();
            peer.write_u32(announced).await.unwrap();
        };
        let (got, ()) = tokio::join!(client.request(b"ping"), serve);
        match got {
            Err(RequestError::AnswerTooLong(length)) if refused => {
                assert_eq!(length, announced as usize);
            }
            Err(RequestError::CutShort) if !refused => {}
            other => panic!("{announced}: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_above_the_limit_is_not_sent_and_the_next_one_is() {
    let (mut client, mut peer) = pair();
    let got = client.request(&[0; 1_001]).await;
    assert!(matches!(got, Err(RequestError::RequestTooLong(1_001))));
    let serve = async {
        assert_eq!(receive(&mut peer).await.unwrap(), [7; 1_000]);
        send(&mut peer, b"ok").await;
    };
    let (got, ()) = tokio::join!(client.request(&[7; 1_000]), serve);
    assert_eq!(got.unwrap(), b"ok");
}

#[cfg(target_pointer_width = "64")]
#[tokio::test(start_paused = true)]
async fn a_request_of_4_gib_is_refused_whatever_the_limit() {
    let limits = Limits {
        message: NonZeroUsize::MAX,
        ..LIMITS
    };
    let mut client = Client::new(duplex(64).0, limits);
    let request = vec![0; 1 << 32]; // never touched, so it takes no memory
    let got = client.request(&request).await;
    assert!(matches!(got, Err(RequestError::RequestTooLong(length)) if length == 1 << 32));
}

/// Remembers the largest buffer that it was given to read into, and counts what is written.
struct Watched {
    stream: DuplexStream,
    largest: usize,
    writes: usize,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.largest = self.largest.max(buffer.remaining());
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes += 1;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_one_write_and_memory_is_taken_for_what_comes_not_what_is_announced() {
    let (here, mut peer) = duplex(64);
    let limits = Limits {
        message: NonZeroUsize::MAX,
        ..LIMITS
    };
    let mut watched = Watched {
        stream: here,
        largest: 0,
        writes: 0,
    };
    let mut client = Client::new(&mut watched, limits);
    let serve = async move {
        receive(&mut peer).await.unwrap();
        peer.write_u32(u32::MAX).await.unwrap();
        peer.write_all(&[0; 1_000]).await.unwrap();
    };
    let (got, ()) = tokio::join!(client.request(b"ping"), serve);
    assert!(matches!(got, Err(RequestError::CutShort)), "{got:?}");
    assert_eq!((watched.writes, watched.largest), (1, 8 * 1024));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_while_it_reads_stands_still_with_the_client() {
    for (length, stands_still) in [(50, false), (200, true)] {
        let (mut client, peer) = pair();
        tokio::spawn(echo(peer, CancellationToken::new()));
        let request = vec![7; length];
        let started = Instant::now();
        let got = client.request(&request).await;
        if stands_still {
            // 64 bytes wait in each direction, and up to 64 in `echo`.
            assert!(matches!(got, Err(RequestError::TimedOut(_))), "{got:?}");
            assert_eq!(started.elapsed(), LIMITS.request);
        } else {
            assert_eq!(got.unwrap(), request);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_stream_holds_back_until_a_flush_is_sent() {
    let (here, mut peer) = duplex(64);
    let mut client = Client::new(tokio::io::BufStream::new(here), LIMITS);
    let serve = async {
        assert_eq!(receive(&mut peer).await.unwrap(), b"ping");
        send(&mut peer, b"pong").await;
    };
    let (got, ()) = timeout(BOUND, async {
        tokio::join!(client.request(b"ping"), serve)
    })
    .await
    .unwrap();
    assert_eq!(got.unwrap(), b"pong");
}

#[tokio::test(start_paused = true)]
async fn enormous_limits_are_none_and_zero_limits_end_what_has_to_wait() {
    let (here, mut peer) = duplex(64);
    let most = Limits {
        connect: Duration::MAX,
        request: Duration::MAX,
        message: NonZeroUsize::MAX,
    };
    let mut client = Client::new(here, most);
    let serve = async {
        sleep(1_000 * BOUND).await;
        receive(&mut peer).await.unwrap();
        peer.write_all(HELLO).await.unwrap();
    };
    let (got, ()) = tokio::join!(client.request(b"ping"), serve);
    assert_eq!(got.unwrap(), b"hello");

    let (here, _peer) = duplex(64);
    let least = Limits {
        connect: Duration::ZERO,
        request: Duration::ZERO,
        message: NonZeroUsize::MIN,
    };
    let mut client = Client::new(here, least);
    let got = timeout(BOUND, client.request(b"p")).await.unwrap();
    assert!(matches!(got, Err(RequestError::TimedOut(Duration::ZERO))));
}

#[tokio::test]
async fn an_enormous_connect_limit_is_none_and_a_zero_one_ends_the_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let limits = |connect| Limits { connect, ..LIMITS };
    connect(&address, limits(Duration::MAX)).await.unwrap();
    let (silent, _listener, _queued) = silent_address().await;
    let silent = silent.to_string();
    let error = timeout(BOUND, connect(&silent, limits(Duration::ZERO))).await;
    let error = error.unwrap().unwrap_err();
    assert_eq!(error.error.kind(), ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_request_closes_the_connection() {
    let points = every_await_point(
        BOUND,
        async || {
            let (client, mut peer) = pair();
            let peer = tokio::spawn(async move {
                let mut requests = 0;
                while receive(&mut peer).await.is_ok() {
                    requests += 1;
                    peer.write_u32(2).await.ok(); // the client may have left
                    sleep(LIMITS.request / 10).await;
                    peer.write_all(&[1, requests]).await.ok();
                }
                requests
            });
            (client, peer)
        },
        async |(client, _)| client.request(&[1; 100]).await.unwrap(),
        async |(mut client, peer), outcome| {
            let next = client.request(&[2; 100]).await;
            match outcome {
                Outcome::Completed(first) => {
                    assert_eq!((first, next.unwrap()), (vec![1, 1], vec![1, 2]));
                }
                Outcome::Dropped(_) => {
                    assert!(matches!(next, Err(RequestError::Broken)), "{next:?}");
                    // It ends although the client is there, and has seen no second request.
                    assert!(peer.await.unwrap() <= 1);
                }
            }
        },
    )
    .await;
    assert!(points.unwrap() >= 3, "room for the request, header, answer");
}

#[tokio::test]
async fn the_connection_has_nodelay() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let plain = TcpStream::connect(address).await.unwrap();
    assert!(!plain.nodelay().unwrap(), "the system's choice");
    let client = connect(&address.to_string(), LIMITS).await.unwrap();
    assert!(client.get_ref().unwrap().nodelay().unwrap());
}

#[tokio::test]
async fn an_address_that_does_not_resolve_is_named_with_what_to_do() {
    let long = format!("{}.example:80", "a".repeat(64)); // no label of a name is that long
    for address in [long.as_str(), "127.0.0.1", "127.0.0.1:65536", ""] {
        let error = timeout(BOUND, connect(address, LIMITS)).await.unwrap();
        let message = error.unwrap_err().to_string();
        assert!(
            message.contains(&format!("{address:?}")) && message.contains("write it as host:port"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_refused_connection_names_the_address_and_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let asked = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = connect(&asked, LIMITS).await.unwrap_err();
    let message = error.to_string();
    assert!(message.contains("start the server"), "{message}");
    let ConnectError { address, error } = error;
    assert_eq!(
        (address, error.kind()),
        (asked, ErrorKind::ConnectionRefused)
    );
}

/// A listener whose queue is full: the system drops what else asks to connect.
async fn silent_address() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
    }
    (address, listener, queued)
}

#[tokio::test]
async fn a_silent_address_costs_the_connect_limit() {
    let (silent, _listener, _queued) = silent_address().await;
    let limit = Duration::from_millis(200);
    let limits = Limits {
        connect: limit,
        ..LIMITS
    };
    let started = Instant::now();
    let silent = silent.to_string();
    let error = timeout(BOUND, connect(&silent, limits)).await;
    let error = error.unwrap().unwrap_err();
    let took = started.elapsed();
    assert!(took >= limit && took < BOUND, "{took:?}");
    assert_eq!(error.error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("raise the limit"), "{error}");
}

#[tokio::test]
async fn a_silent_address_takes_the_time_of_those_behind_it() {
    let (silent, _listener, _queued) = silent_address().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = listener.local_addr().unwrap();
    // As `connect` does with a name's addresses.
    let both = [silent, good];
    let in_turn = TcpStream::connect(both.as_slice());
    timeout(Duration::from_millis(500), in_turn)
        .await
        .expect_err("the second is not reached");
    timeout(BOUND, TcpStream::connect(good))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_peer_that_resets_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let peer = tokio::spawn(async move {
        let (mut peer, _) = listener.accept().await.unwrap();
        receive(&mut peer).await.unwrap();
        peer.write_all(&HELLO[..6]).await.unwrap();
        peer.set_zero_linger().unwrap();
    });
    let limits = Limits {
        request: BOUND,
        ..LIMITS
    };
    let mut client = connect(&address, limits).await.unwrap();
    let got = client.request(b"ping").await;
    peer.await.unwrap();
    assert!(
        matches!(&got, Err(RequestError::Io(error)) if error.kind() == ErrorKind::ConnectionReset),
        "{got:?}"
    );
}

#[tokio::test]
async fn over_a_real_socket_a_mebibyte_comes_back_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut peer, _) = listener.accept().await.unwrap();
        while let Ok(request) = receive(&mut peer).await {
            send(&mut peer, &request).await;
        }
    });
    let request: Vec<_> = (0..=250_u8).cycle().take(1 << 20).collect();
    let limits = Limits {
        request: BOUND,
        message: NonZeroUsize::MIN.saturating_add((1 << 20) - 1),
        ..LIMITS
    };
    let mut client = connect(&address, limits).await.unwrap();
    let requests = tokio::spawn(async move {
        for _ in 0..3 {
            assert!(client.request(&request).await.unwrap() == request);
        }
    });
    requests.await.unwrap();
}

#[tokio::test]
async fn a_dropped_connect_leaves_no_connection() {
    let points = every_await_point(
        BOUND,
        async || TcpListener::bind("127.0.0.1:0").await.unwrap(),
        async |listener| {
            let address = listener.local_addr().unwrap().to_string();
            connect(&address, LIMITS).await.unwrap();
        },
        async |listener, _| {
            let address = listener.local_addr().unwrap();
            let mark = TcpStream::connect(address).await.unwrap();
            loop {
                let (peer, from) = listener.accept().await.unwrap();
                if from == mark.local_addr().unwrap() {
                    break;
                }
                assert!(rest(peer).await.is_empty());
            }
        },
    )
    .await;
    assert!(points.unwrap() >= 1);
}

#[tokio::test]
async fn with_nagles_algorithm_the_second_piece_of_a_request_waits_for_the_peer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut here = TcpStream::connect(address).await.unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    tokio::spawn(async move {
        while let Ok(request) = receive(&mut peer).await {
            peer.write_all(&request).await.unwrap();
        }
    });
    let started = Instant::now();
    for _ in 0..20 {
        send(&mut here, b"ping").await; // the length, then the rest
        here.read_exact(&mut [0; 4]).await.unwrap();
    }
    // The peer delays each acknowledgment by 40 ms or more. A slow machine only adds to it.
    let took = started.elapsed();
    assert!(took >= 10 * Duration::from_millis(40), "{took:?}");
}

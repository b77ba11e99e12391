//! What the HTTP retries promise, against a local server that misbehaves as told.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backon::BackoffBuilder;
use reqwest::{Body, Client, Method, Request, StatusCode};
use retry::retry_http::{Answer, Limits, Policy, SendError, TryError, client, send};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, advance, timeout};
use tokio_util::task::AbortOnDropHandle;

const POLICY: Policy = Policy {
    base: Duration::from_millis(1),
    cap: Duration::from_millis(4),
    tries: NonZeroU32::new(4).unwrap(),
    total: Duration::from_secs(20),
    longest_body: 1000,
};
/// Between two things that happen in this order.
const A_WHILE: Duration = Duration::from_millis(300);
const LIMITS: Limits = Limits {
    connect: Duration::from_secs(10),
    answer: Duration::from_secs(10),
};

/// What the server does with one request.
#[derive(Clone, Copy)]
enum Step {
    /// Answers with this status line and these headers.
    Say(&'static str),
    /// Closes the connection, so that the client sees a reset or an end.
    Reset,
    /// Reads the request and says nothing.
    Silence,
    /// Announces ten bytes, sends four, and closes.
    CutShort,
    /// Sends a body of so many bytes.
    Long(usize),
    /// Says 503 with a body of so many bytes.
    BusyLong(usize),
    /// Says 503, announces ten bytes, sends four, and closes.
    BusyCutShort,
    /// Sends a body in two chunks of so many bytes.
    Chunks(usize, usize),
}
use Step::{BusyCutShort, BusyLong, Chunks, CutShort, Long, Reset, Say, Silence};

const OK: Step = Say("200 OK\r\n");
const BUSY_LINE: &str = "503 Service Unavailable\r\n";
const BUSY: Step = Say(BUSY_LINE);

struct Server {
    address: SocketAddr,
    /// The requests that came, first line each, and when.
    requests: Arc<Mutex<Vec<(String, Instant)>>>,
    connections: Arc<Mutex<usize>>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    /// Goes through the steps, one a request, and repeats the last one.
    async fn start(steps: &'static [Step]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<_>>>::default();
        let connections = Arc::<Mutex<usize>>::default();
        let (heard, accepted) = (Arc::clone(&requests), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *accepted.lock().unwrap() += 1;
                open.spawn(serve(stream, steps, Arc::clone(&heard)));
            }
        });
        Self {
            address,
            requests,
            connections,
            _task: AbortOnDropHandle::new(task),
        }
    }

    fn request(&self, method: Method) -> Request {
        let url = format!("http://{}/page", self.address);
        Request::new(method, url.parse().unwrap())
    }

    fn heard(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    /// How many of the requests had this method.
    fn heard_of(&self, method: &Method) -> usize {
        let requests = self.requests.lock().unwrap();
        let lines = requests.iter().map(|(line, _)| line.split(' ').next());
        lines.filter(|word| *word == Some(method.as_str())).count()
    }

    /// Between the requests, one after another.
    fn pauses(&self) -> Vec<Duration> {
        let requests = self.requests.lock().unwrap();
        let pairs = requests.windows(2);
        pairs.map(|pair| pair[1].1 - pair[0].1).collect()
    }

    async fn send(&self, method: Method) -> Result<Answer, SendError> {
        send(&any_client(), &self.request(method), &POLICY).await
    }
}

fn any_client() -> Client {
    client(LIMITS).no_proxy().build().unwrap()
}

async fn serve(
    mut stream: TcpStream,
    steps: &[Step],
    requests: Arc<Mutex<Vec<(String, Instant)>>>,
) {
    loop {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => request.push(byte),
                Err(_) => return,
            }
        }
        let line = String::from_utf8(request).unwrap();
        let line = line.lines().next().unwrap().to_owned();
        let number = {
            let mut requests = requests.lock().unwrap();
            requests.push((line, Instant::now()));
            requests.len() - 1
        };
        let answer = match steps[number.min(steps.len() - 1)] {
            Say(head) => format!("HTTP/1.1 {head}content-length: 2\r\n\r\nhi"),
            Reset => return,
            Silence => {
                stream.read_u8().await.ok(); // until the client has had enough
                return;
            }
            CutShort => "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfour".to_owned(),
            BusyCutShort => format!("HTTP/1.1 {BUSY_LINE}content-length: 10\r\n\r\nfour"),
            Long(length) => {
                let body = "x".repeat(length);
                format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")
            }
            BusyLong(length) => {
                let body = "x".repeat(length);
                format!("HTTP/1.1 {BUSY_LINE}content-length: {length}\r\n\r\n{body}")
            }
            Chunks(first, second) => {
                let chunk = |length| format!("{length:x}\r\n{}\r\n", "x".repeat(length));
                let body = chunk(first) + &chunk(second) + &chunk(0);
                format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}")
            }
        };
        stream.write_all(answer.as_bytes()).await.ok();
        if matches!(steps[number.min(steps.len() - 1)], CutShort | BusyCutShort) {
            return;
        }
    }
}

fn failed(result: Result<Answer, SendError>) -> (u32, TryError) {
    match result {
        Err(SendError::Failed { tries, source }) => (tries, source),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again_until_it_answers() {
    let server = Server::start(&[BUSY, Say("429 Too Many Requests\r\n"), BUSY, OK]).await;
    let answer = server.send(Method::GET).await.unwrap();
    assert_eq!(
        (answer.status, &answer.body[..]),
        (StatusCode::OK, &b"hi"[..])
    );
    assert_eq!(server.heard(), 4);
}

#[tokio::test]
async fn after_the_last_try_the_answer_is_in_the_error() {
    let server = Server::start(&[BUSY]).await;
    let (tries, error) = failed(server.send(Method::GET).await);
    assert_eq!((tries, server.heard()), (4, 4));
    let TryError::Busy(answer) = error else {
        panic!("{error:?}")
    };
    assert_eq!(&answer.body[..], b"hi");
}

#[tokio::test]
async fn what_waiting_does_not_change_is_the_answer_at_once() {
    for head in [
        "400 Bad Request\r\n",
        "401 Unauthorized\r\n",
        "404 Not Found\r\n",
        "500 Internal Server Error\r\n",
        "501 Not Implemented\r\n",
    ] {
        let steps = Box::leak(Box::new([Say(head)]));
        let server = Server::start(steps).await;
        let answer = server.send(Method::GET).await.unwrap();
        assert!(head.starts_with(answer.status.as_str()), "{head}");
        assert_eq!(server.heard(), 1, "{head}");
    }
}

#[tokio::test]
async fn a_busy_server_is_asked_again_whatever_its_error_page_is_like() {
    for steps in [&[BusyLong(5_000), OK], &[BusyCutShort, OK]] {
        let server = Server::start(steps).await;
        // A POST: the status says that nothing was done, however its body ends.
        let answer = server.send(Method::POST).await.unwrap();
        assert_eq!((answer.status, server.heard()), (StatusCode::OK, 2));
    }
}

#[tokio::test]
async fn of_a_busy_servers_error_page_as_much_is_kept_as_came_and_may() {
    for (steps, kept) in [(&[BusyLong(5_000)], 1000), (&[BusyCutShort], 4)] {
        let server = Server::start(steps).await;
        let (tries, error) = failed(server.send(Method::GET).await);
        let TryError::Busy(answer) = error else {
            panic!("{error:?}")
        };
        assert_eq!((tries, answer.body.len()), (4, kept));
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_so_that_a_post_which_was_done_is_not_sent_again() {
    for moved in [
        &[Say("301 Moved\r\nlocation: /receipt\r\n"), BUSY, OK],
        &[Say("302 Found\r\nlocation: /receipt\r\n"), BUSY, OK],
        &[Say("303 See Other\r\nlocation: /receipt\r\n"), BUSY, OK],
    ] {
        let server = Server::start(moved).await;
        let answer = server.send(Method::POST).await;
        assert_eq!(server.heard_of(&Method::POST), 1);
        let answer = answer.unwrap();
        assert!(answer.status.is_redirection(), "{}", answer.status);
        assert_eq!(answer.headers["location"], "/receipt");
        assert_eq!(server.heard(), 1, "where to go on is for the caller");
    }
}

#[tokio::test]
async fn harm_with_a_client_that_follows_redirects_a_post_that_was_done_is_sent_again() {
    let seen = &[Say("303 See Other\r\nlocation: /receipt\r\n"), BUSY, OK];
    let server = Server::start(seen).await;
    let follows = Client::builder().no_proxy().build().unwrap();
    let request = server.request(Method::POST);
    send(&follows, &request, &POLICY).await.unwrap();
    assert_eq!(server.heard_of(&Method::POST), 2, "booked twice");
}

#[tokio::test]
async fn retry_after_is_obeyed_in_both_forms_and_beyond_the_cap() {
    for head in [
        "503 Service Unavailable\r\nretry-after: 1\r\n",
        // The server's clock is years off, in both headers alike.
        "429 Too Many Requests\r\ndate: Mon, 02 Jan 2023 10:00:00 GMT\r\n\
         retry-after: Mon, 02 Jan 2023 10:00:01 GMT\r\n",
    ] {
        let steps = Box::leak(Box::new([Say(head), OK]));
        let server = Server::start(steps).await;
        server.send(Method::GET).await.unwrap();
        let [pause] = server.pauses()[..] else {
            panic!("{head}")
        };
        let asked = Duration::from_secs(1);
        assert!(pause >= asked && pause < 2 * asked, "{pause:?}");
    }
}

#[tokio::test]
async fn a_retry_after_that_says_nothing_sensible_is_passed_over() {
    for head in [
        "503 Service Unavailable\r\nretry-after: soon\r\n",
        "503 Service Unavailable\r\nretry-after: -5\r\n",
        "503 Service Unavailable\r\nretry-after: Mon, 02 Jan 2040 10:00:00 GMT\r\n", // no Date
        "503 Service Unavailable\r\ndate: Mon, 02 Jan 2023 10:00:00 GMT\r\n\
         retry-after: Mon, 02 Jan 2023 09:00:00 GMT\r\n", // in the past
    ] {
        let steps = Box::leak(Box::new([Say(head), OK]));
        let server = Server::start(steps).await;
        server.send(Method::GET).await.unwrap();
        let [pause] = server.pauses()[..] else {
            panic!("{head}")
        };
        assert!(pause < Duration::from_secs(5), "{head}: {pause:?}");
    }
}

#[tokio::test]
async fn a_retry_after_beyond_the_time_in_all_is_not_waited_for() {
    for head in [
        "503 Service Unavailable\r\nretry-after: 60\r\n",
        "503 Service Unavailable\r\nretry-after: 18446744073709551615\r\n",
    ] {
        let steps = Box::leak(Box::new([Say(head), OK]));
        let (server, started) = (Server::start(steps).await, Instant::now());
        let (tries, error) = failed(server.send(Method::GET).await);
        assert_eq!(tries, 1);
        assert!(matches!(error, TryError::Busy(_)), "{error:?}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn broken_connections_and_bodies_are_tried_again() {
    let server = Server::start(&[Reset, CutShort, Reset, OK]).await;
    let answer = server.send(Method::GET).await.unwrap();
    assert_eq!(&answer.body[..], b"hi");
    assert_eq!(server.heard(), 4);
}

#[tokio::test]
async fn a_silent_server_is_left_at_the_limit_of_one_try_and_asked_again() {
    let server = Server::start(&[Silence, OK]).await;
    let limits = Limits {
        answer: A_WHILE,
        ..LIMITS
    };
    let client = client(limits).no_proxy().build().unwrap();
    // By this side's clock: the server may hear of the first request late.
    let started = Instant::now();
    let answer = send(&client, &server.request(Method::GET), &POLICY).await;
    assert_eq!(answer.unwrap().status, StatusCode::OK);
    assert_eq!(server.heard(), 2);
    assert!(started.elapsed() >= A_WHILE);
}

#[tokio::test]
async fn what_may_have_been_done_is_not_sent_twice_unless_it_is_idempotent() {
    static STEPS: [(&[Step], &str); 5] = [
        (&[Reset, OK], "a reset"),
        (&[CutShort, OK], "a body cut short"),
        (&[Say("408 Request Timeout\r\n"), OK], "408"),
        (&[Say("502 Bad Gateway\r\n"), OK], "502"),
        (&[Say("504 Gateway Timeout\r\n"), OK], "504"),
    ];
    for (steps, name) in &STEPS {
        for (method, again) in [
            (Method::POST, false),
            (Method::PATCH, false),
            (Method::PUT, true),
            (Method::DELETE, true),
        ] {
            let server = Server::start(steps).await;
            let ended = server.send(method.clone()).await;
            assert_eq!(ended.is_ok(), again, "{method} after {name}");
            assert_eq!(
                server.heard(),
                1 + usize::from(again),
                "{method} after {name}"
            );
        }
        let server = Server::start(steps).await;
        let mut request = server.request(Method::POST);
        request
            .headers_mut()
            .insert("Idempotency-Key", "7".parse().unwrap());
        send(&any_client(), &request, &POLICY).await.unwrap();
        assert_eq!(server.heard(), 2, "with a key after {name}");
    }
}

#[tokio::test]
async fn what_was_refused_is_sent_again_whatever_the_method() {
    let server = Server::start(&[BUSY, Say("429 Too Many Requests\r\n"), OK]).await;
    server.send(Method::POST).await.unwrap();
    assert_eq!(server.heard(), 3);
}

#[tokio::test]
async fn a_connection_that_is_refused_is_tried_again_whatever_the_method() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let request = Request::new(Method::POST, format!("http://{address}/").parse().unwrap());
    let (tries, error) = failed(send(&any_client(), &request, &POLICY).await);
    assert_eq!(tries, 4);
    let TryError::NoAnswer(error) = error else {
        panic!("{error:?}")
    };
    assert!(error.is_connect());
}

#[test]
fn the_waits_have_their_random_part_and_none_is_above_the_cap() {
    let policy = Policy {
        base: Duration::from_millis(100),
        cap: Duration::from_secs(1),
        tries: NonZeroU32::new(9).unwrap(),
        ..POLICY
    };
    for seed in 0..100 {
        let waits: Vec<_> = policy.waits().with_jitter_seed(seed).build().collect();
        assert_eq!(waits.len(), 8);
        assert!(
            waits
                .iter()
                .all(|wait| *wait >= policy.base && *wait <= policy.cap)
        );
    }
    let alike = |seed| policy.waits().with_jitter_seed(seed).build().next();
    assert_ne!(alike(1), alike(2));
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_is_left_at_its_own_limit_and_tried_again() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new(); // until the queue of those that nobody accepts is full
    while let Ok(connected) = timeout(A_WHILE, TcpStream::connect(address)).await {
        queued.push(connected.unwrap());
    }
    let limits = Limits {
        connect: A_WHILE,
        ..LIMITS
    };
    let client = client(limits).no_proxy().build().unwrap();
    let request = Request::new(Method::POST, format!("http://{address}/").parse().unwrap());
    let policy = Policy {
        tries: NonZeroU32::new(2).unwrap(),
        ..POLICY
    };
    let started = Instant::now();
    let (tries, error) = failed(send(&client, &request, &policy).await);
    assert_eq!(tries, 2, "nothing was done, so a POST is sent again");
    assert!(matches!(error, TryError::NoAnswer(error) if error.is_timeout()));
    assert!(started.elapsed() >= 2 * A_WHILE && started.elapsed() < LIMITS.answer);
}

#[tokio::test]
async fn a_url_that_cannot_be_asked_is_not_tried_again() {
    let request = Request::new(Method::GET, "ftp://localhost/".parse().unwrap());
    let (tries, error) = failed(send(&any_client(), &request, &POLICY).await);
    assert_eq!(tries, 1, "{error:?}");
}

#[tokio::test]
async fn the_time_in_all_ends_a_silent_try() {
    let (server, started) = (Server::start(&[BUSY, Silence]).await, Instant::now());
    let policy = Policy {
        total: A_WHILE,
        ..POLICY
    };
    let ended = send(&any_client(), &server.request(Method::GET), &policy).await;
    let Err(SendError::OutOfTime { tries: 2, total }) = ended else {
        panic!("{ended:?}")
    };
    assert_eq!(total, A_WHILE);
    assert!(started.elapsed() >= A_WHILE && started.elapsed() < LIMITS.answer);
}

/// The last instant that the clock can count.
fn last_instant() -> Instant {
    let mut last = Instant::now();
    for power in (0..=93).rev() {
        let step = Duration::from_nanos_u128(1 << power);
        while let Some(later) = last.checked_add(step) {
            last = later;
        }
    }
    last
}

#[tokio::test(start_paused = true)]
async fn a_time_in_all_until_the_end_of_the_clock_is_no_panic() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let request = Request::new(Method::GET, format!("http://{address}/").parse().unwrap());
    let policy = Policy {
        total: last_instant() - Instant::now(),
        ..POLICY
    };
    let (tries, _) = failed(send(&any_client(), &request, &policy).await);
    assert_eq!(tries, 4);
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_that_ends_with_the_clock_is_not_waited_for() {
    let rest = last_instant() - Instant::now();
    advance(Duration::from_nanos(rest.subsec_nanos().into())).await; // whole seconds are left
    let head = format!("{BUSY_LINE}retry-after: {}\r\n", rest.as_secs());
    let steps = Box::leak(Box::new([Say(Box::leak(head.into_boxed_str())), OK]));
    let server = Server::start(steps).await;
    let policy = Policy {
        base: Duration::ZERO,
        total: Duration::MAX,
        ..POLICY
    };
    // Without limits of its own, so that no timer moves the clock.
    let bare = Client::builder().no_proxy().build().unwrap();
    let (tries, error) = failed(send(&bare, &server.request(Method::GET), &policy).await);
    assert_eq!(tries, 1);
    assert!(matches!(error, TryError::Busy(_)), "{error:?}");
}

#[tokio::test]
async fn a_body_at_the_limit_is_kept_and_a_longer_one_is_an_error() {
    let server = Server::start(&[Long(1000)]).await;
    assert_eq!(server.send(Method::GET).await.unwrap().body.len(), 1000);
    let server = Server::start(&[Long(1001)]).await;
    let (tries, error) = failed(server.send(Method::GET).await);
    assert!(matches!(error, TryError::TooLong(1000)), "{error:?}");
    assert_eq!((tries, server.heard()), (1, 1));
    // Chunk after chunk, of which each is within it.
    let server = Server::start(&[Chunks(600, 400)]).await;
    assert_eq!(server.send(Method::GET).await.unwrap().body.len(), 1000);
    let server = Server::start(&[Chunks(600, 401)]).await;
    let (_, error) = failed(server.send(Method::GET).await);
    assert!(matches!(error, TryError::TooLong(1000)), "{error:?}");
}

#[tokio::test]
async fn a_request_whose_body_is_a_stream_is_not_sent() {
    let server = Server::start(&[OK]).await;
    let mut request = server.request(Method::PUT);
    let once = futures_util::stream::once(async { Ok::<_, std::io::Error>("part") });
    *request.body_mut() = Some(Body::wrap_stream(once));
    let (_, error) = failed(send(&any_client(), &request, &POLICY).await);
    assert!(matches!(error, TryError::Stream), "{error:?}");
    assert_eq!(server.heard(), 0);
}

#[tokio::test]
async fn a_client_that_is_kept_uses_its_connection_again_and_new_ones_do_not() {
    let server = Server::start(&[OK]).await;
    let kept = any_client();
    for _ in 0..3 {
        send(&kept, &server.request(Method::GET), &POLICY)
            .await
            .unwrap();
    }
    assert_eq!(*server.connections.lock().unwrap(), 1);
    for _ in 0..3 {
        server.send(Method::GET).await.unwrap();
    }
    assert_eq!(*server.connections.lock().unwrap(), 4, "harm");
}

#[tokio::test]
async fn harm_a_client_without_limits_waits_on_and_a_retry_around_send_misses_the_body() {
    let server = Server::start(&[Silence]).await;
    let bare = Client::builder().no_proxy().build().unwrap();
    let call = bare.execute(server.request(Method::GET));
    timeout(A_WHILE, call).await.expect_err("it has a limit");

    let server = Server::start(&[CutShort, OK]).await;
    let response = bare.execute(server.request(Method::GET)).await;
    let response = response.expect("what a retry would take for a success");
    response.bytes().await.unwrap_err();
}

#[tokio::test]
async fn dropped_it_closes_the_connection_and_makes_no_other_try() {
    let server = Server::start(&[Silence]).await;
    let (client, request) = (any_client(), server.request(Method::GET));
    let call = send(&client, &request, &POLICY);
    timeout(A_WHILE, call).await.unwrap_err();
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(server.heard(), 1);
}

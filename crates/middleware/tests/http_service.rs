//! What the HTTP server promises.
//!
//! The limits are tested on virtual time, with requests given to the router directly; what a client
//! sees, how it ends, and how it stands a load, over real connections.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::convert::Infallible;
use std::future::{IntoFuture, pending};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use futures_util::{FutureExt, stream};
use middleware::http_service::{Ended, Limits, protect, serve};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, Semaphore};
use tokio::task::{JoinHandle, JoinSet, coop, yield_now};
use tokio::time::{Instant, advance, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer};
use tower::{Service, ServiceExt};

const LIMIT: Duration = Duration::from_secs(30);

const fn ms(of: u64) -> Duration {
    Duration::from_millis(of)
}

fn limits(running: usize, waiting: usize) -> Limits {
    Limits {
        running: NonZeroUsize::new(running).unwrap(),
        waiting,
        time_limit: ms(1000),
        retry_after: Duration::from_secs(2),
    }
}

/// `/MS` takes so long; `/panic` panics; the like of it by POST.
fn app() -> Router {
    let work = async |Path(takes): Path<String>| {
        assert!(takes != "panic", "as it was told to");
        sleep(ms(takes.parse().unwrap_or_default())).await;
        takes
    };
    Router::new().route("/{takes}", get(work).post(work))
}

fn request(path: &str) -> Request {
    Request::get(path).body(Body::empty()).unwrap()
}

async fn status(app: Router, path: &str) -> StatusCode {
    app.oneshot(request(path)).await.unwrap().status()
}

/// Sends all at once, in their order; returns each status, and when it came.
async fn outcomes(app: &Router, paths: &[&str]) -> Vec<(u16, u128)> {
    let started = Instant::now();
    let mut calls = JoinSet::new();
    for (index, path) in paths.iter().enumerate() {
        let call = app.clone().oneshot(request(path));
        calls.spawn(call.map(move |response| {
            let status = response.unwrap().status().as_u16();
            (index, (status, started.elapsed().as_millis()))
        }));
        yield_now().await;
    }
    let mut all = timeout(LIMIT, calls.join_all())
        .await
        .expect("a request hangs");
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, outcome)| outcome).collect()
}

#[tokio::test(start_paused = true)]
async fn so_many_run_so_many_wait_and_the_rest_are_refused_at_once() {
    let app = protect(limits(2, 3), app());
    assert_eq!(
        outcomes(&app, &["/100"; 7]).await,
        [
            (200, 100),
            (200, 100),
            (200, 200),
            (200, 200),
            (200, 300),
            (503, 0),
            (503, 0)
        ]
    );
    assert_eq!(
        outcomes(&app, &["/100"]).await,
        [(200, 100)],
        "and then there is room"
    );
}

#[tokio::test(start_paused = true)]
async fn with_none_to_wait_whoever_has_no_turn_is_refused() {
    let app = protect(limits(1, 0), app());
    assert_eq!(outcomes(&app, &["/100"; 2]).await, [(200, 100), (503, 0)]);
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_covers_the_wait_and_the_work() {
    let app = protect(limits(1, 10), app());
    assert_eq!(
        outcomes(&app, &["/900", "/50", "/60", "/2000"]).await,
        [(200, 900), (200, 950), (504, 1000), (504, 1000)]
    );
    assert_eq!(
        outcomes(&app, &["/2000", "/0"]).await,
        [(504, 1000), (200, 1000)]
    );
}

/// Spends its whole budget in each of so many turns of 1 ms, as a loop on a channel does that is
/// never empty.
async fn greedy(turns: u64) {
    for _ in 0..turns {
        advance(Duration::from_millis(1)).now_or_never(); // on this virtual clock
        while coop::has_budget_remaining() {
            coop::consume_budget().await;
        }
        coop::consume_budget().await; // there is none left: it waits for the next turn
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_strikes_on_work_that_never_leaves_any_budget() {
    let works = Router::new().route("/", get(async || greedy(5000).await));
    let app = protect(limits(1, 0), works);
    // The turn that begins at 1,000 ms is the last.
    assert_eq!(outcomes(&app, &["/"]).await, [(504, 1001)]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_500_and_its_place_is_free() {
    let app = protect(limits(1, 1), app());
    assert_eq!(outcomes(&app, &["/panic"; 3]).await, [(500, 0); 3]);
    assert_eq!(
        outcomes(&app, &["/100"; 3]).await,
        [(200, 100), (200, 200), (503, 0)]
    );
}

#[tokio::test(start_paused = true)]
async fn the_refused_are_told_when_to_come_back() {
    for (retry_after, seconds) in [(0, "1"), (999, "1"), (2000, "2"), (2001, "3")] {
        let limits = Limits {
            retry_after: ms(retry_after),
            ..limits(1, 0)
        };
        let app = protect(limits, app());
        let running = tokio::spawn(app.clone().oneshot(request("/100")));
        yield_now().await;
        let response = app.oneshot(request("/100")).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], seconds);
        let response = running.await.unwrap().unwrap();
        assert!(!response.headers().contains_key(RETRY_AFTER));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_added_to_the_result_always_answers() {
    let app = protect(limits(1, 0), app()).route("/health", get(async || "up"));
    let paths = ["/100", "/health", "/100", "/health"];
    let expected = [(200, 100), (200, 0), (503, 0), (200, 0)];
    assert_eq!(outcomes(&app, &paths).await, expected);
}

#[tokio::test(start_paused = true)]
async fn the_apps_own_answers_are_left_as_they_are() {
    let app = protect(
        limits(1, 0),
        app().route("/put/only", axum::routing::put(async || ())),
    );
    assert_eq!(
        status(app.clone(), "/no/such/path").await,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        status(app.clone(), "/put/only").await,
        StatusCode::METHOD_NOT_ALLOWED
    );
    let response = app.oneshot(request("/0")).await.unwrap();
    let body = axum::body::to_bytes(response.into_body(), 10)
        .await
        .unwrap();
    assert_eq!(body, "0");
}

/// An app of three routes, two of them on one path, that counts how many requests run at once.
fn counting() -> (Router, Arc<AtomicUsize>) {
    let (running, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let highest = Arc::clone(&peak);
    let work = async move || {
        let now = running.fetch_add(1, Ordering::Relaxed) + 1;
        highest.fetch_max(now, Ordering::Relaxed);
        sleep(ms(100)).await;
        running.fetch_sub(1, Ordering::Relaxed);
    };
    let routes = Router::new().route("/b", get(work.clone()));
    (routes.route("/a", get(work.clone()).post(work)), peak)
}

async fn send_to_all_routes(app: Router) {
    let mut calls = JoinSet::new();
    for request in [Request::get("/a"), Request::post("/a"), Request::get("/b")] {
        let request = request.body(Body::empty()).unwrap();
        calls.spawn(app.clone().oneshot(request));
    }
    for response in calls.join_all().await {
        assert_eq!(response.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test(start_paused = true)]
async fn all_routes_and_methods_share_the_limits() {
    let (app, peak) = counting();
    send_to_all_routes(protect(limits(1, 10), app)).await;
    assert_eq!(peak.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn harm_router_layer_makes_a_limit_for_each_route_and_method() {
    let (app, peak) = counting();
    send_to_all_routes(app.layer(ConcurrencyLimitLayer::new(1))).await;
    assert_eq!(peak.load(Ordering::Relaxed), 3, "a limit of one");

    let (app, peak) = counting();
    send_to_all_routes(app.layer(GlobalConcurrencyLimitLayer::new(1))).await;
    assert_eq!(peak.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn harm_without_load_shedding_the_queue_has_no_end() {
    let app = app().layer(GlobalConcurrencyLimitLayer::new(1));
    let times = outcomes(&app, &["/100"; 50]).await;
    assert_eq!(
        times[49],
        (200, 5000),
        "everybody waits for everybody before"
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_has_spent_its_budget_is_not_refused() {
    async fn with_a_spent_budget<S>(service: S) -> Result<S::Response, S::Error>
    where
        S: Service<Request>,
    {
        yield_now().await; // a new turn, with a whole budget
        while coop::has_budget_remaining() {
            coop::consume_budget().await;
        }
        service.oneshot(request("/0")).await
    }
    let app = protect(limits(1, 0), app());
    let answer = tokio::spawn(with_a_spent_budget(app)).await.unwrap();
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_request_dropped_anywhere_gives_its_places_back() {
    let points = every_await_point(
        LIMIT,
        async || {
            let app = protect(limits(1, 1), app());
            let running = tokio::spawn(app.clone().oneshot(request("/100")));
            yield_now().await;
            (app, running)
        },
        async |(app, _)| status(app.clone(), "/100").await,
        async |(app, running), outcome| {
            if let Outcome::Completed(status) = outcome {
                assert_eq!(status, StatusCode::OK);
            }
            assert_eq!(running.await.unwrap().unwrap().status(), StatusCode::OK);
            let expected = [(200, 100), (200, 200), (503, 0)];
            assert_eq!(outcomes(&app, &["/100"; 3]).await, expected);
        },
    )
    .await;
    // The wait for a turn, the work, and the budget before each.
    assert_eq!(points.unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn enormous_limits_are_no_panic() {
    let limits = Limits {
        running: NonZeroUsize::MAX,
        waiting: usize::MAX,
        time_limit: Duration::MAX,
        retry_after: Duration::MAX,
    };
    let app = protect(limits, app());
    assert_eq!(outcomes(&app, &["/100"; 3]).await, [(200, 100); 3]);
}

/// A body that ends, or panics, after so many ms.
fn slow_body(takes: u64, panics: bool) -> Body {
    Body::from_stream(stream::once(async move {
        sleep(ms(takes)).await;
        assert!(!panics, "in the body");
        Ok::<_, Infallible>(Bytes::from_static(b"end"))
    }))
}

#[tokio::test(start_paused = true)]
async fn harm_a_streamed_body_has_no_time_limit_and_holds_no_place() {
    let slow = async || slow_body(5000, false);
    let app = protect(limits(1, 0), app().route("/slow/body", get(slow)));
    let started = Instant::now();
    let response = app.clone().oneshot(request("/slow/body")).await.unwrap();
    assert_eq!(
        outcomes(&app, &["/100"]).await,
        [(200, 100)],
        "a second one runs"
    );
    let body = axum::body::to_bytes(response.into_body(), 10).await;
    assert_eq!(body.unwrap(), "end");
    assert_eq!(started.elapsed(), ms(100 + 5000), "the limit is one second");
}

#[tokio::test(start_paused = true)]
async fn harm_work_that_never_awaits_stops_for_no_limit() {
    let computes = async || {
        advance(ms(5000)).now_or_never(); // on this virtual clock
    };
    let app = protect(limits(1, 0), Router::new().route("/", get(computes)));
    assert_eq!(
        outcomes(&app, &["/"]).await,
        [(200, 5000)],
        "the limit is one second"
    );
}

/// A server on a port of its own.
struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<Ended>,
}

impl Server {
    async fn start(app: Router, grace: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let ended = tokio::spawn(serve(listener, app, stop.clone(), grace));
        Self {
            address,
            stop,
            ended,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn ended(self) -> Ended {
        timeout(LIMIT, self.ended)
            .await
            .expect("it does not end")
            .unwrap()
    }
}

/// Gives up later than any test does: a client that leaves would end what should end by itself.
fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(LIMIT * 10)
        .build()
        .unwrap()
}

/// Waits until what is to be true is, for what no event tells of.
async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(ms(1)).await;
        }
    };
    timeout(LIMIT, wait).await.expect("it never came true");
}

/// Counts what runs under it.
#[derive(Clone, Default)]
struct Running(Arc<()>);

impl Running {
    fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

/// `/` answers when a permit is there; what runs is counted.
fn gated() -> (Router, Running, Arc<Semaphore>) {
    let (counted, gate) = (Arc::new(()), Arc::new(Semaphore::new(0)));
    let (weak, opens) = (Arc::downgrade(&counted), Arc::clone(&gate));
    let work = async move || {
        let _running = weak.upgrade();
        opens.acquire().await.unwrap().forget();
        "done"
    };
    (Router::new().route("/", get(work)), Running(counted), gate)
}

#[tokio::test]
async fn a_client_sees_503_with_retry_after_504_and_500() {
    let (gated, running, gate) = gated();
    let limits = Limits {
        time_limit: ms(200),
        ..limits(1, 0)
    };
    let panics = gated.route(
        "/panic",
        get(async || -> () { panic!("as it was told to") }),
    );
    let server = Server::start(protect(limits, panics), LIMIT).await;
    let (client, url) = (client(), server.url("/"));

    let held = tokio::spawn(client.get(&url).send());
    until(|| running.count() == 1).await;
    let refused = client.get(&url).send().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()[RETRY_AFTER], "2");
    assert_eq!(held.await.unwrap().unwrap().status(), 504);
    let panicked = client.get(server.url("/panic")).send().await.unwrap();
    assert_eq!(panicked.status(), 500);
    gate.add_permits(1);
    let answered = client.get(&url).send().await.unwrap();
    assert_eq!(answered.text().await.unwrap(), "done");

    drop(client); // or its idle connections
    server.stop.cancel();
    assert_eq!(server.ended().await, Ended::Gracefully);
}

#[tokio::test]
async fn what_was_accepted_is_finished_before_it_ends() {
    let (app, running, gate) = gated();
    let server = Server::start(protect(without_time_limit(1, 1), app), LIMIT).await;
    let (client, url) = (client(), server.url("/"));
    let first = tokio::spawn(client.get(&url).send());
    until(|| running.count() == 1).await;
    let second = tokio::spawn(client.get(&url).send());
    // It waits for its turn as soon as a third one would be refused.
    let third = async || client.get(&url).send().await.unwrap().status();
    let waits = async { while timeout(ms(50), third()).await.is_err() {} };
    timeout(LIMIT, waits).await.unwrap();

    server.stop.cancel();
    let refuses = async { while TcpStream::connect(server.address).await.is_ok() {} };
    timeout(LIMIT, refuses).await.expect("it still accepts");
    assert!(!server.ended.is_finished());
    gate.add_permits(10);
    for call in [first, second] {
        let response = call.await.unwrap().unwrap();
        assert_eq!(
            (response.status(), response.text().await.unwrap()),
            (StatusCode::OK, "done".into())
        );
    }
    assert_eq!(server.ended().await, Ended::Gracefully);
}

fn without_time_limit(running: usize, waiting: usize) -> Limits {
    Limits {
        time_limit: LIMIT * 10,
        ..limits(running, waiting)
    }
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_it_up() {
    let server = Server::start(app(), LIMIT).await;
    let client = client();
    client
        .get(server.url("/0"))
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    let started = Instant::now();
    server.stop.cancel();
    assert_eq!(server.ended().await, Ended::Gracefully);
    assert!(started.elapsed() < LIMIT / 2);
    drop(client); // its connection was kept alive until here
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_hang_are_cut_off_after_the_grace_time() {
    const REQUESTS: usize = 50;
    let (app, running, _gate) = gated();
    let server = Server::start(app, ms(100)).await;
    let mut calls = JoinSet::new();
    for _ in 0..REQUESTS {
        calls.spawn(client().get(server.url("/")).send());
    }
    until(|| running.count() == REQUESTS).await;
    let started = Instant::now();
    server.stop.cancel();
    assert_eq!(server.ended().await, Ended::CutOff);
    assert_eq!(running.count(), 0, "it ended, and they run on");
    assert!(started.elapsed() >= ms(100));
    for call in timeout(LIMIT, calls.join_all())
        .await
        .expect("a client hangs")
    {
        call.unwrap_err();
    }
}

#[tokio::test]
async fn a_client_that_sends_half_a_request_holds_nothing_but_its_connection() {
    let server = Server::start(protect(limits(1, 0), app()), ms(100)).await;
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nHost: h").await.unwrap();
    let answered = client().get(server.url("/0")).send().await.unwrap();
    assert_eq!(answered.status(), 200, "it has taken the only place");
    server.stop.cancel();
    assert_eq!(server.ended().await, Ended::CutOff);
    let mut rest = Vec::new();
    let ended = timeout(LIMIT, half.read_to_end(&mut rest)).await.unwrap();
    assert!(ended.is_err() || rest.is_empty());
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let large = Router::new().route("/", get(async || vec![b'x'; 64 << 20]));
    let server = Server::start(large, ms(100)).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0];
    client.read_exact(&mut first).await.unwrap();
    server.stop.cancel();
    assert_eq!(server.ended().await, Ended::CutOff);
}

#[tokio::test]
async fn a_connection_that_nobody_reads_from_is_cut_off_as_well() {
    const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let pipelined = format!("{GET}{GET}");
    let body = format!(
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n{:1000}",
        ""
    );
    for sent in [pipelined, body] {
        let (app, running, _gate) = gated();
        let server = Server::start(app, ms(100)).await;
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(sent.as_bytes()).await.unwrap();
        until(|| running.count() == 1).await;
        server.stop.cancel();
        assert_eq!(server.ended().await, Ended::CutOff);
        assert_eq!(running.count(), 0);
    }
    // The response has begun, and its body never ends; behind it the next request waits.
    let endless = async || Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let server = Server::start(Router::new().route("/", get(endless)), ms(100)).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client
        .write_all(format!("{GET}{GET}").as_bytes())
        .await
        .unwrap();
    client.read_exact(&mut [0]).await.unwrap();
    server.stop.cancel();
    assert_eq!(server.ended().await, Ended::CutOff);
}

#[tokio::test]
async fn dropping_it_cuts_off_what_it_works_on() {
    let (app, running, _gate) = gated();
    let server = Server::start(app, LIMIT).await;
    let call = tokio::spawn(client().get(server.url("/")).send());
    until(|| running.count() == 1).await;
    server.ended.abort();
    until(|| running.count() == 0).await;
    call.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn harm_axum_serve_leaves_its_connections_running() {
    let (app, running, gate) = gated();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(axum::serve(listener, app).into_future());
    let call = tokio::spawn(client().get(url).send());
    until(|| running.count() == 1).await;
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    assert_eq!(running.count(), 1);
    gate.add_permits(1);
    assert_eq!(
        call.await.unwrap().unwrap().status(),
        200,
        "long after the server is gone"
    );
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_back() {
    let (app, running, gate) = gated();
    let server = Server::start(protect(without_time_limit(1, 0), app), LIMIT).await;
    let leaves = tokio::spawn(client().get(server.url("/")).send());
    until(|| running.count() == 1).await;
    leaves.abort();
    until(|| running.count() == 0).await;
    gate.add_permits(1);
    let answered = client().get(server.url("/")).send().await.unwrap();
    assert_eq!(answered.status(), 200);
}

#[tokio::test]
async fn a_panic_in_a_streamed_body_breaks_one_connection() {
    let panics = async || slow_body(1, true);
    let app = protect(limits(1, 0), app().route("/slow/body", get(panics)));
    let server = Server::start(app, LIMIT).await;
    let response = client().get(server.url("/slow/body")).send().await;
    let broken = match response {
        Ok(response) => response.bytes().await.is_err(),
        Err(_) => true,
    };
    assert!(broken, "it is answered as if it were whole");
    let answered = client().get(server.url("/0")).send().await.unwrap();
    assert_eq!(answered.status(), 200);
}

/// Sends `requests` at once from as many clients' tasks; returns for each its status, whether it says
/// when to come back, and how long it took.
async fn load(url: String, requests: usize) -> Vec<(u16, bool, Duration)> {
    let (client, start) = (client(), Arc::new(Barrier::new(requests)));
    let mut calls = JoinSet::new();
    for _ in 0..requests {
        let (call, start) = (client.get(&url), Arc::clone(&start));
        calls.spawn(async move {
            start.wait().await;
            let sent = Instant::now();
            let response = call.send().await.unwrap();
            let told = |headers: &HeaderMap| headers.contains_key(RETRY_AFTER);
            (
                response.status().as_u16(),
                told(response.headers()),
                sent.elapsed(),
            )
        });
    }
    timeout(LIMIT, calls.join_all())
        .await
        .expect("a request hangs")
}

/// A request takes two sockets here, and macOS allows a process 256 files to begin with.
#[cfg(unix)]
fn raise_limit_on_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < 1_000) {
        let current = Some(1_000);
        setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_overload_whoever_is_let_in_is_answered_in_time() {
    const REQUESTS: usize = 100;
    #[cfg(unix)]
    raise_limit_on_descriptors();
    let limits = without_time_limit(2, 2);
    let server = Server::start(protect(limits, app()), LIMIT).await;
    let mut answers = load(server.url("/50"), REQUESTS).await;
    answers.sort_by_key(|(_, _, took)| *took);
    let (mut let_in, mut refused) = (Vec::new(), 0);
    for (status, told, took) in answers {
        match status {
            200 => let_in.push(took),
            503 if told => refused += 1,
            _ => panic!("status {status}, told when to come back: {told}"),
        }
    }
    assert!(refused > REQUESTS / 2, "{refused} refused");
    assert!(let_in.len() >= 4, "{let_in:?}");
    // Two turns of 50 ms, and what the network and a busy machine add.
    let slowest = *let_in.last().unwrap();
    assert!(slowest < ms(1500), "{slowest:?} for a request of 50 ms");
    server.stop.cancel();
    assert_eq!(server.ended().await, Ended::Gracefully);

    // The same load on the same app with a limit and nothing else: a sleep is never short.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/50", listener.local_addr().unwrap());
    let naive = app().layer(GlobalConcurrencyLimitLayer::new(2));
    let server = tokio::spawn(axum::serve(listener, naive).into_future());
    let answers = load(url, REQUESTS).await;
    let slowest = answers.iter().map(|(_, _, took)| *took).max().unwrap();
    assert!(
        slowest > ms(2000),
        "{slowest:?}: a hundred by two, 50 ms each"
    );
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_stopped_under_load_and_every_request_is_answered_or_refused() {
    let server = Server::start(protect(without_time_limit(4, 4), app()), LIMIT).await;
    let (client, url) = (client(), server.url("/5"));
    let (answered, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..16 {
        let (client, url) = (client.clone(), url.clone());
        let (answered, failed) = (Arc::clone(&answered), Arc::clone(&failed));
        clients.spawn(async move {
            loop {
                match client.get(&url).send().await {
                    Ok(response) => {
                        assert!([200, 503].contains(&response.status().as_u16()));
                        response.bytes().await.expect("an answer that breaks off");
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    // Not accepted, or on a connection that was just being closed.
                    Err(error) => {
                        assert!(!error.is_timeout(), "{error}");
                        failed.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                }
            }
        });
    }
    until(|| answered.load(Ordering::Relaxed) > 200).await;
    server.stop.cancel();
    assert_eq!(server.ended().await, Ended::Gracefully);
    timeout(LIMIT, clients.join_all())
        .await
        .expect("a client hangs");
    assert_eq!(failed.load(Ordering::Relaxed), 16);
}

#[tokio::test]
async fn posts_are_served_as_well_and_an_app_without_an_end_ends_at_the_limit() {
    let never = Router::new().route("/", post(async || pending::<()>().await));
    let limits = Limits {
        time_limit: ms(50),
        ..limits(1, 0)
    };
    let server = Server::start(protect(limits, never), LIMIT).await;
    let response = client()
        .post(server.url("/"))
        .body("body")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 504);
}

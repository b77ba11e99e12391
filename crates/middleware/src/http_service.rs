//! # A server that stays up under overload: axum behind tower's layers
//!
//! More requests come than a server can answer. Each is taken, all become slow together, the clients
//! give up and try again, and what is answered in the end nobody waits for. Here so many run, so many
//! wait, and the rest hear at once when to come back. Every request has an answer in time, a panic is
//! one of them, and at the end what was accepted is finished.
//!
//! ## Use it when
//! - an axum server can get more requests than it can answer, which is any that others can reach.
//!
//! ## Use something else when
//! - the calls go out and are tried again: `stack`, whose place is in front of a client;
//! - it is not HTTP: `tcp_server`, `graceful_shutdown`, `load_shedding`.
//!
//! ## Add to your project
//! ```console
//! cargo add axum
//! cargo add tokio --features macros,net,rt,time
//! cargo add tokio-util --features rt
//! cargo add tower --features limit,load-shed,util
//! cargo add tower-http --features catch-panic
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - `Router::layer` puts a layer around each route and method anew: a `ConcurrencyLimitLayer` of 10
//!   on five routes is a limit of 50. `GlobalConcurrencyLimitLayer` shares it, as does [`protect`].
//! - A limit alone does not refuse: the queue in front of it has no end, and takes its time.
//! - All of this ends with the response's head. A body that is streamed has no time limit, holds no
//!   place, and its panic breaks the connection.
//! - Neither the number of connections is limited here, nor the time that a client takes to send the
//!   head of its request: that is for a proxy in front, or `hyper-util`'s builder.
//! - `axum::serve` spawns its connections: dropped, it leaves them running. [`serve`] ends them.
//! - Work that never awaits stops for no limit: `cpu_offload`.

use std::future::ready;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::extract::Request;
use axum::http::{StatusCode, header::RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::Semaphore;
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tower::load_shed::error::Overloaded;
use tower::util::MapFutureLayer;
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_http::catch_panic::CatchPanicLayer;

/// How much a server takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests worked on at once.
    pub running: NonZeroUsize,
    /// Requests that wait for a turn: no more than `waiting / running` turns, rounded up.
    pub waiting: usize,
    /// For a request, from when it came to the head of its response.
    pub time_limit: Duration,
    /// When those that are refused are told to come back, in whole seconds, one at least.
    pub retry_after: Duration,
}

/// Puts `app` behind the limits, which all routes share: 503 with `Retry-After` if there is no room,
/// 504 over the time limit, 500 for a panic. Add to the result what must always answer, such as a
/// health check. A request that is cut off, or whose client leaves, is dropped where it awaits.
pub fn protect(limits: Limits, app: Router) -> Router {
    let running = limits.running.get().min(Semaphore::MAX_PERMITS); // more would panic
    let places = running
        .saturating_add(limits.waiting)
        .min(Semaphore::MAX_PERMITS);
    let app = ServiceBuilder::new()
        .concurrency_limit(running)
        .layer(CatchPanicLayer::new())
        .service(app);
    let refuse = move |error| ready(refuse(&error, limits.retry_after));
    let protected = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(refuse))
        .load_shed()
        .concurrency_limit(places)
        .service_fn(move |request: Request| {
            // The wait for a turn is in the call, where the time limit sees it. It is tokio's: tower's
            // never strikes on work that uses up its task's budget in each turn.
            let call = timeout(limits.time_limit, app.clone().oneshot(request));
            async { Ok::<_, BoxError>(call.await??) }
        });
    Router::new().fallback_service(protected)
}

fn refuse(error: &BoxError, retry_after: Duration) -> Response {
    tracing::debug!(%error, "request refused");
    if error.is::<Overloaded>() {
        let seconds = retry_after.as_millis().div_ceil(1000).max(1).to_string();
        let headers = [(RETRY_AFTER, seconds)];
        (StatusCode::SERVICE_UNAVAILABLE, headers, "overloaded").into_response()
    } else if error.is::<Elapsed>() {
        (StatusCode::GATEWAY_TIMEOUT, "timed out").into_response()
    } else {
        (StatusCode::INTERNAL_SERVER_ERROR, "failed").into_response()
    }
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Ended {
    /// Every request that was accepted has its answer.
    Gracefully,
    /// After the grace time some connections were still open, and were cut off.
    CutOff,
}

/// Serves `app` until `stop` is cancelled. Then it accepts no more, closes each connection when its
/// request is answered, and after `grace` cuts off what is left. When it returns, no request is
/// being worked on any more.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or in one without I/O or timers.
///
/// # Cancel safety
///
/// Dropping it cuts off all connections, and what they work on.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    stop: CancellationToken,
    grace: Duration,
) -> Ended {
    let (cut, tracker) = (CancellationToken::new(), TaskTracker::new());
    let _cut_when_dropped = cut.clone().drop_guard();
    let tracked = tracker.clone();
    let app = app.layer(MapFutureLayer::new(move |work| tracked.track_future(work)));
    let listener = Cuttable(listener, cut.clone());
    let serving = axum::serve(listener, app).with_graceful_shutdown(stop.clone().cancelled_owned());
    let mut serving = pin!(serving.into_future());
    let too_long = async {
        stop.cancelled().await;
        sleep(grace).await;
    };
    let ended = select! {
        biased; // what is done in time is not cut off
        _ = &mut serving => Ended::Gracefully,
        () = too_long => Ended::CutOff,
    };
    if ended == Ended::CutOff {
        cut.cancel(); // each connection's next read or write fails, and its task ends
        drop(serving.await); // axum's servers return no error
    }
    // axum takes a connection for ended a moment before it drops what that one worked on.
    tracker.close();
    tracker.wait().await;
    ended
}

/// A listener whose connections can be ended from outside.
struct Cuttable(TcpListener, CancellationToken);

struct Connection {
    stream: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Listener for Cuttable {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // axum's own: an error is logged and waited out, and ends nothing.
        let (stream, peer) = Listener::accept(&mut self.0).await;
        stream.set_nodelay(true).ok(); // without it, the parts of a streamed body may be late
        let cut = Box::pin(self.1.clone().cancelled_owned());
        (Connection { stream, cut }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Connection {
    fn stream(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(Pin::new(&mut self.stream)),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream(cx)?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_shutdown(cx)
    }
}

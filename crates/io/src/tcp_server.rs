//! # TCP server: an accept loop with limits
//!
//! `loop { spawn(handle(listener.accept().await?)) }` ends at the first `accept` that fails, takes
//! any number of clients, waits for ever for those that fall silent, and cannot be stopped. This
//! server lives through failed accepts, limits clients in number and in time, keeps a panic or an
//! error to the client that it concerns, and at a stop lets the clients finish, up to a deadline.
//!
//! ## Use it when
//! - you serve a protocol of your own over TCP, or over another [`Listener`], to clients that may be
//!   slow, broken or hostile.
//!
//! ## Use something else when
//! - the protocol is HTTP or gRPC: a framework has an accept loop of its own;
//! - packets are independent, and one may be lost: `udp_server`;
//! - bytes go on to another server: `relay` as the handler.
//!
//! ## Add to your project
//! ```console
//! cargo add tokio --features io-util,macros,net,rt,time
//! cargo add tokio-util
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - A client that sends a byte now and then is never idle: [`Limits::lifetime`] ends it. One that
//!   opens all [`Limits::connections`] keeps the others out for as long. Put a `timeout` around the
//!   reading of each request, and let the handler turn away an address that has too many.
//! - The kernel makes room for a write once much of its buffer is free, which may hold megabytes. A
//!   client that takes bytes all the time, but too slowly for that, ends at [`Limits::write`].
//! - Clients above [`Limits::connections`] see an open connection on which nobody answers: they wait
//!   in the kernel's queue. A stop resets those that are still there.
//! - Each connection is a file descriptor. Set the process's limit (`ulimit -n`) above
//!   `connections` and what the handlers open: clients behind a failing accept wait, too. What it does
//!   to a loop that ends at an error is shown in `fatal_accept`.
//! - A handler that returns with bytes unread makes the kernel reset the connection, and what the
//!   client has not received by then is lost. Read to the end, or `shutdown` and then read to the end.
//! - A handler's write is done when the kernel has the bytes. Only an answer shows that they arrived.
//! - What a handler spawns is outside of the limits and the stop, and so is a connection that it hands
//!   over. Spawn into a `JoinSet` that the handler owns.
//! - A blocking call in a handler hears neither limit nor abort, and on a runtime with one thread it
//!   stops everything, the deadlines too.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::select;
use tokio::task::coop::{consume_budget, unconstrained};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// After a failed accept. Each further pause in a row is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long aborted handlers have to come to an await.
const ABORT: Duration = Duration::from_secs(1);

/// How many clients may wait to be accepted, if the system allows as many (`net.core.somaxconn`).
const QUEUE: u32 = 4_096;

/// The most that [`echo`] reads at once.
const BUFFER: usize = 16 * 1024;

/// The most that [`echo`] gives back after a stop: above what a socket's buffer has by then, which
/// grows to 6 MiB on Linux (`net.ipv4.tcp_rmem`).
const ARRIVED: usize = 8 << 20;

/// What a server grants its clients. [`Duration::MAX`] is no limit; zero ends what has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. At this number nothing is accepted; further clients wait in the kernel.
    pub connections: NonZeroUsize,
    /// How long a read waits while no byte passes, in either direction.
    pub idle: Duration,
    /// How long a write waits while the kernel has no room for a byte.
    pub write: Duration,
    /// How long a connection lives, whatever its handler awaits.
    pub lifetime: Duration,
    /// How long connections may go on after a stop. Those that do are aborted.
    pub drain: Duration,
}

/// How the connections ended: each that was accepted is counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct Report {
    /// The handler returned `Ok`.
    pub served: u64,
    /// The handler returned an error, or the connection reached [`Limits::lifetime`].
    pub failed: u64,
    /// The handler panicked.
    pub panicked: u64,
    /// Aborted, [`Limits::drain`] after the stop.
    pub aborted: u64,
    /// Aborted, and a second later it had come to no await. **It runs on** until its next.
    pub still_running: u64,
    /// Accepts that failed, which are no connections.
    pub failed_accepts: u64,
}

/// Where connections come from: a `TcpListener`, and what you implement it for.
///
/// A TLS handshake belongs in the handler: here one slow client would keep all others waiting.
pub trait Listener {
    /// A connection.
    type Stream: Send + 'static;
    /// The other end's address.
    type Client: fmt::Debug + Clone + Send + 'static;

    /// Waits for the next connection.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it must have taken none: it is called anew many times.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, Self::Client)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    type Client = SocketAddr;

    async fn accept(&mut self) -> io::Result<(TcpStream, Self::Client)> {
        let (stream, client) = TcpListener::accept(self).await?;
        // Or a small write waits until the client has acknowledged the one before. If this fails,
        // the client is gone, and the handler will see it.
        stream.set_nodelay(true).ok();
        Ok((stream, client))
    }
}

/// Listens on `address`, a `host:port`. Port 0 is any free one: `local_addr` tells which.
///
/// # Errors
///
/// If the address cannot be listened on. The message tells it, the system's error and what to do.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or in one without I/O.
///
/// # Cancel safety
///
/// Dropped before it is done, it listens on nothing. A host's name takes as long as the resolver
/// does: put a `timeout` around it.
pub async fn bind(address: &str) -> io::Result<TcpListener> {
    let listen = async {
        let mut failed = io::ErrorKind::InvalidInput.into(); // the name has no address
        for address in lookup_host(address).await? {
            match listen(address) {
                Ok(listener) => return Ok(listener),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    };
    listen.await.map_err(|error: io::Error| {
        let remedy =
            "it takes host:port, an address of this host, and a port that is free and permitted";
        let message = format!("cannot listen on {address}: {error}; {remedy}");
        io::Error::new(error.kind(), message)
    })
}

/// As `TcpListener::bind`, but for the queue: there it is 128 long, which one burst overflows, and
/// who finds it full tries again after a second, and then after ever longer.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    #[cfg(not(windows))] // where it would let two programs listen on one port
    socket.set_reuseaddr(true)?; // or the port is in use for a minute after a stop
    socket.bind(address)?;
    socket.listen(QUEUE)
}

/// Calls `handler` in a task for each connection, until `stop` is cancelled; then closes `listener`,
/// waits for the connections within the limits, and tells how all of them ended.
///
/// The handler gets the connection, the client's address, and a token that is cancelled with `stop`
/// and asks it to come to its end. It is called anew for each, so it clones what it captures.
///
/// A failed accept is logged, and repeated after a pause that grows from 10 ms to 1 s. A connection
/// that fails is logged at the level `debug`, since clients can cause any number of these, and one
/// whose handler panics or is aborted as an error.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or in one without timers.
///
/// # Cancel safety
///
/// Dropped before it is done, it closes `listener` and aborts the connections; the report is lost.
pub async fn serve<L: Listener, F>(
    mut listener: L,
    limits: Limits,
    stop: CancellationToken,
    handler: impl Fn(Connection<L::Stream>, L::Client, CancellationToken) -> F + Send + Sync + 'static,
) -> Report
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let handler = Arc::new(handler);
    let mut tasks = Tasks {
        running: JoinSet::new(),
        clients: HashMap::new(),
        report: Report::default(),
    };
    let (mut pause, mut retry_at) = (FIRST_PAUSE, None);
    loop {
        consume_budget().await; // or a listener that never waits keeps the thread to itself
        let accept = async {
            if let Some(instant) = retry_at {
                sleep_until(instant).await;
            }
            listener.accept().await
        };
        let accepted = select! {
            biased; // who has ended is forgotten, and makes room, before another is let in
            () = stop.cancelled() => break,
            Some(()) = tasks.ended() => continue,
            accepted = accept, if tasks.running.len() < limits.connections.get() => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                (pause, retry_at) = (FIRST_PAUSE, None);
                let (handler, stop) = (Arc::clone(&handler), stop.child_token());
                let (connection, peer) = (Connection::new(stream, limits), client.clone());
                let task = tasks.running.spawn(async move {
                    // Called in here, so that a panic in the call is the task's as well.
                    let done = timeout(limits.lifetime, handler(connection, peer, stop)).await;
                    done.unwrap_or_else(|_| Err(late("the connection is open", limits.lifetime)))
                });
                tasks.clients.insert(task.id(), client);
            }
            Err(error) => {
                tasks.report.failed_accepts += 1;
                // It was in the queue, and left. Nothing is wrong, and others wait behind it.
                if error.kind() == io::ErrorKind::ConnectionAborted {
                    tracing::debug!(%error, "a client left before it was accepted");
                    continue;
                }
                // Most often the file descriptors are used up. That stays so until one is closed,
                // and without a pause this loop would do nothing but fail.
                let open = tasks.running.len();
                tracing::error!(%error, open, ?pause, "cannot accept connections");
                retry_at = Some(Instant::now() + pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    drop(listener);
    timeout(limits.drain, tasks.all_ended()).await.ok(); // who is late is still in the set
    tasks.running.abort_all();
    // Unconstrained: a budget that ends at 128 tasks would hide the rest when the time is over.
    timeout(ABORT, unconstrained(tasks.all_ended())).await.ok();
    for client in tasks.clients.values() {
        tracing::error!(?client, "a connection's handler does not stop");
        tasks.report.still_running += 1;
    }
    tasks.report
}

/// A handler: gives back every byte, until the client sends no more.
///
/// At the stop it gives back what has arrived, ends the stream, and waits for the client to end its
/// own: what comes after that is dropped. A client that goes on sending gets 8 MiB of it back.
///
/// # Errors
///
/// If a read or a write fails, or reaches a limit of the connection.
///
/// # Cancel safety
///
/// Dropped before it is done, it loses what it has read and not yet written: 16 KiB at most.
pub async fn echo<S>(mut stream: S, stop: CancellationToken) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut stopped = pin!(stop.cancelled());
    let mut arrived = ARRIVED; // how much more of it there can be
    while arrived > 0 {
        select! {
            biased; // what has arrived comes before the stop
            length = stream.read_buf(&mut buffer) => if length? == 0 { break },
            () = &mut stopped => break,
        }
        if stop.is_cancelled() {
            arrived = arrived.saturating_sub(buffer.len()); // or who never rests is never told
        }
        stream.write_all(&buffer).await?;
        buffer.clear();
    }
    stream.shutdown().await?;
    // To close with bytes unread would reset the connection, and with it what is still on its way.
    while stream.read_buf(&mut buffer).await? > 0 {
        buffer.clear();
    }
    Ok(())
}

/// A stream whose reads and writes fail with `TimedOut` where they wait longer than the [`Limits`]
/// allow. Only the lifetime limits a flush and a shutdown: `TcpStream`'s are done at once.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    read: Wait,
    write: Wait,
}

impl<S> Connection<S> {
    fn new(stream: S, limits: Limits) -> Self {
        let wait = |limit| Wait {
            limit,
            since: None,
            timer: None,
        };
        let (read, write) = (wait(limits.idle), wait(limits.write));
        Self {
            stream,
            read,
            write,
        }
    }

    /// The stream itself, for its addresses and options.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    fn limit_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            // A client that takes bytes is not idle, although it sends none.
            self.read.since = self.read.since.map(|_| Instant::now());
        }
        self.write.limit(cx, written, "no byte could be written")
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.read.limit(cx, done, "no byte has passed")
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.limit_write(cx, written)
    }

    // Or a head and its body, written together, would be two packets.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.limit_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Since when one operation waits. Reads and writes may be two tasks' (`tokio::io::split`), and a
/// timer wakes one: so each has its own, made when it first waits.
#[derive(Debug)]
struct Wait {
    limit: Duration,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Wait {
    /// Passes on what is ready; fails what is not once it has waited for the limit.
    fn limit<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
        what: &str,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.since = None;
            return polled;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let Some(deadline) = since.checked_add(self.limit) else {
            return Poll::Pending; // beyond the end of time
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= deadline {
                self.since = None;
                return Poll::Ready(Err(late(what, self.limit)));
            }
            timer.as_mut().reset(deadline); // it was set for an earlier wait
        }
        Poll::Pending
    }
}

fn late(what: &str, limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} for {limit:?}"))
}

/// The running handlers, whom they serve, and how the others ended.
struct Tasks<C> {
    running: JoinSet<io::Result<()>>,
    clients: HashMap<Id, C>,
    report: Report,
}

impl<C: fmt::Debug> Tasks<C> {
    /// Waits for a handler to end, and counts it. `None` if none is running.
    async fn ended(&mut self) -> Option<()> {
        let ended = self.running.join_next_with_id().await?;
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let client = self.clients.remove(&id).map(tracing::field::debug);
        match ended {
            Ok((_, Ok(()))) => self.report.served += 1,
            Ok((_, Err(error))) => {
                tracing::debug!(client, %error, "a connection failed");
                self.report.failed += 1;
            }
            Err(error) if error.is_panic() => {
                tracing::error!(client, %error, "a connection's handler panicked");
                self.report.panicked += 1;
            }
            Err(_) => {
                tracing::error!(client, "a connection was aborted");
                self.report.aborted += 1;
            }
        }
        Some(())
    }

    async fn all_ended(&mut self) {
        while self.ended().await.is_some() {}
    }
}

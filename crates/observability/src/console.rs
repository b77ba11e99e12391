//! # Console: tokio-console
//!
//! The service is busy, or stuck, and you want to see its tasks as `top` shows processes: which are
//! alive, who keeps a thread, who is woken without end, who waits for a wake-up that cannot come.
//! tokio-console shows that, if the program has been built for it: the flag `tokio_unstable`, tokio's
//! feature `tracing`, and a layer that serves what they tell. Without the flag the layer panics; here
//! it is an error that says what is missing, so that one program is built both ways.
//!
//! ## Use it when
//! - `runtime_metrics` has told that a worker is held, and you look for the task that holds it;
//! - tasks pile up, a core is busy for nothing, or a task never goes on.
//!
//! ## Use something else when
//! - it has to run in production all the time: `runtime_metrics` costs next to nothing;
//! - you ask what happened to one request: `spans`.
//!
//! ## Add to your project
//! ```console
//! cargo add console-subscriber
//! cargo add thiserror
//! cargo add tokio --features rt
//! cargo add tracing
//! cargo add tracing-subscriber
//! ```
//!
//! ## Build with the flag
//! In a folder of its own, since the flag rebuilds everything; and look:
//! ```console
//! RUSTFLAGS="--cfg tokio_unstable" cargo run --target-dir target/console
//! cargo install tokio-console --locked
//! tokio-console http://127.0.0.1:6669
//! ```
//! The first crate brings some 80 others, tonic and prost among them. Only the build with the flag
//! compiles them if its entry in `Cargo.toml` stands under another heading:
//! ```toml
//! [target.'cfg(tokio_unstable)'.dependencies]
//! console-subscriber = "0.5"
//! ```
//!
//! ## Watch out
//! - A filter for the whole registry turns the console's events off with your own, and it shows no
//!   task: `.with(log.with_filter(LevelFilter::INFO))` filters the log alone.
//! - Whoever reaches the address sees your tasks, their names and your files' paths. Bind to
//!   `127.0.0.1`, and come through a tunnel.
//! - On a taken address the layer's thread panics, and the program goes on unseen; here it is an error.
//!
//! ## What it shows
//! The example, 12 seconds after its start, with tokio-console 0.1.14, console-subscriber 0.5.0 and
//! tokio 1.54.1; left out are the frames, and the last column with the line that spawned the task:
//! ```text
//! ⚠ 1 tasks have woken themselves over 50% of the time
//! ⚠ 1 tasks have lost their wakers
//! ⚠ 1 tasks have never yielded (threshold 1000ms)
//!
//! Warn  ID  State  Name          Total▿ Busy   Sched  Idle   Polls  Kind
//!         3 ▶                       12s    12s    0ns  445µs 1      blocking
//!         5 ▶                       12s    12s    0ns  993µs 1      blocking
//!         6 ⏸                       12s  718µs    0ns    12s 1      block_on
//!         7 ⏸      healthy-1        12s   34ms   14ms    12s 118    task
//!         8 ⏸      healthy-2        12s   32ms   14ms    12s 118    task
//!         9 ⏸      healthy-3        12s   38ms    2ms    12s 119    task
//! ⚠ 1    10 ▶      parse-everyth    12s    12s    0ns  473µs 1      task
//! ⚠ 1    11 ⏫     poll-for-work    12s     7s     5s  526µs 446916 task
//! ⚠ 1    12 ⏸      wait-for-repl    12s    9µs    0ns    12s 1      task
//! ```
//! - `parse-everyth`: one poll, busy for as long as it is alive. It has never come to an await.
//! - `poll-for-work`: 37,000 polls a second and no work. A loop of `yield_now` looks the same but for
//!   the warning: there it is the runtime that wakes the task, and not the task itself.
//! - `wait-for-repl`: idle, and nobody holds a waker of it. It will never go on.
#![allow(
    unexpected_cfgs,
    reason = "cargo does not know the flag, unless the manifest's [lints] name it"
)]

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use thiserror::Error;
use tokio::task::JoinHandle;
use tracing::Subscriber;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

/// Why there is no console.
#[derive(Debug, Error)]
pub enum ConsoleError {
    /// The build lacks the flag.
    #[error(
        "this build lacks the flag tokio_unstable: build with RUSTFLAGS=\"--cfg tokio_unstable\", \
         in a target folder of its own"
    )]
    FlagMissing,
    /// Nothing can listen on the address.
    #[error("the console cannot listen on {address}")]
    Address {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// A layer that tells tokio-console of all tasks, and the address it listens on: the one asked for, or
/// with port 0 a free one. Ended tasks are told of for as long as `retention`.
///
/// Give it to the registry before the first runtime starts: what is spawned before is not seen.
/// **Its thread and its listener stay until the process ends**, as the registry does.
///
/// # Errors
///
/// [`ConsoleError`]. Without a console, a program is as good as before: log it and go on.
pub fn console<S>(
    address: SocketAddr,
    retention: Duration,
) -> Result<(impl Layer<S>, SocketAddr), ConsoleError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    if !cfg!(tokio_unstable) {
        return Err(ConsoleError::FlagMissing);
    }
    // The layer binds in its thread and panics there, so that nobody hears of it. Tried here first,
    // an address that is taken is an error, unless it is taken in the moment in between.
    let free = TcpListener::bind(address).and_then(|listener| listener.local_addr());
    let free = free.map_err(|source| ConsoleError::Address { address, source })?;
    Ok((layer(free, retention), free))
}

#[cfg(tokio_unstable)]
fn layer<S>(address: SocketAddr, retention: Duration) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let console = console_subscriber::ConsoleLayer::builder();
    console.server_addr(address).retention(retention).spawn()
}

#[cfg(not(tokio_unstable))]
fn layer<S: Subscriber>(_: SocketAddr, _: Duration) -> impl Layer<S> {
    tracing_subscriber::layer::Identity::new()
}

/// [`tokio::spawn`], with a name for the console where the build has the flag.
///
/// **Dropping the handle detaches the task**, as tokio's does.
///
/// # Errors
///
/// Tokio's, which has none at present.
///
/// # Panics
///
/// If called outside of a Tokio runtime.
#[track_caller]
pub fn spawn_named<F>(name: &str, future: F) -> io::Result<JoinHandle<F::Output>>
where
    F: Future<Output: Send> + Send + 'static,
{
    #[cfg(tokio_unstable)]
    return tokio::task::Builder::new().name(name).spawn(future);
    #[cfg(not(tokio_unstable))]
    {
        let _ = name;
        Ok(tokio::spawn(future))
    }
}

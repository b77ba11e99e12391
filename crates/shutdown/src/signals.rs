//! # Signals: a token, and an exit for the impatient
//!
//! Ctrl-C, `docker stop` and a rollout all send a signal, and without a handler each of them ends the
//! process in the middle of what it does. Here the first SIGINT or SIGTERM cancels a token, so that
//! the program can finish what it has begun. The second one ends the process at once, whatever the
//! program does: it is heard by a thread of its own, not by the runtime that may be stuck.
//!
//! ## Use it when
//! - the program is a service, or a command whose work should not be cut short.
//!
//! ## Use something else when
//! - the stop comes from inside the program: cancel the `CancellationToken` yourself;
//! - the question is what to do once it is cancelled: `graceful_shutdown`, `ordered_stop`;
//! - another signal means something else, SIGHUP for instance: `tokio::signal::unix::signal`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features macros,rt,signal
//! cargo add tokio-util
//! ```
//!
//! ## Watch out
//! - `tokio::signal::ctrl_c()` alone does not hear the SIGTERM of a rollout: shown in `ctrl_c_only`.
//! - Install it first in `main`. A signal that comes before ends the process at once.
//! - The second signal runs no destructors: temporary files stay, child processes too.
//! - It takes two that were heard. The system keeps at most one of a kind waiting, so the same signal
//!   twice in quick succession may count as one. A SIGINT and a SIGTERM count as two in any case.
//! - Tokio never gives a signal back. After `tokio::signal::ctrl_c()` has been awaited once, Ctrl-C
//!   ends the program no more, also when nobody listens.
//! - A task that waits for the second signal does not hear it while a task beside it never yields, nor
//!   once the runtime is being dropped, which waits for a blocking read.
//! - The terminal sends Ctrl-C to the child processes as well, and they end as your stop begins. Spawn
//!   those that it needs with `process_group(0)`.
//! - A script starts its background jobs with SIGINT ignored. Once installed, it is heard all the same.

use std::process;
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::{fmt, io, thread};

use thiserror::Error;
use tokio::runtime::{Builder, Runtime};
use tokio::select;
use tokio_util::sync::CancellationToken;

/// Tells which signal asked the program to stop.
///
/// **Dropping it changes nothing**: signals are heard until the process ends. There is no way back to
/// what they did before.
#[derive(Debug, Clone)]
pub struct ShutdownSignals {
    received: Arc<OnceLock<Signal>>,
}

/// A signal that asks the program to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SIGINT: Ctrl-C. On Windows Ctrl-C or Ctrl-Break.
    Interrupt,
    /// SIGTERM: `kill`, systemd, Kubernetes. On Windows the console was closed, and the process will be
    /// ended some seconds later in any case.
    Terminate,
}

/// What listens for signals could not be set up.
#[derive(Debug, Error)]
#[error(
    "cannot listen for signals: {0}; install it first in main, while descriptors and threads are free"
)]
pub struct InstallError(#[from] io::Error);

impl ShutdownSignals {
    /// Starts to listen. The first signal cancels `token`; the second one ends the process with its
    /// [`exit_code`](Signal::exit_code).
    ///
    /// It needs no runtime around it, nor is it affected by one: it listens in a thread of its own,
    /// which lives as long as the process. A signal sent after it returned is heard.
    ///
    /// # Errors
    ///
    /// [`InstallError`] if that thread, its runtime or the signal handlers cannot be set up.
    pub fn install(token: CancellationToken) -> Result<Self, InstallError> {
        let received = Arc::new(OnceLock::new());
        let heard = Arc::clone(&received);
        let (ready, installed) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("signals".to_owned());
        // The runtime is made in there, as it must not be dropped in here: the caller may be async.
        thread.spawn(move || {
            let (runtime, mut signals) = match listen() {
                Ok(listening) => listening,
                Err(error) => return drop(ready.send(Err(error))), // `install` waits for it
            };
            ready.send(Ok(())).ok();
            let second = runtime.block_on(async {
                heard.set(signals.next().await).ok(); // empty so far
                token.cancel();
                // Nothing is logged in here: a subscriber that waits for a full pipe, or for a lock
                // that another writer holds, would keep the second signal from being heard.
                signals.next().await
            });
            process::exit(second.exit_code().into())
        })?;
        // Without a descriptor for the pipe behind its handlers, tokio panics.
        let panicked = |_| Err(io::Error::other("tokio could not make its pipe"));
        installed.recv().unwrap_or_else(panicked)?;
        Ok(Self { received })
    }

    /// The first signal, once one was received. It is set before the token is cancelled; `None` after
    /// that means that something else in the program has cancelled it.
    #[must_use]
    pub fn received(&self) -> Option<Signal> {
        self.received.get().copied()
    }
}

impl Signal {
    /// The exit code that says "ended by this signal": 130 or 143, which is 128 and its number.
    ///
    /// It is for a stop that left something undone, and for a command that was interrupted. A service
    /// that has stopped in good order returns 0: systemd counts 143 as a failure.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

fn listen() -> io::Result<(Runtime, Streams)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let context = runtime.enter();
    let signals = Streams::new()?;
    drop(context);
    Ok((runtime, signals))
}

#[cfg(unix)]
struct Streams {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Streams {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Signal {
        select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}

#[cfg(windows)]
struct Streams {
    ctrl_c: tokio::signal::windows::CtrlC,
    ctrl_break: tokio::signal::windows::CtrlBreak,
    close: tokio::signal::windows::CtrlClose,
}

#[cfg(windows)]
impl Streams {
    fn new() -> io::Result<Self> {
        use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close};
        Ok(Self {
            ctrl_c: ctrl_c()?,
            ctrl_break: ctrl_break()?,
            close: ctrl_close()?,
        })
    }

    async fn next(&mut self) -> Signal {
        select! {
            _ = self.ctrl_c.recv() => Signal::Interrupt,
            _ = self.ctrl_break.recv() => Signal::Interrupt,
            _ = self.close.recv() => Signal::Terminate,
        }
    }
}

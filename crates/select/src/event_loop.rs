//! # Event loop: commands, a heartbeat and a stop in one select!
//!
//! A task carries out the commands that come through a channel, gives a sign of life at intervals,
//! and ends when it is told to. Written as one `select!` that awaits in its branches, it gives none
//! while it works, hears no stop, and makes up for both in a burst. Here handler and heartbeat wait
//! side by side, and the return value tells why the loop ended and what it left undone.
//!
//! ## Use it when
//! - one owner changes some state or holds a connection, one command at a time, in order;
//! - others must see that it lives, or something must be renewed, however long a command takes.
//!
//! ## Use something else when
//! - several commands may run at once: `work_queue`;
//! - each sender waits for its answer, and nothing has to be done at intervals: `request_reply`;
//! - there are only things to receive, no heartbeat: `shutdown_first`.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add thiserror
//! cargo add tokio --features macros,rt,sync,time
//! cargo add tokio-util
//! ```
//!
//! ## Watch out
//! - `command = commands.recv() => handle(command).await` looks at nothing else until the handler is
//!   done: no heartbeat, no stop.
//! - `Some(command) = commands.recv()` beside a ticking branch lives on after the last sender has
//!   gone. `if let Some(command) = …` in the branch's body spins, as shown in `closed_channel_spins`.
//! - A new `Interval` makes up for missed ticks all at once (`burst_of_ticks`), and whatever it is set
//!   to, for those of the last 5 ms.
//! - A handler that blocks the thread stops all three meanwhile. Handlers that never wait do for up
//!   to 128 commands in a row: only then does tokio take the thread for its timers and other tasks.
//! - The heartbeat tells that the loop runs, not that the handler gets anywhere: it goes on beside
//!   one that waits for ever. Give what the handler waits for a `timeout`.
//! - A handler with a `Sender` of its own channel keeps it open, and waits for ever once it is full.
//! - The state belongs to the handler. Share what the heartbeat tells of it through a `watch` channel
//!   or an atomic. In a task that you spawn make both closures `async move`: for one that borrows the
//!   compiler finds `Send` "not general enough".

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use thiserror::Error;
use tokio::select;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

/// When the heart beats, and how long a stop waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// From the start of one heartbeat to the start of the next.
    pub period: Duration,
    /// How long the handler that runs at the stop may go on. Then it is dropped where it waits.
    pub grace: Duration,
}

/// Why the loop ended and what it left undone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "commands may be left"]
pub struct Ended {
    /// Why it ended.
    pub reason: Reason,
    /// A handler was dropped before it was done, and its command with it.
    pub interrupted: bool,
    /// Commands that were waiting in the channel. They still are. A sender that had reserved a place
    /// may add its own later: `recv` waits for it.
    pub left: usize,
}

/// Why the loop ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The channel is closed, and every command was handled.
    Closed,
    /// The token was cancelled.
    Stopped,
    /// The handler panicked with this message. Its command is gone.
    HandlerPanicked(String),
    /// The heartbeat panicked with this message. A handler that ran was dropped at once.
    HeartbeatPanicked(String),
}

/// [`Settings::period`] is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the heartbeat's period is zero: set it to a millisecond or more")]
pub struct ZeroPeriod;

/// Calls `handler` with each command, one at a time, and `heartbeat` at once and then once a period,
/// until the channel or `stop` ends it. Returns early if one of them panics.
///
/// While one of the two waits, the other goes on, and the stop is heard. A heartbeat that takes
/// longer than the period is followed by the next as soon as it is done; what was missed is not made
/// up for. One that is under way when the loop ends is dropped where it waits.
///
/// From the stop on the channel is closed: senders get their commands back. Commands that it had
/// accepted stay in `commands`. Take them out with `recv`, until `None`, or have them handled after
/// all by another call, which ends with the last of them. After a panic it is the same.
///
/// # Errors
///
/// [`ZeroPeriod`], before anything is done.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or in one without timers.
///
/// # Cancel safety
///
/// Dropped before it is done, it drops the command that it took last, with its handler where that
/// waits; all others stay in `commands`, which is closed if the stop had come.
pub async fn event_loop<C>(
    settings: Settings,
    commands: &mut mpsc::Receiver<C>,
    stop: &CancellationToken,
    mut handler: impl AsyncFnMut(C),
    heartbeat: impl AsyncFnMut(),
) -> Result<Ended, ZeroPeriod> {
    if settings.period.is_zero() {
        return Err(ZeroPeriod); // `interval` would panic
    }
    let mut beating = pin!(beat(settings.period, heartbeat));
    let (reason, interrupted) = loop {
        let command = select! {
            biased; // at a stop nothing new begins, not even a heartbeat
            () = stop.cancelled() => break (Reason::Stopped, false),
            message = &mut beating => break (Reason::HeartbeatPanicked(message), false),
            command = commands.recv() => match command {
                Some(command) => command,
                None => break (Reason::Closed, false),
            },
        };
        let overdue = async {
            stop.cancelled().await;
            commands.close();
            sleep(settings.grace).await;
        };
        select! {
            biased; // a handler that is done in time is done, not interrupted
            message = &mut beating => break (Reason::HeartbeatPanicked(message), true),
            handled = caught(async { handler(command).await }) => if let Err(message) = handled {
                break (Reason::HandlerPanicked(message), false);
            },
            () = overdue => break (Reason::Stopped, true),
        }
    };
    commands.close();
    Ok(Ended {
        reason,
        interrupted,
        left: commands.len(),
    })
}

/// Calls `heartbeat` again and again until it panics, and returns the panic's message.
async fn beat(period: Duration, mut heartbeat: impl AsyncFnMut()) -> String {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset(); // its first tick would be at once, but only when tokio looks at its timers
    loop {
        if let Err(message) = caught(async { heartbeat().await }).await {
            return message;
        }
        yield_now().await; // else one that blocks for a period or more is called 128 times in a row
        let due = ticks.tick().await;
        if due.elapsed() >= period {
            ticks.reset(); // up to 5 ms are no delay to it, which may be several periods
        }
    }
}

/// `work` is an async block, so that a closure's panic before it returns its future is caught too.
async fn caught(work: impl Future<Output = ()>) -> Result<(), String> {
    let ended = AssertUnwindSafe(work).catch_unwind().await;
    ended.map_err(|panic| message(panic.as_ref()))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

//! # Simulate a network: faults in virtual time, with turmoil
//!
//! The network is at its worst when nobody tests: messages vanish without an error, an answer is
//! lost after the work was done, a server comes back and knows nothing of its connections. This
//! harness runs a server and a client in one thread, in a simulated network whose link breaks and
//! whose server crashes at the instants that you say. The same seed gives the same run.
//!
//! ## Use it when
//! - code of yours talks to another machine: what do its time limits, retries and reconnections do
//!   when the link breaks half way through a request?
//!
//! ## Use something else when
//! - the question is what the code does with certain bytes, or when it reads and writes: `mock_io`;
//! - there is no peer, only time: `paused_clock`;
//! - threads race: `explore_interleavings`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add turmoil
//! ```
//! It belongs in your tests: `cargo add --dev` and a file in `tests/` serve as well. The code under
//! test must take its connections from `turmoil::net` there: let it take any `AsyncRead +
//! AsyncWrite`, or the function that connects, as the example does.
//!
//! ## Watch out
//! - It is a plain `#[test]`: the simulation brings its own runtimes, and none may be around it.
//! - Nothing is sent twice. A connection that lost a segment in a partition stays silent for ever,
//!   where the kernel's would catch up after the repair: only a new connection works.
//! - To connect takes one message and no answer: it succeeds while the way back is cut. If that
//!   message is lost in a partition, the connection is refused at once, where a real one would be
//!   waited for. To see it wait, hold the link.
//! - A crash closes the connections in good order, as when a process is killed. For a machine without
//!   power, partition first: the peer hears nothing, until it sends something after the restart.
//! - What is sent to a crashed server waits for its restart, where a real machine would refuse it.
//! - A server whose function returns is frozen, its tasks with it: its connections stay open and
//!   silent, and a crash no longer closes them. Let the function wait for its tasks, or for ever.
//! - Not simulated: bandwidth (one write is one message, of any size), single messages that are lost
//!   or doubled, slow computers, files (`unstable-fs` of turmoil is for those). TCP is never out of
//!   order; UDP is, if there is `jitter`.
//! - The seed does not reach `select!` without `biased`, a `HashMap`, or random numbers.
//! - A panic in a task that nobody joins is lost here as it is elsewhere.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use turmoil::{Builder, Sim};

/// The server's name: connect to `(SERVER, port)`. It binds to `0.0.0.0`.
pub const SERVER: &str = "server";

const CLIENT: &str = "client";

/// All hosts run this long in turn; messages arrive at its multiples. Timers are no finer.
const TICK: Duration = Duration::from_millis(1);

/// What the client and the server run in. Durations are in simulated time, in whole milliseconds.
#[derive(Debug, Clone)]
pub struct Network {
    /// Where the delays within `jitter` come from.
    pub seed: u64,
    /// How long a message takes at least.
    pub latency: Duration,
    /// How much longer it may take: mostly about a fifth of this, hardly ever all of it.
    pub jitter: Duration,
    /// What happens when, counted from the start. At one instant, in this order.
    pub faults: Vec<(Duration, Fault)>,
    /// When to give up. A simulated second takes about a tenth of one in a debug build.
    pub limit: Duration,
}

/// What can happen to the link and to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What is sent is lost, what is under way too. Nobody is told.
    Partition,
    /// As `Partition`, for what the client sends.
    PartitionRequests,
    /// As `Partition`, for what the server sends.
    PartitionAnswers,
    /// What is sent and what is under way waits for `Release`. It ends a partition, too.
    Hold,
    /// Ends the hold: what waits arrives at once. It ends a partition, too.
    Release,
    /// Lets through what is sent from now on. What was lost stays lost, and what is held is held.
    Repair,
    /// Drops the server's tasks.
    Crash,
    /// Starts the server anew, after a crash or without one.
    Restart,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, counted from the start of the simulation.
    pub at: Duration,
    /// What.
    pub what: String,
}

/// Takes down what happens. All clones write to the same log.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Event>>>);

/// A simulation that came to its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Run<T> {
    /// What the client returned.
    pub output: T,
    /// The faults and all that was noted, in order.
    pub events: Vec<Event>,
}

/// Why a simulation came to no end.
#[derive(Debug, Error)]
pub enum SimulationError {
    /// The client was still running, or a fault was still to come.
    #[error("not done after {limit:?} of simulated time")]
    Unfinished {
        /// [`Network::limit`].
        limit: Duration,
        /// What happened until then.
        events: Vec<Event>,
    },
    /// The server returned an error, or one of the two panicked.
    #[error("{message}")]
    Failed {
        /// The error, or the panic's message.
        message: String,
        /// What happened until then.
        events: Vec<Event>,
    },
}

/// Runs `server` and `client` in `network`, until the client is done and every fault has come.
///
/// Each is called on a host of its own, with a paused clock that the simulation moves, and uses
/// `turmoil::net` in the place of `tokio::net`. The server is called again at each restart: what its
/// closure owns survives a crash, as a disk does. Turmoil's own `tracing` events, with the target
/// `turmoil`, tell of every message.
///
/// # Errors
///
/// [`SimulationError`], with what happened until then.
///
/// # Panics
///
/// If called within a Tokio runtime, or if 64 connections wait to be accepted and another comes.
pub fn simulate<T: 'static>(
    network: &Network,
    server: impl AsyncFn(Log) -> turmoil::Result + 'static,
    client: impl AsyncFnOnce(Log) -> T + 'static,
) -> Result<Run<T>, SimulationError> {
    let log = Log::default();
    let mut simulation = Builder::new()
        .rng_seed(network.seed)
        .tick_duration(TICK)
        .min_message_latency(network.latency)
        .max_message_latency(network.latency.saturating_add(network.jitter))
        .simulation_duration(Duration::MAX) // the limit is checked below
        .build();
    let (server, to_server) = (Rc::new(server), log.clone());
    simulation.host(SERVER, move || {
        let (server, log) = (Rc::clone(&server), to_server.clone());
        async move { server(log).await }
    });
    let output = Rc::new(RefCell::new(None));
    let (returned, to_client) = (Rc::clone(&output), log.clone());
    simulation.client(CLIENT, async move {
        let value = client(to_client).await;
        returned.replace(Some(value));
        Ok(())
    });

    let mut faults = network.faults.clone();
    faults.sort_by_key(|(at, _)| *at); // stable: at one instant, in the order given
    let mut faults = faults.into_iter().peekable();
    let mut done = false;
    while !done || faults.peek().is_some() {
        let now = simulation.elapsed();
        if now >= network.limit {
            let (limit, events) = (network.limit, log.take());
            return Err(SimulationError::Unfinished { limit, events });
        }
        while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= now) {
            fault.strike(&mut simulation);
            log.write(now, format!("{fault:?}"));
        }
        done = simulation.step().map_err(|error| {
            let (message, events) = (error.to_string(), log.take());
            SimulationError::Failed { message, events }
        })?;
    }
    let (output, events) = (output.take(), log.take());
    match output {
        Some(output) => Ok(Run { output, events }),
        // A client that is done has returned, unless somebody aborts its task from within.
        None => Err(SimulationError::Failed {
            message: "the client was cancelled".to_owned(),
            events,
        }),
    }
}

impl Fault {
    fn strike(self, simulation: &mut Sim<'_>) {
        match self {
            Self::Partition => simulation.partition(CLIENT, SERVER),
            Self::PartitionRequests => simulation.partition_oneway(CLIENT, SERVER),
            Self::PartitionAnswers => simulation.partition_oneway(SERVER, CLIENT),
            Self::Hold => simulation.hold(CLIENT, SERVER),
            Self::Release => simulation.release(CLIENT, SERVER),
            Self::Repair => simulation.repair(CLIENT, SERVER),
            Self::Crash => simulation.crash(SERVER),
            Self::Restart => simulation.bounce(SERVER),
        }
    }
}

impl Log {
    /// Notes that this happens now, on the clock of the simulation.
    pub fn note(&self, what: impl Into<String>) {
        let now = turmoil::sim_elapsed().unwrap_or_default();
        self.write(now, what.into());
    }

    fn write(&self, at: Duration, what: String) {
        self.events().push(Event { at, what });
    }

    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events())
    }

    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

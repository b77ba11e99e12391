//! # Shutdown: stop without losing work
//!
//! A program that ends well does four things: it hears that it should end, it takes nothing new, it
//! finishes what it took, and it says what it could not finish. All four have a limit, since whoever
//! sent the signal will send SIGKILL next.
//!
//! | Recipe | The job | What it costs |
//! | --- | --- | --- |
//! | [`graceful_shutdown`] | stop accepting, finish what was accepted, abort the rest, report each | a short lock and a map entry per unit |
//! | [`signals`] | stop on Ctrl-C and SIGTERM, at once on the second | one thread with a runtime of its own |
//! | [`ordered_stop`] | listeners, then workers, then storage, in one deadline | a task per stage |
//! | [`abort_tasks`] | stop a task from outside, and know whether it finished, was stopped or panicked | nothing beyond the abort |
//! | [`async_close`] | close what must be flushed, and hear of what was not closed | a counter per writer |
//! | [`close_by_drop`] | wait for the last holder, and clean up after a drop | a small channel; a parked task per cleanup |
//!
//! A panic is caught where it unwinds. With `panic = "abort"` in the profile none is: the process
//! ends.
//!
//! ## Go on with
//! - [Graceful Shutdown](https://tokio.rs/tokio/topics/shutdown): its three parts in Tokio: learn
//!   that it is time, tell all tasks, wait for them.
//! - [`tokio::signal`](https://docs.rs/tokio/latest/tokio/signal/index.html): signals as futures,
//!   on Unix and on Windows.
//! - [`tokio_util::sync`](https://docs.rs/tokio-util/latest/tokio_util/sync/index.html):
//!   `CancellationToken`, its children and its guards.
//! - [Termination of Pods](https://kubernetes.io/docs/concepts/workloads/pods/pod-termination/):
//!   what Kubernetes does between SIGTERM and SIGKILL, and how long it waits.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod graceful_shutdown;
pub mod signals;
pub mod ordered_stop;
pub mod abort_tasks;
pub mod async_close;
pub mod close_by_drop;

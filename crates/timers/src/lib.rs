//! # Timers: limit, repeat and put off
//!
//! Tokio's timers count milliseconds and round up. They follow the monotonic clock, so nobody sets
//! them by setting the clock, and a test may pause and move them. A timer is only a future: it stops
//! nothing by itself, and code that never awaits is not stopped at all.
//!
//! | Recipe | The job | What it costs |
//! | --- | --- | --- |
//! | [`deadline`] | a time limit that is passed down, and an error that tells whose limit struck | 112 bytes around the work, no allocation |
//! | [`periodic`] | run a job at fixed instants, hear of each result, stop | one timer; no task |
//! | [`missed_ticks`] | tick through stalls, and know what was missed | one timer |
//! | [`schedule_at`] | an alarm that is moved, an idle timeout, a time of day | a store for each event; the timer moves once per limit |
//! | [`debounce`] | act once after a burst, never too late, and lose nothing | a timer per event |
//!
//! A waiting `Sleep` takes 112 bytes, a boxed one with its pointer 120, be it one of 1,000 or of
//! 100,000; a spawned task that only sleeps takes 264: `cargo bench -p timers --bench memory`.
//!
//! A panic is caught where it unwinds. With `panic = "abort"` in the profile none is: the process
//! ends.
//!
//! ## Go on with
//! - [`tokio::time`](https://docs.rs/tokio/latest/tokio/time/index.html): `Sleep`, `Interval` and
//!   `Timeout`, and the clock that a test can pause.
//! - [`tokio_util::time`](https://docs.rs/tokio-util/latest/tokio_util/time/index.html):
//!   `DelayQueue`, for many alarms in one place.
//! - [Deadlines](https://grpc.io/docs/guides/deadlines/): a deadline beside a timeout, and how a
//!   server passes on what is left of it.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod deadline;
pub mod periodic;
pub mod missed_ticks;
pub mod schedule_at;
pub mod debounce;

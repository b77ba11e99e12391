//! # Channels: pass messages between tasks
//!
//! Tokio has four channels. Choose by who must see a message; the recipes then add what each of them
//! leaves to you: ends that are noticed, overload that is felt, cancellation that loses nothing.
//!
//! | Channel | Who gets a message | When it is full | Cost of a message |
//! | --- | --- | --- | --- |
//! | `mpsc` | one receiver, in order | the sender waits | 70 ns |
//! | `oneshot` | one receiver, once | never: it holds one | 40 ns, with its channel |
//! | `broadcast` | every subscriber, in order | the slowest lose the oldest | 50 ns, and 25 ns for each further subscriber |
//! | `watch` | every subscriber, only the latest | it is replaced | 180 ns, and 25 ns for each further subscriber |
//!
//! The costs are `cargo bench -p channels --bench costs`: one number sent and received in the same
//! task, without contention and without a wake-up, on a rented virtual machine of 2026. Their
//! proportions will hold elsewhere, the figures may not.
//!
//! | Recipe | The job | What it costs |
//! | --- | --- | --- |
//! | [`work_queue`] | jobs from many producers, a fixed number of workers, every outcome told | 0.1 to 0.2 µs a job more than a bare loop that tells of no panic and cannot be closed; of jobs that compute, such a loop often does one at a time |
//! | [`request_reply`] | one task owns the state, others ask it, each with a deadline | two channel messages a call |
//! | [`event_bus`] | every subscriber follows every change, or hears what it missed | a lock around each publish, a clone for each subscriber |
//! | [`config_watch`] | a file's latest good content, while the program runs | a read of the file per interval |
//! | [`forward`] | items from one channel to another, none lost when cancelled | one place of the target while it waits |
//!
//! A panic is caught where it unwinds. With `panic = "abort"` in the profile none is: the process
//! ends.
//!
//! Unbounded channels are not among them: nothing holds a fast producer back, and the first sign of
//! trouble is the end of the memory.
//!
//! ## Go on with
//! - [`tokio::sync`](https://docs.rs/tokio/latest/tokio/sync/index.html): the four channels, with
//!   an example of each use they were made for.
//! - [Channels](https://tokio.rs/tokio/tutorial/channels): one connection shared by many tasks
//!   through `mpsc` and `oneshot`, step by step.
//! - [Actors with Tokio](https://ryhl.io/blog/actors-with-tokio/): a task and its handle, their
//!   variations, and the cycles of channels that deadlock.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod work_queue;
pub mod request_reply;
pub mod event_bus;
pub mod config_watch;
pub mod forward;

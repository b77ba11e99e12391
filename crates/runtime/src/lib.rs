//! # Runtime: choose, build and leave it
//!
//! A runtime is threads that poll tasks, with timers and input and output. Which kind a program
//! needs follows from its tasks; most faults lie at its edges: code that blocks or computes on its
//! threads, calls from code that is not async, and the end.
//!
//! | Recipe | When | What it costs |
//! | --- | --- | --- |
//! | [`multi_thread`] | a server, or anything that uses more than one core | tasks and what they share are `Send`; some 100 µs to start and leave with two workers |
//! | [`current_thread`] | a command-line tool, or state behind an `Rc` | one task that blocks stops all; a few µs to start and leave |
//! | [`sync_bridge`] | sync code calls async code, or async code calls sync code that waits | a call blocks its thread; some 20 µs to another thread and back |
//! | [`cpu_offload`] | a computation between awaits takes more than about 100 µs | some 20 µs to another thread and back; a job must ask its flag to be stopped |
//!
//! The times are `cargo bench -p runtime`, on a rented virtual machine with two cores: read them as
//! orders of magnitude.
//!
//! ## Go on with
//! - [`tokio::runtime`](https://docs.rs/tokio/latest/tokio/runtime/index.html): both schedulers,
//!   how each chooses the next task today, and what of it is promised.
//! - [Bridging with sync code](https://tokio.rs/tokio/topics/bridging): three ways into async code
//!   from a program that is not async, on the example of a Redis client.
//! - [Async: What is blocking?](https://ryhl.io/blog/async-what-is-blocking/): how long is too long
//!   between two awaits, and which threads are for what takes longer.
//! - [Making the Tokio scheduler 10x faster](https://tokio.rs/blog/2019-10-scheduler): how the
//!   scheduler with several threads is built, and why so.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod multi_thread;
pub mod current_thread;
pub mod sync_bridge;
pub mod cpu_offload;

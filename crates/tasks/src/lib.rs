//! # Tasks: start them, own them, hear how they end
//!
//! A task runs until it ends, whoever started it. So three questions come with each: how many may be
//! alive at once, who hears of its result or its panic, and who stops it. A bare `tokio::spawn`
//! answers none of them. In these recipes each task counts towards a limit or has a name, its panic
//! is in a return type, and dropping its owner stops it.
//!
//! | Recipe | When | What it costs |
//! | --- | --- | --- |
//! | [`spawn_batch`] | all inputs are known; results in their order | at most 5 % more than a bare `JoinSet`; nothing is read before the last is done |
//! | [`join_set`] | results as they come, each with its key | about 50 bytes more for each task; its owner has to read, or it takes no more |
//! | [`hash_file`] | a long blocking job, here the digest of a file | a thread for as long as it runs |
//! | [`local_tasks`] | state that is not `Send`, used from everywhere | a thread for as long as the state lives, and a way there and back for each call |
//! | [`supervisor`] | tasks that run as long as the program | a failure is repeated before it is final |
//!
//! A task that waits costs 200 to 300 bytes beside what its future holds, and starting one takes
//! less than a microsecond: `cargo bench -p tasks` measures both.
//!
//! What stops what, each shown by a test of the recipe that is named:
//!
//! | | an async task | code that never awaits | a blocking task |
//! | --- | --- | --- | --- |
//! | dropping its `JoinHandle` | runs on: [`supervisor`] | runs on | runs on: [`hash_file`] |
//! | `abort`, or dropping its `JoinSet` | stops at its next await: [`join_set`] | runs to its end: [`spawn_batch`], [`supervisor`] | runs to its end if it has begun: [`join_set`] |
//! | a flag or a token it looks at | stops where it looks: [`supervisor`] | the same | the same: [`hash_file`] |
//!
//! A panic is caught where it unwinds. With `panic = "abort"` in the profile none is: the process
//! ends.
//!
//! A task may outlive the function that starts it, so it cannot borrow from it:
//!
//! ```compile_fail,E0373
//! # async fn f() {
//! let name = String::from("index");
//! let task = tokio::spawn(async { name.len() });
//! # }
//! ```
//!
//! It may move to another thread at each await, so it cannot hold an `Rc`; [`local_tasks`] can:
//!
//! ```compile_fail
//! # use std::{cell::Cell, rc::Rc};
//! # async fn f() {
//! let hits = Rc::new(Cell::new(0));
//! let task = tokio::spawn(async move { hits.set(1) });
//! # }
//! ```
//!
//! ## Go on with
//! - [`tokio::task`](https://docs.rs/tokio/latest/tokio/task/index.html): what a task is, how it
//!   ends, and how it makes room for others.
//! - [`tokio_util::task`](https://docs.rs/tokio-util/latest/tokio_util/task/index.html): what owns
//!   tasks beside a `JoinSet`: a tracker, a map by key, a handle that aborts.
//! - [Spawning](https://tokio.rs/tokio/tutorial/spawning): why the compiler asks for `'static` and
//!   `Send`, from a first server on.
//! - [Reducing tail latencies with automatic cooperative task yielding](https://tokio.rs/blog/2020-04-preemption):
//!   why a task that is always ready must yield, and how tokio makes it.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod spawn_batch;
pub mod join_set;
pub mod hash_file;
pub mod local_tasks;
pub mod supervisor;

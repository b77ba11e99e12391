//! # Tasks: start them, own them, hear how they end
//!
//! A task that nobody owns goes on when nobody wants it, and panics where nobody hears it. Each
//! recipe here says who owns its tasks, how many there may be, and what becomes of a panic.
//!
//! | Recipe | The job | What it costs |
//! | --- | --- | --- |
//! | [`spawn_batch`] | the same work for a list of inputs, results in their order | under 5 % more than a bare `JoinSet` that loses every result to one panic |
//! | [`join_set`] | results as they finish, each with its key; more tasks may come | a hash map entry for each task |
//! | [`hash_file`] | a long blocking job, here SHA-256 of a file, that stops with its caller | a thread of the blocking pool while it runs |
//! | [`local_tasks`] | many tasks that share state which is not `Send` | a thread, and two messages for each job |
//! | [`supervisor`] | tasks with names, restarted with a limit, stopped together | one task each, and nothing while they run |
//!
//! A task that waits takes about 310 bytes, the entry in its `JoinSet` included, and what its future
//! keeps across the await: with an array of 1 KiB in it, 1.3 KiB (`cargo bench -p tasks --bench
//! waiting_tasks`).
//!
//! Panics are caught everywhere here. With `panic = "abort"` in the profile none is: the process
//! ends.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod spawn_batch;
pub mod join_set;
pub mod hash_file;
pub mod local_tasks;
pub mod supervisor;

//! # Structured: trees of tasks that end together
//!
//! A task that is started belongs to somebody: it ends before its owner does, its failure ends up with
//! its owner, and it works no faster than its results are taken. Where that holds for each task, the
//! program is a tree, and stopping, failing and slowing down are questions with one answer each.
//!
//! | Recipe | The job | What it costs |
//! | --- | --- | --- |
//! | [`batch`] | work that may fail for each input of a list; the first failure, a deadline or a token stops it all, and every input is accounted for | a task for each input, at most 5 % more than a bare `JoinSet` that knows whose end it was; a place in the report for each, which `batch_keyed` does without |
//! | [`fan_out`] | a stream through so many tasks, and a stream of results, as they come or in the order of the inputs | its tasks, started once and no more: half of the time of a task for each input on one thread, nine tenths on two |
//! | [`pipeline`] | the same steps for each item, all at work at once, none ahead of the next | a task for each worker, a channel between stages: no more than the same by hand, but for stages with several workers on one thread |
//! | [`scope`] | tasks that serve one call and are gone when it is over, however it ended | a name and a handle for each child until the end |
//! | [`load_shedding`] | more items than can be done: wait, refuse, drop the oldest or the newest, and count | a short lock for each item at either end |
//!
//! [`batch`] and [`fan_out`] hold as many inputs as they have a limit for, and no more memory for more
//! of them, but for the report of [`batch`]. Neither stops code that never awaits, and neither owns
//! what the work spawns by itself. `cargo bench -p structured` measures them.
//!
//! What the way through a pipeline costs: a source, three stages that do next to nothing, a consumer,
//! 64 places between each two. In the shared rows four workers share the second stage's input.
//! `cargo bench -p structured --bench pipeline` prints this table, here on a rented virtual machine of
//! 2026. The proportions will hold elsewhere, the figures may not.
//!
//! | Items per second, in thousands | 1 thread | 2 threads |
//! | --- | ---: | ---: |
//! | bare channels | 1755 | 1137 |
//! | `pipeline` | 1822 | 1121 |
//! | bare channels, shared | 841 | 313 |
//! | `pipeline`, shared | 738 | 407 |
//!
//! - Being told of a failure costs less than the table can show: its rows differ by a few per cent from
//!   run to run, either way.
//! - Workers that share an input give way before they work, so that those on other threads work at
//!   the same time: 0.2 µs an item on one thread, and a gain on two.
//! - For steps this short a second thread is no gain: each item wakes somebody. A stage is for work
//!   that waits, or takes much longer than a microsecond.
//! - The whole takes 11 KB, after 100,000 items as after a million.
//!
//! A panic is caught where it unwinds. With `panic = "abort"` in the profile none is: the process
//! ends.
//!
//! ## Go on with
//! - [`tokio::task::JoinSet`](https://docs.rs/tokio/latest/tokio/task/struct.JoinSet.html): the
//!   owner of tasks that most of these recipes build upon.
//! - [Structured Concurrency](https://rust-lang.github.io/async-book/part-reference/structured.html):
//!   the Async Book's chapter: the principles, and how far async Rust follows them.
//! - [Notes on structured concurrency, or: Go statement considered harmful](https://vorpus.org/blog/notes-on-structured-concurrency-or-go-statement-considered-harmful/):
//!   the essay that made the case: a spawn without an owner is what `goto` was.
//! - [Handling Overload](https://sre.google/sre-book/handling-overload/): how a server refuses
//!   work, whose work first, and when its clients may try again.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod batch;
pub mod fan_out;
pub mod pipeline;
pub mod scope;
pub mod load_shedding;

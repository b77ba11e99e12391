//! # Structured: trees of tasks that end together
//!
//! | Recipe | The job | What it costs |
//! | --- | --- | --- |
//! | [`batch`] | work that may fail for each input of a list; the first failure, a deadline or a token stops it all, and every input is accounted for | a task for each input, at most 5 % more than a bare `JoinSet` that knows whose end it was; a place in the report for each, which `batch_keyed` does without |
//! | [`fan_out`] | a stream through so many tasks, and a stream of results, as they come or in the order of the inputs | its tasks, started once and no more: half to two thirds of the time of a task for each input |
//!
//! Both hold as many inputs as they have a limit for, and no more memory for more of them, but for the
//! report of [`batch`]. `cargo bench -p structured` measures both.
//!
//! Neither stops code that never awaits, and neither owns what the work spawns by itself.
//!
//! A panic is caught where it unwinds. With `panic = "abort"` in the profile none is: the process
//! ends.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod batch;
pub mod fan_out;

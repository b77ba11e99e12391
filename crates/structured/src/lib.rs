//! # Structured: trees of tasks that end together
//!
//! | Recipe | The job | What it costs |
//! | --- | --- | --- |
//! | [`batch`] | work that may fail for each input of a list; the first failure, a deadline or a token stops it all, and every input is accounted for | a task and a map entry for each input that runs; the report has a place for each input, `batch_keyed` has none |
//! | [`fan_out`] | a stream through so many tasks, and a stream of results, as they come or in the order of the inputs | its tasks, started once: nothing is allocated for an input |
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod batch;
pub mod fan_out;

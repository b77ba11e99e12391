//! # Structured: trees of tasks that end together
//!
//! A task that is started belongs to somebody: it ends before its owner does, its failure ends up with
//! its owner, and it works no faster than its results are taken. Where that holds for each task, the
//! program is a tree, and stopping, failing and slowing down are questions with one answer each.
//!
//! | Recipe | The job | What it costs |
//! | --- | --- | --- |
//! | [`pipeline`] | the same steps for each item, all at work at once, none ahead of the next | a task for each worker, a channel between stages |
//! | [`scope`] | tasks that serve one call and are gone when it is over, however it ended | a map of names until the end: an entry for each child |
//! | [`load_shedding`] | more items than can be done: wait, refuse, drop the oldest or the newest, and count | a short lock for each item at either end |
//!
//! A panic is caught where it unwinds. With `panic = "abort"` in the profile none is: the process
//! ends.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod pipeline;
pub mod scope;
pub mod load_shedding;

//! # Structured: trees of tasks that end together
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod batch;
pub mod fan_out;

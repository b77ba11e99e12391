//! # Observability
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod spans;
pub mod runtime_metrics;
pub mod console;

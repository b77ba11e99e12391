//! # Sync: share state between tasks
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod limit_concurrency;
pub mod notify;
pub mod single_flight;

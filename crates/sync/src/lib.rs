//! # Sync: share state between tasks
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod short_lock;
pub mod async_lock;
pub mod read_mostly;
pub mod notify;
pub mod single_flight;
pub mod limit_concurrency;

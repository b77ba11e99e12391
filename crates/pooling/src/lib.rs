//! # Pooling: share few connections among many tasks
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod deadpool_pool;
pub mod bb8_pool;

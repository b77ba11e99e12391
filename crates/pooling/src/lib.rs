//! # Pooling: share few connections among many tasks
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod transactions;
pub mod recycling;
pub mod unmanaged;

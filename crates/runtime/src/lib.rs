//! # Runtime
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod multi_thread;

pub mod current_thread;

pub mod sync_bridge;

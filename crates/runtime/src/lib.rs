//! # Runtime
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod sync_bridge;

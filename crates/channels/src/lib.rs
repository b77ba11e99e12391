//! # Channels: pass messages between tasks
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod work_queue;

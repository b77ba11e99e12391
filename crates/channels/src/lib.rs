//! # Channels: pass messages between tasks
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod forward;
pub mod request_reply;
pub mod work_queue;

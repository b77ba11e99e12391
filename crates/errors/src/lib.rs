//! # Errors: say what failed, and what to do
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod context;
pub mod typed_errors;
pub mod task_errors;
pub mod channel_errors;
pub mod retryable;

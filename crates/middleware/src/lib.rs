//! # Middleware: what stands before a service
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod timeout_layer;
pub mod concurrency_limit_layer;
pub mod rate_limit_layer;
pub mod retry_layer;
pub mod buffer_layer;
pub mod load_shed_layer;

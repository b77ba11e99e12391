//! # Retry: try again without making it worse
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod backoff;
pub mod retry_budget;
pub mod circuit_breaker;

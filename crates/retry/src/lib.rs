//! # Retry: try again without making it worse
#![warn(clippy::print_stdout, clippy::print_stderr)]

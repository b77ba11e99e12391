//! # runtime
#![warn(clippy::print_stdout, clippy::print_stderr)]

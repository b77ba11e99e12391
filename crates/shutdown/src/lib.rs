//! # Shutdown: stop without losing work
#![warn(clippy::print_stdout, clippy::print_stderr)]


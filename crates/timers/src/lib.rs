//! # Timers: limit, repeat, schedule
#![warn(clippy::print_stdout, clippy::print_stderr)]


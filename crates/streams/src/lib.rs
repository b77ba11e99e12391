//! # Streams: many values over time
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod from_channel;
pub mod from_iter_and_interval;

//! # Streams: many values over time
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod concurrent_map;

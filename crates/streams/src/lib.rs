//! # Streams: many values over time
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod concurrent_map;
pub mod micro_batch;
pub mod paginate;

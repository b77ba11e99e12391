//! # Tasks: start them, own them, hear how they end
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod spawn_batch;

pub mod join_set;

pub mod hash_file;

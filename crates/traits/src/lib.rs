//! # Traits: async behind an interface
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod store;

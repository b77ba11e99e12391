//! # Io: sockets, frames and files
#![warn(clippy::print_stdout, clippy::print_stderr)]


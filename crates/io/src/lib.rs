//! # Io: sockets, frames and files
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod tcp_server;
pub mod tcp_client;
pub mod udp_server;
#[cfg(unix)]
pub mod unix_socket;
pub mod framed_lines;
pub mod framed_length;
pub mod split_stream;
pub mod relay;
pub mod durable_write;

//! # Middleware: what stands before a service
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod service;

//! # Select: wait for several things at once
#![warn(clippy::print_stdout, clippy::print_stderr)]


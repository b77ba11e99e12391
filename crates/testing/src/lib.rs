//! # Testing: prove that async code is right
//!
//! | Recipe | Finds | Cannot find |
//! | --- | --- | --- |
//! | [`every_await_point`] | what is lost, doubled or left open when a future is dropped half way | bugs that need two threads at the same instant |
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod mock_io;
pub mod poll_by_hand;
pub mod every_await_point;

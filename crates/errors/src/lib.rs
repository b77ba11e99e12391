//! # Errors: say what failed, and what to do
//!
//! An error is read by a program or by a person. A program needs a variant for each way to act, and
//! what it can act with: the item that was not sent, the time to wait. A person needs to know where
//! to look: the file, the line, the field. Async code adds three ways to fail: a task that panicked,
//! one that was cancelled, and a call of which nobody knows whether it was carried out.
//!
//! | Recipe | The job | What it costs |
//! | --- | --- | --- |
//! | [`context`] | for people: each failure with its path, line and field | a boxed error, formatted only when one occurs |
//! | [`typed_errors`] | for programs: a variant for each way to act, from a real database | an enum to keep |
//! | [`task_errors`] | error, panic and cancellation of a task in one enum | nothing |
//! | [`channel_errors`] | full or closed, with the unsent item back | nothing |
//! | [`retryable`] | an error that knows whether to try again | a method per error type |
//!
//! A panic is caught where it unwinds. With `panic = "abort"` in the profile none is: the process
//! ends.
//!
//! ## Go on with
//! - [`thiserror`](https://docs.rs/thiserror/latest/thiserror/index.html): every attribute of the
//!   derive, for errors that programs read.
//! - [`anyhow`](https://docs.rs/anyhow/latest/anyhow/index.html): context, chains and downcasts,
//!   for errors that people read.
//! - [`tokio::task::JoinError`](https://docs.rs/tokio/latest/tokio/task/struct.JoinError.html): how
//!   to tell a panic from a cancellation, and to pass the panic on.
//! - [`std::error`](https://doc.rust-lang.org/std/error/index.html): what `Result` is for and what
//!   a panic is for, and how to word the message of an `expect`.
//! - [Modular Errors in Rust](https://sabrinajewson.org/blog/errors): a case against one error type
//!   for a whole library, and what to write instead.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod context;
pub mod typed_errors;
pub mod task_errors;
pub mod channel_errors;
pub mod retryable;

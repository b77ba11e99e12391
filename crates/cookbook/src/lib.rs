//! # The Async Rust Cookbook
//!
//! Recipes for async Rust with Tokio: each a documented, generic file to copy, with a runnable example,
//! its recorded output, and tests of what it promises. A section's page says which of its recipes is
//! for which job, and what each costs.
//!
//! | Section | What it is about |
//! | --- | --- |
//! | [`runtime`](../runtime/index.html) | choose, build and leave it |
//! | [`tasks`](../tasks/index.html) | start them, own them, hear how they end |
//! | [`channels`](../channels/index.html) | pass messages between tasks |
//! | [`select`](../select/index.html) | wait for several things at once |
//! | [`timers`](../timers/index.html) | limit, repeat and put off |
//! | [`io`](../io/index.html) | sockets, frames and files |
//! | [`shutdown`](../shutdown/index.html) | stop without losing work |
//! | [`sync`](../sync/index.html) | share state between tasks |
//! | [`traits`](../traits/index.html) | async behind an interface |
//! | [`streams`](../streams/index.html) | many values over time |
//! | [`errors`](../errors/index.html) | say what failed, and what to do |
//! | [`structured`](../structured/index.html) | trees of tasks that end together |
//! | [`middleware`](../middleware/index.html) | what stands before a service |
//! | [`retry`](../retry/index.html) | try again without making it worse |
//! | [`pooling`](../pooling/index.html) | few connections, many tasks |
//! | [`testing`](../testing/index.html) | prove that it is right |
//! | [`antipatterns`](../antipatterns/index.html) | what harms, and how much |
//! | [`observability`](../observability/index.html) | look inside a program that runs |
//!
//! # The command `cargo cookbook`
//!
//! Everything that it does is here, for the command line and for the tests of the workspace.
//!
//! | Module | Does |
//! | --- | --- |
//! | [`catalog`] | reads the file system as a catalogue of sections and recipes |
//! | [`search`] | finds recipes by job, API name or error message |
//! | [`page`] | shows a recipe |
//! | [`run`] | builds and runs examples under a deadline, compares and records what they print |
//! | [`copy`] | copies a recipe into a project, all of it or nothing |
//!
//! # The interface of `list --json`
//!
//! An array with an object for each recipe, in reading order. These fields stay; others may be
//! added. Paths are relative to the workspace, with `/`.
//!
//! ```json
//! [{
//!   "name": "work_queue",
//!   "section": "channels",
//!   "title": "Work queue: bounded mpsc",
//!   "summary": "The first paragraph of the recipe, on one line.",
//!   "source": "crates/channels/src/work_queue.rs",
//!   "example": "crates/channels/examples/work_queue.rs",
//!   "output": "crates/channels/examples/work_queue.out",
//!   "test_file": "crates/channels/tests/work_queue.rs",
//!   "cargo_add": ["cargo add tokio --features sync"],
//!   "tests": ["a_full_queue_makes_the_sender_wait"]
//! }]
//! ```
//!
//! # Exit codes
//!
//! 0 all is well; 1 something failed, differs or was not found; 2 the command was called wrongly or
//! with a name that does not exist; 130 interrupted.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod catalog;
pub mod copy;
mod error;
mod files;
pub mod page;
mod process;
pub mod run;
mod rust;
pub mod search;

pub use catalog::Catalog;
pub use error::{Error, Result};
pub use process::Interrupt;

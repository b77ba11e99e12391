//! # Traits: async behind an interface
//!
//! A trait with `async fn` compiles, and then its users find what it does not say: whether its
//! futures are `Send`, so that they can be spawned, and how it goes behind `dyn`. Say the first in the
//! trait, and box for the second.
//!
//! | Recipe | The job | What it costs |
//! | --- | --- | --- |
//! | [`store`] | a trait whose futures are `Send`; in memory, and in a real Redis | nothing beside the call |
//! | [`dyn_store`] | the same behind `dyn`, chosen at run time or in a list | an allocation for each call |
//! | [`handlers`] | async functions and closures passed in, or in a table | nothing awaited in place; an allocation for each call from a table |
//! | [`delay`] | a future by hand, woken from a thread, and one around another | an `Arc` and a lock |
//! | [`pinning`] | the size of futures, found and limited; one kept by a type that is polled | nothing; an allocation for all futures of one size |
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod store;
pub mod dyn_store;
pub mod handlers;
pub mod delay;
pub mod pinning;

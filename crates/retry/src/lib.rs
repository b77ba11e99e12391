//! # Retry: try again without making it worse
//!
//! A retry helps one caller and loads the other side once more, just when it can least bear it. So
//! each of these has a limit: on the tries of one call, on the retries of all calls together, or on
//! calls at all. Retry in one place of a system; the error says whether it makes sense (`retryable`
//! in the section `errors`).
//!
//! | Recipe | The job | What it costs a call that succeeds |
//! | --- | --- | ---: |
//! | [`backoff`] | random waits that grow, by hand; tries and time are limited | 95 ns |
//! | [`backon_retry`] | the same with the crate backon, its gaps closed | 160 ns |
//! | [`retry_http`] | an HTTP request: statuses, `Retry-After`, broken answers, what may be sent twice | a copy of the request |
//! | [`retry_budget`] | retries of all callers as a share of their requests | 25 ns |
//! | [`circuit_breaker`] | no calls at all while most fail, and single probes after that | 200 ns |
//!
//! The costs are `cargo bench -p retry --bench no_failure`, on a rented virtual machine of 2026. A
//! timeout alone, which the first two and the last contain, costs 80 ns of it.
//!
//! A server that answers one request in two is helped by `backoff`; one that answers none is only
//! hurt, and there the budget and the breaker come in. They go together: the breaker around the
//! call, the retries around the breaker, and a call that it refuses is not tried again.
//!
//! ## Go on with
//! - [`backon`](https://docs.rs/backon/latest/backon/index.html): its backoffs, its sleepers and
//!   its conditions, with examples.
//! - [`tower::retry::budget`](https://docs.rs/tower/latest/tower/retry/budget/index.html): why a
//!   budget, and not a number of tries.
//! - [Exponential Backoff And Jitter](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/):
//!   ways to draw the random wait, compared in a simulation.
//! - [Fixing retries with token buckets and circuit breakers](https://brooker.co.za/blog/2022/02/28/retries.html):
//!   budget and breaker against each other: what clients get, what servers bear.
//! - [Addressing Cascading Failures](https://sre.google/sre-book/addressing-cascading-failures/):
//!   how one overloaded server takes down the rest, and the part that retries have in it.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod backoff;
pub mod backon_retry;
pub mod retry_http;
pub mod retry_budget;
pub mod circuit_breaker;

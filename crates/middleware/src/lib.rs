//! # Middleware: what stands before a service
//!
//! A tower service is asked whether it is ready, and then called. That is two steps, and most of what
//! goes wrong with its layers goes wrong between them: a limit that does not see the first, a place
//! that was taken in it and is never used, a queue that says yes for somebody who would say no.
//!
//! | Recipe | The job | What it does not do |
//! | --- | --- | --- |
//! | [`service`] | a service written by hand, whose readiness is reserved and taken along | limit how long a ready service is kept |
//! | [`layer`] | a layer written by hand: each request's own deadline, an error of its own | end a wait in `poll_ready`; stop what the work spawned |
//! | [`timeout_layer`] | an answer or an error by a given time, the wait for a place included | stop what the work spawned; limit what is read from the response later |
//! | [`concurrency_limit_layer`] | so many requests at once, in all services together, and to see how many | limit who waits; get back the place of a service that is ready and kept |
//! | [`rate_limit_layer`] | so many requests per second, at equal distances, from all clones together | keep rates above 1,000 a second without bursts; count beyond its process |
//! | [`retry_layer`] | try again what may pass, at random times, as a share of the traffic | know what may be sent twice; end a try that is silent |
//! | [`buffer_layer`] | let many use a service that cannot be cloned, with an owner for its task | limit what runs; survive a panic of the service |
//! | [`load_shed_layer`] | refuse at once what the service is not ready for, and count it | see through a buffer, or a layer that is always ready |
//! | [`stack`] | all of tower's layers in the order in which each does what it says, and typed errors | free the queue of who gave up; count beyond its process |
//! | [`http_service`] | a server that answers overload with 503, delay with 504, a panic with 500, and stops | limit connections, or a body that is streamed |
//!
//! In all of them: call a clone that ends with its request, `service.clone().oneshot(request)`. A
//! service that is kept between requests keeps what it was given, or takes what it once waited for.
//!
//! ## What the layers cost
//!
//! `cargo bench -p middleware --bench stack` prints this table: a call of a service that adds one,
//! behind the layers of [`stack`], put on one at a time, from one caller and from 64, on a rented
//! virtual machine of 2026. The proportions will hold elsewhere, the figures may not.
//!
//! | Nanoseconds a call | one thread: 1 caller | 64 | two threads: 1 | 64 |
//! | --- | ---: | ---: | ---: | ---: |
//! | the bare service | 11 |  | 12 |  |
//! | + limit of a try | 62 |  | 68 |  |
//! | + rate limit | 98 |  | 98 |  |
//! | + concurrency limit | 159 |  | 172 |  |
//! | + buffer | 800 | 660 | 1050 | 751 |
//! | + retry | 919 | 782 | 1537 | 713 |
//! | + time limit | 1142 | 996 | 2371 | 1989 |
//! | + load shed | 1132 | 965 | 2829 | 1971 |
//! | `stack`: + errors told apart, a clone a call | 1364 | 1194 | 3275 | 2152 |
//!
//! The buffer is half of it: each request goes through another task. With two threads it is often on
//! the other one, which must be woken, and both take the lock of the timers; these columns differ
//! between runs by a third. What needs no buffer is cheaper: see [`timeout_layer`] and
//! [`concurrency_limit_layer`].
//!
//! ## Go on with
//! - [`tower`](https://docs.rs/tower/latest/tower/index.html): the traits, and each ready-made
//!   layer in its module.
//! - [Inventing the Service trait](https://tokio.rs/blog/2021-05-14-inventing-the-service-trait):
//!   the trait derived from a plain handler, one need after the other.
//! - [Building a middleware from scratch](https://github.com/tower-rs/tower/blob/master/guides/building-a-middleware-from-scratch.md):
//!   tower's own `Timeout`, written again with every step explained.
//! - [`axum::middleware`](https://docs.rs/axum/latest/axum/middleware/index.html): the order of
//!   layers around a router, their errors, and what becomes of readiness there.
//! - [`tower_http`](https://docs.rs/tower-http/latest/tower_http/index.html): ready-made layers
//!   that know HTTP.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod service;
pub mod layer;
pub mod timeout_layer;
pub mod concurrency_limit_layer;
pub mod rate_limit_layer;
pub mod retry_layer;
pub mod buffer_layer;
pub mod load_shed_layer;
pub mod stack;
pub mod http_service;

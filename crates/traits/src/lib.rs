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
//!
//! ## Static, Send, dyn: which
//!
//! - **Plain `async fn` in a trait**, where nothing generic spawns: within one program, on one thread,
//!   or awaited in place. Who names the type can spawn even so, for then the compiler sees the future.
//! - **`fn … -> impl Future + Send`**, for a trait that others use: [`store`]. Implementations still
//!   write `async fn`, and one whose future is not `Send` is an error there and not at a caller.
//! - **A boxed future behind `dyn`**, where the implementation is chosen at run time: [`dyn_store`].
//!   Keep the static trait beside it, so that only those pay who need it.
//!
//! ## What a call costs
//!
//! `cargo bench -p traits --bench costs` prints this table, for a call that stores a number, on a rented
//! virtual machine of 2026. The proportions will hold elsewhere, the figures may not. Counting the
//! allocations takes some of the time of those that allocate.
//!
//! | A call that is ready at once | Nanoseconds | Allocations | Their size |
//! | --- | ---: | ---: | ---: |
//! | `async fn` in a trait, static, as in [`store`] | 3 | 0 | 0 |
//! | an enum and a `match` | 9 | 0 | 0 |
//! | boxed by hand behind `dyn`, as in [`dyn_store`] | 38 | 1 | 48 B |
//! | the same, given to generic code and put behind `dyn` again | 69 | 2 | 112 B |
//! | `async_trait` behind `dyn` | 36 | 1 | 32 B |
//! | `async_trait`, static | 32 | 1 | 32 B |
//! | a closure, as `AsyncFn` | 3 | 0 | 0 |
//! | a closure from a table, as in [`handlers`] | 79 | 1 | 32 B |
//!
//! - The box is the cost, not `dyn`: `async_trait` allocates for callers that know the type, too.
//! - Beside a request over the network none of it counts; beside a look into a map, most of it does.
//!
//! ## What stable Rust cannot say yet
//!
//! As of Rust 1.95. Each line is a case in `tests/ui`, with what the compiler answers, and `cargo test -p
//! traits --test page` compares that; `dyn AsyncFn` is the fence below.
//!
//! | You mean | You write | It answers | Until then |
//! | --- | --- | --- | --- |
//! | this trait's futures are `Send` here | `S: Store<get(..): Send>` | E0658 | say it in the trait; if it is not yours, await in place |
//! | this closure's futures are `Send` | `F::CallRefFuture<'a>: Send` | E0658 | `Fn(A) -> F` with `F: Future + Send`, as [`handlers`] does |
//! | any implementation | `dyn Store` with an `async fn` | E0038 | a second trait that boxes: [`dyn_store`] |
//! | any async closure | `dyn AsyncFn()` | E0038 | `dyn Fn(A)` that returns a boxed future: [`handlers`] |
//! | the future of this function, as a field | `work: impl Future` | E0562 | a type parameter, or a box: [`pinning`] |
//! | an `async fn` that calls itself | `walk(child).await` | E0733 | `Box::pin(walk(child)).await` |
//! | a drop that awaits | `async fn drop(&mut self)` | E0053 | a `close` that is awaited: `async_close` |
//!
//! ```compile_fail,E0038
//! fn behind_dyn(_: &dyn AsyncFn() -> u8) {}
//! ```
//!
//! ## Go on with
//! - [Announcing `async fn` and return-position `impl Trait` in traits](https://blog.rust-lang.org/2023/12/21/async-fn-rpit-in-traits/):
//!   what became stable, what is missing, and when not to use it in public traits.
//! - [Async in depth](https://tokio.rs/tokio/tutorial/async): futures, wakers and a small executor,
//!   all by hand.
//! - [Pinning](https://rust-lang.github.io/async-book/part-reference/pinning.html): the Async
//!   Book's chapter, from a summary down to projections.
//! - [`std::pin`](https://doc.rust-lang.org/std/pin/index.html): the contract itself: what a pinned
//!   value is promised, and by whom.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod store;
pub mod dyn_store;
pub mod handlers;
pub mod delay;
pub mod pinning;

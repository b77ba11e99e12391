//! cargo bench -p traits --bench costs
//!
//! What one call costs by each way through an async interface: the table of the section page, as it
//! stands there. The call itself keeps a number and is ready at once, so that nothing but the way to it
//! is measured. The figures are divan's medians; with an option of its own, such as
//! `cargo bench -p traits --bench costs -- --sample-count 1000`, it prints them itself.

use std::convert::Infallible;
use std::error::Error;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use divan::{AllocProfiler, Bencher, black_box};
use futures_util::FutureExt;
use traits::dyn_store::{DynStore, Store};
use traits::handlers::Handlers;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const KEY: &str = "key";
const VALUE: &[u8] = b"value";

/// Keeps how long the last value was.
#[derive(Default)]
struct Length(AtomicUsize);

impl Length {
    fn keep(&self, value: &[u8]) {
        self.0.store(value.len(), Ordering::Relaxed);
    }
}

impl Store for Length {
    type Error = Infallible;

    async fn get(&self, _: &str) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(None)
    }

    async fn set(&self, _: &str, value: &[u8]) -> Result<(), Infallible> {
        self.keep(value);
        Ok(())
    }
}

/// One of two that are known beforehand.
enum Either {
    One(Length),
    Other(Length),
}

impl Either {
    async fn set(&self, key: &str, value: &[u8]) -> Result<(), Infallible> {
        match self {
            Self::One(store) => store.set(key, value).await,
            Self::Other(store) => store.set(key, value).await,
        }
    }
}

#[async_trait]
trait Boxed: Send + Sync {
    async fn set_in_box(&self, key: &str, value: &[u8]) -> Result<(), Infallible>;
}

#[async_trait]
impl Boxed for Length {
    async fn set_in_box(&self, _: &str, value: &[u8]) -> Result<(), Infallible> {
        self.keep(value);
        Ok(())
    }
}

fn measure<F: Future>(bencher: Bencher<'_, '_>, call: impl Fn() -> F) {
    bencher.bench_local(|| black_box(call().now_or_never()).is_some());
}

#[divan::bench(name = "`async fn` in a trait, static, as in [`store`]")]
fn native(bencher: Bencher<'_, '_>) {
    let store = Length::default();
    measure(bencher, || {
        Store::set(black_box(&store), KEY, black_box(VALUE))
    });
}

#[divan::bench(name = "an enum and a `match`")]
fn either(bencher: Bencher<'_, '_>) {
    let new = if black_box(true) {
        Either::One
    } else {
        Either::Other
    };
    let store = new(Length::default());
    measure(bencher, || black_box(&store).set(KEY, black_box(VALUE)));
}

#[divan::bench(name = "boxed by hand behind `dyn`, as in [`dyn_store`]")]
fn boxed(bencher: Bencher<'_, '_>) {
    let store: &dyn DynStore<Infallible> = &Length::default();
    measure(bencher, || {
        black_box(store).set_boxed(KEY, black_box(VALUE))
    });
}

#[divan::bench(name = "the same, given to generic code and put behind `dyn` again")]
fn boxed_twice(bencher: Bencher<'_, '_>) {
    let once: Arc<dyn DynStore<Infallible>> = Arc::new(Length::default());
    let store: &dyn DynStore<Infallible> = &once;
    measure(bencher, || {
        black_box(store).set_boxed(KEY, black_box(VALUE))
    });
}

#[divan::bench(name = "`async_trait` behind `dyn`")]
fn async_trait_dyn(bencher: Bencher<'_, '_>) {
    let store: &dyn Boxed = &Length::default();
    measure(bencher, || {
        black_box(store).set_in_box(KEY, black_box(VALUE))
    });
}

#[divan::bench(name = "`async_trait`, static")]
fn async_trait_static(bencher: Bencher<'_, '_>) {
    let store = Length::default();
    measure(bencher, || {
        black_box(&store).set_in_box(KEY, black_box(VALUE))
    });
}

#[divan::bench(name = "a closure, as `AsyncFn`")]
fn async_fn(bencher: Bencher<'_, '_>) {
    let store = Length::default();
    let handler = async |value: &[u8]| store.keep(value);
    measure(bencher, || black_box(&handler)(black_box(VALUE)));
}

#[divan::bench(name = "a closure from a table, as in [`handlers`]")]
fn from_a_table(bencher: Bencher<'_, '_>) {
    let store = Arc::new(Length::default());
    let mut handlers = Handlers::new();
    let keep = move |value: &'static [u8]| {
        let store = Arc::clone(&store);
        async move { store.keep(value) }
    };
    handlers.add("keep", keep).ok();
    measure(bencher, || async {
        match black_box(&handlers).call("keep", black_box(VALUE)) {
            Ok(call) => call.await,
            Err(unknown) => println!("{unknown}"),
        }
    });
}

fn main() -> Result<(), Box<dyn Error>> {
    if !std::env::args().skip(1).eq(["--bench"]) {
        divan::main();
        return Ok(());
    }
    let args = ["--bench", "--sort", "location", "--color", "never"];
    let output = Command::new(std::env::current_exe()?).args(args).output()?;
    println!("| A call that is ready at once | Nanoseconds | Allocations | Their size |");
    println!("| --- | ---: | ---: | ---: |");
    for [name, time, allocations, size] in rows(&String::from_utf8(output.stdout)?) {
        println!("| {name} | {time} | {allocations} | {size} |");
    }
    Ok(())
}

/// The medians in what divan prints: a line for the time, and where something was allocated, two below
/// `alloc:` for the number and the bytes.
fn rows(printed: &str) -> Vec<[String; 4]> {
    let mut rows: Vec<[String; 4]> = Vec::new();
    let mut lines = printed.lines().map(|line| {
        let is_row = line.starts_with(['├', '╰']);
        let line = line.trim_start_matches(['├', '╰', '─', '│', ' ']);
        let cells: Vec<_> = line.split('│').map(str::trim).collect();
        (is_row, cells)
    });
    let cell = |cells: &[&str], index: usize| cells.get(index).copied().unwrap_or("?").to_owned();
    while let Some((is_row, cells)) = lines.next() {
        if is_row {
            // The name is in one cell with the fastest time, a number and its unit.
            let first = cell(&cells, 0);
            let name = first.rsplitn(3, ' ').last().unwrap_or_default().trim();
            let none = || "0".to_owned();
            rows.push([
                name.to_owned(),
                nanoseconds(&cell(&cells, 2)),
                none(),
                none(),
            ]);
        } else if cells.first() == Some(&"alloc:") {
            let mut next = || {
                lines
                    .next()
                    .map_or_else(String::new, |(_, cells)| cell(&cells, 2))
            };
            if let Some([_, _, number, size]) = rows.last_mut() {
                (*number, *size) = (next(), next());
            }
        }
    }
    rows
}

/// To the whole one; with another unit, as it is.
fn nanoseconds(time: &str) -> String {
    let number = time
        .strip_suffix(" ns")
        .and_then(|number| number.parse::<f64>().ok());
    number.map_or_else(|| time.to_owned(), |number| format!("{number:.0}"))
}

//! cargo bench --profile dev -p testing --bench costs
//!
//! What a small test costs with each tool: the column of the section page. In the profile in which
//! tests run, with the runtime that `#[tokio::test]` would build. A figure is that of the fastest round,
//! which a busy machine changes least.
#![expect(
    clippy::expect_used,
    reason = "a test that fails is not to be measured"
)]

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use testing::every_await_point::every_await_point;
use testing::mock_io::{Link, Step, Stream, every_delivery};
use testing::poll_by_hand::check_wakeups;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

const MINUTE: Duration = Duration::from_secs(60);
const BYTES: &[u8] = b"\x06abcdef";

async fn read(mut input: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut message = vec![0; input.read_u8().await?.into()];
    input.read_exact(&mut message).await?;
    Ok(message)
}

/// What `#[tokio::test(start_paused = true)]` does around a test.
fn paused<T>(test: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(test)
}

fn paused_clock() {
    paused(async {
        for _ in 0..60 {
            sleep(MINUTE).await; // an hour
        }
    });
}

fn test_flavors() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let tasks = [(); 2].map(|()| tokio::spawn(async {}));
        for task in tasks {
            task.await.expect("no panic");
        }
    });
}

trait Source {
    fn next(&mut self) -> impl Future<Output = Result<u64, Infallible>>;
}

struct Fake(u64);

impl Source for Fake {
    async fn next(&mut self) -> Result<u64, Infallible> {
        self.0 += 1;
        Ok(self.0)
    }
}

fn mock_by_trait() {
    paused(async {
        let mut fake = Fake(0);
        while fake.next().await != Ok(100) {}
    });
}

fn mock_io() {
    let link = Link {
        capacity: NonZeroUsize::MIN.saturating_add(63),
        pause: MINUTE,
        limit: 60 * MINUTE,
    };
    let operation = async |stream: Stream| read(stream).await.map_or(0, |message| message.len());
    let rounds = paused(every_delivery(
        link,
        &[Step::Send(BYTES)],
        operation,
        |_, _| (),
    ));
    assert_eq!(rounds, Ok(22));
}

fn poll_by_hand() {
    let setup = || {
        let (sender, receiver) = oneshot::channel();
        (receiver, sender)
    };
    let event = async |sender: oneshot::Sender<()>| {
        sender.send(()).ok();
    };
    let counted = paused(check_wakeups(setup, event)).expect("sound");
    assert_eq!(counted.polls, 2);
}

fn await_points() {
    let setup = async || {
        let (near, mut far) = duplex(64);
        far.write_all(BYTES).await.expect("there is room");
        near
    };
    let points = every_await_point(
        MINUTE,
        setup,
        async |near| read(near).await.expect("all is there"),
        async |_, _| (),
    );
    assert_eq!(paused(points).expect("sound"), 2);
}

/// Keeps the text of each event.
#[derive(Default)]
struct Collect(Mutex<Vec<String>>);

impl Subscriber for Collect {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                self.0.push_str(&format!("{field}={value:?} "));
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(text.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn capture_events() {
    tracing::subscriber::with_default(Collect::default(), || {
        paused(async {
            for number in 0..100 {
                tracing::info!(number, "an event");
            }
        });
    });
}

fn explore_interleavings() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let model = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let lock = Arc::new(shuttle::sync::Mutex::new(0));
        let other = Arc::clone(&lock);
        let thread = shuttle::thread::spawn(move || {
            for _ in 0..3 {
                *other.lock().expect("no panic") += 1;
            }
        });
        for _ in 0..3 {
            *lock.lock().expect("no panic") += 1;
        }
        thread.join().expect("no panic");
    };
    shuttle::check_random(model, 1_000);
    assert_eq!(seen.load(Ordering::Relaxed), 1_000);
}

fn simulate_network() {
    let mut sim = turmoil::Builder::new().build();
    sim.host("server", || async {
        let listener = turmoil::net::TcpListener::bind("0.0.0.0:1").await?;
        let (mut stream, _) = listener.accept().await?;
        stream.write_all(BYTES).await?;
        sleep(MINUTE / 60).await;
        Ok(())
    });
    sim.client("client", async {
        let stream = turmoil::net::TcpStream::connect("server:1").await?;
        read(stream).await?;
        sleep(MINUTE / 12).await;
        Ok(())
    });
    sim.run().expect("it is read");
}

fn main() {
    let trial = std::env::args().any(|argument| argument == "--test");
    let rounds = if trial { 1 } else { 31 };
    let tools: [(&str, fn()); 9] = [
        ("`paused_clock`: an hour in 60 sleeps", paused_clock),
        ("`test_flavors`: two workers, two tasks", test_flavors),
        ("`mock_by_trait`: 100 calls", mock_by_trait),
        ("`mock_io`: 7 bytes, 22 rounds", mock_io),
        ("`poll_by_hand`: 5 futures", poll_by_hand),
        ("`every_await_point`: 2 await points", await_points),
        ("`capture_events`: 100 events", capture_events),
        (
            "`explore_interleavings`: 1,000 orders of 2 threads",
            explore_interleavings,
        ),
        (
            "`simulate_network`: 2 hosts, 5 virtual seconds",
            simulate_network,
        ),
    ];
    println!("| A test | Milliseconds |");
    println!("| --- | ---: |");
    for (name, test) in tools {
        let mut samples: Vec<f64> = (0..rounds)
            .map(|_| {
                let started = Instant::now();
                test();
                started.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        samples.sort_by(f64::total_cmp);
        let fastest = samples.first().copied().unwrap_or(f64::NAN);
        println!("| {name} | {fastest:.2} |");
    }
}

//! What the page says: one bug found five ways, and what no recipe's own tests show.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::io::{self, ErrorKind};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use testing::every_await_point::{AwaitPointError, Cut, Outcome, every_await_point};
use testing::mock_io::{Delivery, Fault, Link, Step, Stream, every_delivery};
use testing::poll_by_hand::check_wakeups;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(60);

// ------------------------------------------------------------------------------------- the bug

/// How a message is read: a byte of length, and as many bytes.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// What has come of a message is in the future, and gone with it.
    Forgets,
    /// What has come of a message is in the reader.
    Keeps,
}

struct Messages<R> {
    form: Form,
    input: R,
    kept: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Messages<R> {
    fn new(form: Form, input: R) -> Self {
        let kept = Vec::new();
        Self { form, input, kept }
    }

    async fn next(&mut self) -> io::Result<Vec<u8>> {
        match self.form {
            Form::Forgets => {
                let length = self.input.read_u8().await?;
                let mut message = vec![0; length.into()];
                self.input.read_exact(&mut message).await?;
                Ok(message)
            }
            Form::Keeps => loop {
                if let [length, rest @ ..] = self.kept.as_slice()
                    && let Some(message) = rest.get(..(*length).into()).map(<[u8]>::to_vec)
                {
                    self.kept.drain(..=message.len());
                    return Ok(message);
                }
                if self.input.read_buf(&mut self.kept).await? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            },
        }
    }
}

/// The loop around it, which has something else to do each second.
async fn read_two(form: Form, input: impl AsyncRead + Unpin) -> io::Result<[Vec<u8>; 2]> {
    let mut messages = Messages::new(form, input);
    let mut all = Vec::new();
    while all.len() < 2 {
        if let Ok(message) = timeout(SECOND, messages.next()).await {
            all.push(message?);
        }
        // What else there is to do: a heartbeat, a look at the configuration.
    }
    Ok([all.remove(0), all.remove(0)])
}

const BYTES: &[u8] = b"\x03abc\x02de";

fn messages() -> [Vec<u8>; 2] {
    [b"abc".to_vec(), b"de".to_vec()]
}

// --------------------------------------------------------------------------- and who finds it

/// `paused_clock`: the pause is played, in no time.
async fn with_paused_time(form: Form) -> io::Result<[Vec<u8>; 2]> {
    let (near, mut far) = duplex(64);
    let (first, second) = BYTES.split_at(2);
    let peer = async move {
        far.write_all(first).await?;
        sleep(2 * SECOND).await;
        far.write_all(second).await
    };
    let (read, written) = tokio::join!(timeout(LIMIT, read_two(form, near)), peer);
    written.unwrap();
    read.unwrap()
}

#[tokio::test(start_paused = true)]
async fn paused_time_finds_it_where_the_test_pauses() {
    let started = Instant::now();
    let found = with_paused_time(Form::Forgets).await;
    assert_eq!(found.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(with_paused_time(Form::Keeps).await.unwrap(), messages());
    assert_eq!(started.elapsed(), 4 * SECOND, "of virtual time");
}

/// `poll_by_hand`: the drop is where the test wants it, without a clock or a runtime.
fn by_hand(form: Form) -> std::task::Poll<io::Result<Vec<u8>>> {
    let (near, mut far) = duplex(64);
    let mut write = |bytes: &[u8]| assert_ready!(spawn(far.write_all(bytes)).poll()).unwrap();
    let mut messages = Messages::new(form, near);
    write(&BYTES[..2]);
    let mut half = spawn(messages.next());
    assert_pending!(half.poll());
    drop(half);
    write(&BYTES[2..]);
    spawn(messages.next()).poll()
}

#[test]
fn polling_by_hand_finds_it_where_the_test_drops() {
    let found = by_hand(Form::Forgets);
    assert!(found.is_pending(), "it waits for 98 bytes: b is a length");
    assert_eq!(assert_ready!(by_hand(Form::Keeps)).unwrap(), b"abc");
}

/// `mock_io`: pauses after each byte in turn.
async fn with_a_scripted_peer(form: Form) -> Result<usize, testing::mock_io::DeliveryError> {
    let link = Link {
        capacity: NonZeroUsize::new(64).unwrap(),
        pause: 2 * SECOND,
        limit: LIMIT,
    };
    every_delivery(
        link,
        &[Step::Send(BYTES)],
        async |stream: Stream| read_two(form, stream).await,
        |delivery, outcome| match delivery {
            Delivery::EndAfter(_) | Delivery::ErrorAfter(_) => drop(outcome.unwrap_err()),
            _ => assert_eq!(outcome.unwrap(), messages()),
        },
    )
    .await
}

#[tokio::test(start_paused = true)]
async fn a_scripted_peer_finds_it_with_the_byte() {
    let found = with_a_scripted_peer(Form::Forgets).await.unwrap_err();
    assert_eq!(found.delivery, Delivery::Bytewise);
    assert!(matches!(found.fault, Fault::Broken(_)), "{found}");
    assert_eq!(with_a_scripted_peer(Form::Keeps).await, Ok(22));
}

/// `every_await_point`: drops it everywhere, and needs neither a pause nor a timeout for it.
async fn at_every_await_point(form: Form) -> Result<usize, AwaitPointError> {
    every_await_point(
        LIMIT,
        async || {
            let (near, mut far) = duplex(64);
            far.write_all(BYTES).await.unwrap();
            Messages::new(form, near)
        },
        async |messages: &mut Messages<DuplexStream>| messages.next().await.unwrap(),
        async |mut messages, outcome| {
            let next = messages.next().await.unwrap();
            match outcome {
                Outcome::Completed(_) => assert_eq!(next, b"de"),
                Outcome::Dropped(_) => assert_eq!(next, b"abc", "the next after a drop"),
            }
        },
    )
    .await
}

#[tokio::test(start_paused = true)]
async fn every_await_point_finds_it_with_the_await() {
    let Err(AwaitPointError::Broken { cut, .. }) = at_every_await_point(Form::Forgets).await else {
        panic!("not found");
    };
    assert_eq!(cut, Some(Cut::Suspended(2)), "the length is read");
    assert_eq!(at_every_await_point(Form::Keeps).await.unwrap(), 1);
}

/// `simulate_network`: the link holds the second half back.
fn over_a_simulated_network(form: Form) -> turmoil::Result {
    let mut sim = turmoil::Builder::new().build();
    sim.host("server", || async {
        let listener = turmoil::net::TcpListener::bind("0.0.0.0:1").await?;
        let (mut stream, _) = listener.accept().await?;
        stream.write_all(&BYTES[..2]).await?;
        sleep(SECOND / 2).await;
        turmoil::hold("server", "client");
        stream.write_all(&BYTES[2..]).await?;
        sleep(2 * SECOND).await;
        turmoil::release("server", "client");
        Ok(())
    });
    sim.client("client", async move {
        let stream = turmoil::net::TcpStream::connect("server:1").await?;
        let read = timeout(5 * SECOND, read_two(form, stream)).await??;
        assert_eq!(read, messages());
        Ok(())
    });
    sim.run()
}

#[test]
fn a_simulated_network_finds_it_where_the_link_is_held() {
    let found = over_a_simulated_network(Form::Forgets).unwrap_err();
    assert_eq!(found.to_string(), "early eof");
    over_a_simulated_network(Form::Keeps).unwrap();
}

// ----------------------------------------------------------------------------- and who does not

/// It wakes whom it should, so the tool for that has nothing to find.
#[tokio::test]
async fn its_wakeups_are_right() {
    let setup = || {
        let (near, mut far) = duplex(64);
        assert_ready!(spawn(far.write_all(&BYTES[..2])).poll()).unwrap();
        let next = async { Messages::new(Form::Forgets, near).next().await };
        (next, far)
    };
    let event = async |mut far: DuplexStream| drop(far.write_all(&BYTES[2..]).await);
    assert_eq!(check_wakeups(setup, event).await.unwrap().polls, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_socket_on_this_machine_does_not_find_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    client.write_all(BYTES).await.unwrap();
    let read = read_two(Form::Forgets, server).await;
    assert_eq!(read.unwrap(), messages(), "it comes in one piece");
}

/// `explore_interleavings`: every order of a task that writes in two pieces and one that reads.
/// Where `limited`, a third task is what the timer would be. Returns how many orders there were.
fn explored(form: Form, limited: bool) -> usize {
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&orders);
    let model = async move || {
        let (near, mut far) = duplex(64);
        let writer = shuttle::future::spawn(async move {
            far.write_all(&BYTES[..2]).await.unwrap();
            shuttle::future::yield_now().await;
            far.write_all(&BYTES[2..]).await.unwrap();
        });
        let (fire, mut limit) = oneshot::channel();
        let timer = shuttle::future::spawn(async move { fire.send(()) });
        let mut messages = Messages::new(form, near);
        let mut first = None;
        if limited
            && let Either::Left((message, _)) = select(Box::pin(messages.next()), &mut limit).await
        {
            first = Some(message);
        }
        let first = match first {
            Some(message) => message,
            None => messages.next().await,
        };
        assert_eq!(first.unwrap(), b"abc");
        assert_eq!(messages.next().await.unwrap(), b"de");
        writer.await.unwrap();
        timer.await.unwrap().ok();
    };
    let run = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        shuttle::future::block_on(model());
    };
    shuttle::check_dfs(run, None);
    orders.load(Ordering::Relaxed)
}

#[test]
fn exploring_every_order_does_not_find_it_since_nothing_is_dropped() {
    assert_eq!(
        explored(Form::Forgets, false),
        23,
        "orders, and all are right"
    );
}

#[test]
fn exploring_finds_it_once_the_timer_is_a_task_of_the_model() {
    let found = std::panic::catch_unwind(|| explored(Form::Forgets, true));
    assert!(found.is_err());
    assert_eq!(explored(Form::Keeps, true), 34);
}

// -------------------------------------------------------------------------- from the symptom

/// A wait for something that never comes: everybody's flaky test that "hangs".
async fn hangs() {
    Notify::new().notified().await;
}

#[tokio::test(start_paused = true)]
async fn under_a_paused_clock_a_hang_is_an_error_at_once() {
    let started = Instant::now();
    timeout(60 * LIMIT, hangs()).await.unwrap_err();
    assert_eq!(started.elapsed(), 60 * LIMIT, "an hour, in no time");
}

/// Two steps of 5 ms each, on a machine that is kept from working for 50 ms: are they done in 20?
async fn done_in_time() -> bool {
    tokio::spawn(async {
        #[expect(clippy::disallowed_methods, reason = "the machine is slow")]
        std::thread::sleep(Duration::from_millis(50));
    });
    let step = || sleep(Duration::from_millis(5));
    let steps = async {
        step().await;
        step().await;
    };
    timeout(Duration::from_millis(20), steps).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_slow_machine_does_not_move_a_paused_clock() {
    assert!(done_in_time().await);
}

#[tokio::test]
async fn harm_a_slow_machine_breaks_a_limit_on_the_real_clock() {
    assert!(!done_in_time().await);
}

/// "Passes whatever I change": nothing is asserted of the instants, and the clock jumps to any.
#[tokio::test(start_paused = true)]
async fn harm_a_test_of_three_ticks_passes_with_any_period() {
    for period in [SECOND, 1_000 * SECOND] {
        let mut ticks = tokio::time::interval(period);
        for _ in 0..3 {
            ticks.tick().await;
        }
    }
}

#[tokio::test]
async fn harm_a_panic_in_a_task_that_nobody_awaits_fails_no_test() {
    let (done, mut ended) = mpsc::channel::<()>(1);
    let task = tokio::spawn(async move {
        let _done = done;
        panic!("an assertion that did not hold");
    });
    assert_eq!(ended.recv().await, None, "and this test goes on");
    assert!(task.await.unwrap_err().is_panic(), "unless it asks");
}

#[tokio::test]
async fn harm_a_fixed_port_is_for_one_test_at_a_time() {
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let fixed = first.local_addr().unwrap();
    let taken = TcpListener::bind(fixed).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    TcpListener::bind("127.0.0.1:0").await.unwrap();
}

// ------------------------------------------------------------------- what the tools cannot find

/// Reads, and then writes what it read and one more: an update is lost if another comes between.
const STEPS: usize = 3;

#[tokio::test]
async fn one_thread_never_loses_an_update_between_two_awaits() {
    let count = Arc::new(AtomicUsize::new(0));
    let tasks = [(); 2].map(|()| {
        let count = Arc::clone(&count);
        tokio::spawn(async move {
            for _ in 0..STEPS {
                let read = count.load(Ordering::SeqCst);
                count.store(read + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        })
    });
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(count.load(Ordering::SeqCst), 2 * STEPS);
}

#[test]
fn exploring_finds_that_lost_update() {
    let model = || {
        let count = Arc::new(shuttle::sync::atomic::AtomicUsize::new(0));
        let tasks = [(); 2].map(|()| {
            let count = Arc::clone(&count);
            shuttle::thread::spawn(move || {
                for _ in 0..STEPS {
                    let read = count.load(Ordering::SeqCst);
                    count.store(read + 1, Ordering::SeqCst);
                }
            })
        });
        for task in tasks {
            task.join().unwrap();
        }
        assert_eq!(count.load(Ordering::SeqCst), 2 * STEPS);
    };
    assert!(std::panic::catch_unwind(|| shuttle::check_dfs(model, None)).is_err());
}

/// It knows no timers: what waits for one has no runtime to do it.
#[test]
#[should_panic = "no reactor running"]
fn harm_exploring_has_no_clock() {
    shuttle::check_dfs(|| shuttle::future::block_on(sleep(SECOND)), Some(1));
}

/// What computes takes no time on a clock that only waiting moves.
#[tokio::test(start_paused = true)]
async fn harm_a_paused_clock_does_not_see_that_a_task_is_blocked() {
    let started = Instant::now();
    let heartbeat = tokio::spawn(async move {
        sleep(Duration::from_millis(1)).await;
        started.elapsed()
    });
    #[expect(clippy::disallowed_methods, reason = "the fault")]
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(
        heartbeat.await.unwrap(),
        Duration::from_millis(1),
        "on time"
    );
}

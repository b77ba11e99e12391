//! What a scripted peer finds, and what it cannot.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use testing::every_await_point::every_await_point;
use testing::mock_io::{Delivery, DeliveryError, Fault, Link, Step, Stream, every_delivery};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_test::io::Builder;

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(60);

fn link(capacity: usize) -> Link {
    Link {
        capacity: NonZeroUsize::new(capacity).unwrap(),
        pause: SECOND,
        limit: LIMIT,
    }
}

/// Asks, and reads an answer of one byte of length and as many bytes.
async fn get(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<Vec<u8>> {
    stream.write_all(b"get\n").await?;
    let length = stream.read_u8().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

const GET: [Step<'_>; 2] = [Step::Expect(b"get\n"), Step::Send(b"\x03abc")];

/// The answer, or an error if the peer went away before it was whole.
fn whole_or_error(delivery: Delivery, outcome: io::Result<Vec<u8>>) {
    match delivery {
        Delivery::EndAfter(_) | Delivery::ErrorAfter(_) => drop(outcome.unwrap_err()),
        _ => assert_eq!(outcome.unwrap(), b"abc"),
    }
}

fn found(result: Result<usize, DeliveryError>) -> (Delivery, Fault) {
    let DeliveryError { delivery, fault } = result.expect_err("nothing was found");
    (delivery, fault)
}

fn differs(at: usize, expected: &[u8], got: &[u8]) -> Fault {
    let (expected, got) = (expected.to_vec(), got.to_vec());
    Fault::Differs { at, expected, got }
}

// ------------------------------------------------------------------------------- every_delivery

#[tokio::test(start_paused = true)]
async fn a_careful_client_passes_in_three_rounds_for_each_byte_and_one() {
    let rounds = every_delivery(link(64), &GET, get, whole_or_error).await;
    assert_eq!(rounds, Ok(3 * 8 + 1));
    let rounds = every_delivery(link(1), &GET, get, whole_or_error).await;
    assert_eq!(rounds, Ok(3 * 8 + 1));
}

#[tokio::test(start_paused = true)]
async fn each_round_is_cut_at_its_own_byte_and_instant() {
    /// What a read gave, and when: `None` for an error.
    type Reads = Vec<(Option<Vec<u8>>, u64)>;
    let reads = async |mut stream: Stream| {
        let started = Instant::now();
        let mut reads: Reads = Vec::new();
        loop {
            let mut buffer = Vec::new();
            let read = stream.read_buf(&mut buffer).await;
            let at = started.elapsed().as_secs();
            match read {
                Ok(0) => return reads,
                Ok(_) => reads.push((Some(buffer), at)),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                    reads.push((None, at));
                }
            }
        }
    };
    let script = [Step::Send(b"ab"), Step::Send(b"c")];
    let seen = RefCell::new(Vec::new());
    let check = |delivery, reads: Reads| seen.borrow_mut().push((delivery, reads));
    let rounds = every_delivery(link(64), &script, reads, check).await;
    assert_eq!(rounds, Ok(10));
    let read = |bytes: &[u8], at| (Some(bytes.to_vec()), at);
    let expected: [(Delivery, Reads); 10] = [
        (Delivery::Whole, vec![read(b"abc", 0)]),
        (
            Delivery::Bytewise,
            vec![read(b"a", 0), read(b"b", 1), read(b"c", 2)],
        ),
        (Delivery::PauseAfter(1), vec![read(b"a", 0), read(b"bc", 1)]),
        (Delivery::PauseAfter(2), vec![read(b"ab", 0), read(b"c", 1)]),
        (Delivery::EndAfter(0), vec![]),
        (Delivery::EndAfter(1), vec![read(b"a", 0)]),
        (Delivery::EndAfter(2), vec![read(b"ab", 0)]),
        (Delivery::ErrorAfter(0), vec![(None, 0)]),
        (Delivery::ErrorAfter(1), vec![read(b"a", 0), (None, 0)]),
        (Delivery::ErrorAfter(2), vec![read(b"ab", 0), (None, 0)]),
    ];
    assert_eq!(seen.into_inner(), expected);
}

#[tokio::test(start_paused = true)]
async fn positions_count_what_the_peer_reads_as_well() {
    let got = RefCell::new(Vec::new());
    let check = |delivery, outcome: io::Result<Vec<u8>>| {
        if matches!(delivery, Delivery::EndAfter(_)) {
            got.borrow_mut().push(outcome.unwrap_err().kind());
        }
    };
    let twice = async |mut stream: Stream| {
        get(&mut stream).await?;
        get(&mut stream).await
    };
    let script = [
        Step::Expect(b"get\n"),
        Step::Send(b"\x01a"),
        Step::Expect(b"get\n"),
        Step::Send(b"\x01b"),
    ];
    assert_eq!(
        every_delivery(link(64), &script, twice, check).await,
        Ok(37)
    );
    let got = got.into_inner();
    assert_eq!(got[..6], [ErrorKind::UnexpectedEof; 6]);
    // It has closed by the time of the second question, or after it has read a part of that.
    assert_eq!(got[6], ErrorKind::BrokenPipe);
    assert_eq!(got[7..], [ErrorKind::UnexpectedEof; 5]);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_taken_for_a_message_is_found() {
    let one_read = async |mut stream: Stream| {
        stream.write_all(b"get\n").await?;
        let mut answer = [0; 16];
        let length = stream.read(&mut answer).await?;
        Ok(answer[..length].get(1..).unwrap_or_default().to_vec())
    };
    let (delivery, fault) = found(every_delivery(link(64), &GET, one_read, whole_or_error).await);
    assert_eq!(delivery, Delivery::Bytewise);
    assert!(matches!(fault, Fault::Broken(_)), "{fault:?}");
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_that_is_shorter_than_the_pause_is_found_with_its_byte() {
    let impatient = async |mut stream: Stream| {
        stream.write_all(b"get\n").await?;
        let length = stream.read_u8().await?;
        let mut answer = vec![0; length.into()];
        timeout(SECOND / 2, stream.read_exact(&mut answer)).await??;
        Ok(answer)
    };
    let check = |delivery, outcome| match delivery {
        Delivery::Bytewise => {} // too late as well, and said so
        _ => whole_or_error(delivery, outcome),
    };
    let found = every_delivery(link(64), &GET, impatient, check).await;
    let found = found.unwrap_err();
    assert_eq!(found.delivery, Delivery::PauseAfter(5), "after the length");
    let told = found.to_string();
    assert!(told.starts_with("PauseAfter(5): "), "{told}");
    assert!(told.contains("TimedOut"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_taken_for_the_end_of_the_message_is_found() {
    let to_the_end = async |mut stream: Stream| {
        stream.write_all(b"get\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(answer.get(1..).unwrap_or_default().to_vec())
    };
    let (delivery, _) = found(every_delivery(link(64), &GET, to_the_end, whole_or_error).await);
    assert_eq!(delivery, Delivery::EndAfter(0));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_taken_for_the_end_is_found() {
    let script = [Step::Send(b"abc")];
    let until_it_fails = async |mut stream: Stream| {
        let mut all = Vec::new();
        while let Ok(1..) = stream.read_buf(&mut all).await {}
        all
    };
    let a_part_only_where_it_ends = |delivery, all: Vec<u8>| match delivery {
        Delivery::EndAfter(end) => assert_eq!(all, b"abc"[..end]),
        Delivery::ErrorAfter(_) => panic!("{all:?} for the whole"),
        _ => assert_eq!(all, b"abc"),
    };
    let result = every_delivery(link(64), &script, until_it_fails, a_part_only_where_it_ends);
    let (delivery, fault) = found(result.await);
    assert_eq!(delivery, Delivery::ErrorAfter(0));
    assert_eq!(fault, Fault::Broken("[] for the whole".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn wrong_bytes_are_told_with_their_place_although_the_rest_never_comes() {
    let wrong = async |mut stream: Stream| {
        stream.write_all(b"ge").await.unwrap();
        stream.write_all(b"l").await.unwrap();
        stream.read_u8().await
    };
    let accepts_nothing = |_, outcome: io::Result<u8>| panic!("{outcome:?}");
    let result = every_delivery(link(2), &GET, wrong, accepts_nothing).await;
    assert_eq!(
        result.as_ref().unwrap_err().to_string(),
        r#"Whole: byte 2: expected "t\n", got "l""#
    );
    assert_eq!(found(result), (Delivery::Whole, differs(2, b"t\n", b"l")));
}

#[tokio::test(start_paused = true)]
async fn too_much_and_too_little_are_found() {
    let talkative = async |mut stream: Stream| {
        get(&mut stream).await.unwrap();
        stream.write_all(b"bye").await.unwrap();
    };
    let result = every_delivery(link(64), &GET, talkative, |_, ()| ()).await;
    assert_eq!(found(result), (Delivery::Whole, differs(8, b"", b"bye")));
    let silent = async |_| ();
    let result = every_delivery(link(64), &GET, silent, |_, ()| ()).await;
    assert_eq!(found(result), (Delivery::Whole, differs(0, b"get\n", b"")));
}

#[tokio::test(start_paused = true)]
async fn why_the_operation_closed_too_early_is_told_before_what_was_missing() {
    let refuses = async |_| Err::<Vec<u8>, _>(io::Error::other("no credentials"));
    let (delivery, fault) = found(every_delivery(link(64), &GET, refuses, whole_or_error).await);
    assert_eq!(delivery, Delivery::Whole);
    let Fault::Broken(message) = fault else {
        panic!("{fault:?}")
    };
    assert!(message.contains("no credentials"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_short_write_is_found_where_there_is_no_room() {
    let write_once = async |mut stream: Stream| {
        assert!(stream.write(b"get\n").await? > 0);
        stream.read_u8().await.map(drop)
    };
    let allowed = |_, _| ();
    let rounds = every_delivery(link(4), &GET, write_once, allowed).await;
    assert_eq!(rounds, Ok(25), "there is room for all of it");
    let (delivery, fault) = found(every_delivery(link(3), &GET, write_once, allowed).await);
    assert_eq!(delivery, Delivery::Whole);
    assert_eq!(fault, Fault::Stuck(LIMIT), "each waits for the other");
}

#[tokio::test(start_paused = true)]
async fn harm_a_client_that_writes_all_before_it_reads_stands_still_where_there_is_no_room() {
    let script = [
        Step::Expect(b"ab"),
        Step::Send(b"AB"),
        Step::Expect(b"cd"),
        Step::Send(b"CD"),
    ];
    let write_all_then_read = async |mut stream: Stream| {
        stream.write_all(b"abcd").await?;
        let mut answers = [0; 4];
        stream.read_exact(&mut answers).await
    };
    let rounds = every_delivery(link(2), &script, write_all_then_read, |_, _| ()).await;
    assert_eq!(rounds, Ok(25), "the second question fits in");
    let started = Instant::now();
    let (delivery, fault) =
        found(every_delivery(link(1), &script, write_all_then_read, |_, _| ()).await);
    assert_eq!((delivery, fault), (Delivery::Whole, Fault::Stuck(LIMIT)));
    assert_eq!(started.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_operation_is_told_with_its_round() {
    let indexes = async |mut stream: Stream| {
        let mut buffer = Vec::new();
        stream.read_buf(&mut buffer).await.unwrap();
        buffer[1]
    };
    let script = [Step::Send(b"ab")];
    let (delivery, fault) = found(every_delivery(link(64), &script, indexes, |_, _| ()).await);
    assert_eq!(delivery, Delivery::Bytewise);
    let Fault::Broken(message) = fault else {
        panic!("{fault:?}")
    };
    assert!(message.contains("the index is 1"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_kept_is_found_at_the_limit() {
    let (keep, _kept) = mpsc::channel(1);
    let keeps = async |stream| keep.try_send(stream).unwrap();
    let started = Instant::now();
    let result = every_delivery(link(64), &[], keeps, |_, ()| ()).await;
    assert_eq!(found(result), (Delivery::Whole, Fault::Stuck(LIMIT)));
    assert_eq!(started.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn harm_what_the_operation_leaves_unread_is_not_noticed() {
    let half = async |mut stream: Stream| {
        stream.write_all(b"get\n").await?;
        stream.read_u8().await
    };
    let rounds = every_delivery(link(64), &GET, half, |_, _| ()).await;
    assert_eq!(rounds, Ok(25));
}

#[tokio::test(start_paused = true)]
async fn a_server_sees_the_end_after_a_shutdown_and_can_still_answer() {
    let counts = async |mut stream: Stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await?;
        stream
            .write_all(&[u8::try_from(all.len()).unwrap()])
            .await?;
        stream.read(&mut [0]).await
    };
    let check = |delivery, end: io::Result<usize>| match delivery {
        Delivery::EndAfter(_) | Delivery::ErrorAfter(_) => {}
        _ => assert_eq!(end.unwrap(), 0),
    };
    let script = [Step::Send(b"abc"), Step::Shutdown, Step::Expect(&[3])];
    let rounds = every_delivery(link(64), &script, counts, check).await;
    assert_eq!(rounds, Ok(13));
    let result = every_delivery(link(64), &script[..1], counts, check).await;
    assert_eq!(
        found(result),
        (Delivery::Whole, differs(3, b"", &[3])),
        "the end of the script shuts down too"
    );
}

#[tokio::test(start_paused = true)]
async fn a_script_of_nothing_is_one_round() {
    let closes = async |mut stream: Stream| stream.read(&mut [0]).await.unwrap();
    let check = |delivery, read| assert_eq!((delivery, read), (Delivery::Whole, 0));
    let script = [Step::Send(b""), Step::Expect(b"")];
    assert_eq!(every_delivery(link(1), &script, closes, check).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_harness_drops_the_round_under_way_and_starts_no_other() {
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let begun = RefCell::new(0);
    let points = every_await_point(
        LIMIT,
        async || *begun.borrow_mut() = 0,
        async |()| {
            let operation = async |mut stream: Stream| {
                let _alive = alive.clone();
                *begun.borrow_mut() += 1;
                stream.read_to_end(&mut Vec::new()).await
            };
            let script = [Step::Send(b"ab")];
            every_delivery(link(64), &script, operation, |_, _| ()).await
        },
        async |(), _| {
            let rounds = *begun.borrow();
            sleep(LIMIT).await;
            assert_eq!(*begun.borrow(), rounds, "another round has begun");
            assert_eq!(alive.strong_count(), 1, "an operation lives on");
        },
    )
    .await;
    assert_eq!(points.unwrap(), 33);
    drop(alive);
    assert_eq!(ended.recv().await, None);
}

// --------------------------------------------------------------------------- tokio_test's Builder

/// The message of the panic in `work`.
fn panic_of(work: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("it did not panic");
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.unwrap_or_else(|| *panic.downcast::<String>().unwrap())
}

/// Polls once; it must be ready.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    tokio_test::assert_ready!(tokio_test::task::spawn(future).poll())
}

#[test]
fn a_builder_answers_what_it_was_asked() {
    let mock = Builder::new().write(b"get\n").read(b"\x03abc").build();
    assert_eq!(at_once(get(mock)).unwrap(), b"abc");
}

#[test]
fn a_builder_panics_at_the_first_wrong_byte_and_at_what_is_left_when_it_is_dropped() {
    let mut mock = Builder::new().name("peer").write(b"get\n").build();
    let told = panic_of(|| drop(at_once(mock.write(b"got\n"))));
    assert!(told.contains("name=peer"), "{told}");
    std::mem::forget(mock); // its drop would panic as well
    let told = panic_of(|| drop(Builder::new().read(b"abc").build()));
    assert!(told.contains("still data left to read"), "{told}");
    let told = panic_of(|| drop(Builder::new().write(b"abc").build()));
    assert!(told.contains("still data left to write"), "{told}");
    // Errors and waits that are left are no fault.
    let error = || ErrorKind::ConnectionReset.into();
    drop(
        Builder::new()
            .read_error(error())
            .wait(SECOND)
            .write_error(error())
            .build(),
    );
}

#[test]
fn a_builder_gives_one_piece_for_a_read_and_the_end_after_the_last() {
    let mut mock = Builder::new().read(b"ab").read(b"c").build();
    let mut all = Vec::new();
    let mut reads = || at_once(mock.read_buf(&mut all)).unwrap();
    assert_eq!([reads(), reads(), reads()], [2, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_builder_waits_on_the_virtual_clock() {
    let mut mock = Builder::new().wait(SECOND).read(b"a").build();
    let started = Instant::now();
    assert_eq!(mock.read_u8().await.unwrap(), b'a');
    assert_eq!(started.elapsed(), SECOND);
}

#[test]
fn harm_a_builder_takes_a_write_before_the_read_in_front_of_it() {
    let mut mock = Builder::new().read(b"hello").write(b"get\n").build();
    at_once(mock.write_all(b"get\n")).unwrap(); // before the greeting
    at_once(mock.read_exact(&mut [0; 5])).unwrap();
}

#[tokio::test(start_paused = true)]
async fn on_a_network_a_client_that_does_not_wait_for_the_greeting_passes_too() {
    let hasty = async |mut stream: Stream| {
        stream.write_all(b"get\n").await.unwrap();
        stream.read_exact(&mut [0; 5]).await.map(drop)
    };
    let script = [Step::Send(b"hello"), Step::Expect(b"get\n")];
    let only_whole = |delivery, outcome: io::Result<()>| {
        if delivery == Delivery::Whole {
            outcome.unwrap();
        }
    };
    let result = every_delivery(link(64), &script, hasty, only_whole).await;
    assert_eq!(result, Ok(28));
    let answers_first = async |mut stream: Stream| {
        assert_eq!(stream.read_u8().await.unwrap(), 3);
    };
    let (_, fault) = found(every_delivery(link(64), &GET, answers_first, |_, ()| ()).await);
    assert_eq!(fault, Fault::Stuck(LIMIT), "no answer before the question");
}

#[tokio::test(start_paused = true)]
async fn harm_a_builder_lets_a_write_that_is_not_in_the_script_wait_for_ever() {
    let mut mock = Builder::new().read(b"hello").build();
    let mut write = tokio_test::task::spawn(mock.write_all(b"get\n"));
    tokio_test::assert_pending!(write.poll());
    assert_eq!(
        write.waker_ref_count(),
        1,
        "it kept no waker: nothing wakes it"
    );
    drop(write);
    timeout(LIMIT, mock.write_all(b"get\n")).await.unwrap_err();
    mock.read_exact(&mut [0; 5]).await.unwrap();
    // With nothing left in the script it is a panic.
    let told = panic_of(|| drop(at_once(mock.write(b"get\n"))));
    assert!(told.contains("unexpected write"), "{told}");
}

#[test]
fn harm_a_read_error_panics_while_its_builder_is_alive() {
    let mut builder = Builder::new();
    builder.read_error(ErrorKind::ConnectionReset.into());
    let mut mock = builder.build();
    let told = panic_of(|| drop(at_once(mock.read_u8())));
    assert!(told.contains("There are no other references"), "{told}");
    let mut mock = Builder::new()
        .read_error(ErrorKind::ConnectionReset.into())
        .build();
    let error = at_once(mock.read_u8()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn harm_the_panic_of_a_builder_in_a_spawned_task_is_only_in_its_handle() {
    let mock = Builder::new().read(b"never read").build();
    let task = tokio::spawn(async move { drop(mock) });
    assert!(task.await.unwrap_err().is_panic(), "and this test goes on");
}

#[test]
fn harm_a_builder_does_not_see_a_shutdown_and_writes_go_on_after_it() {
    let mut mock = Builder::new().write(b"ab").build();
    at_once(mock.write_all(b"a")).unwrap();
    at_once(mock.shutdown()).unwrap();
    at_once(mock.write_all(b"b")).unwrap();
}

// --------------------------------------------------------------------------------------- duplex

#[tokio::test(start_paused = true)]
async fn a_duplex_makes_a_write_wait_for_room() {
    let (mut near, mut far) = duplex(4);
    near.write_all(b"1234").await.unwrap();
    let started = Instant::now();
    let read_later = async {
        sleep(SECOND).await;
        far.read_exact(&mut [0; 4]).await.unwrap();
    };
    let (written, ()) = tokio::join!(near.write_all(b"5"), read_later);
    written.unwrap();
    assert_eq!(started.elapsed(), SECOND);
}

#[tokio::test]
async fn a_duplex_tells_of_a_shutdown_and_lets_the_other_way_go_on() {
    let (mut near, mut far) = duplex(64);
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    let mut all = Vec::new();
    far.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"question");
    far.write_all(b"answer").await.unwrap();
    near.read_exact(&mut [0; 6]).await.unwrap();
    let error = near.write(b"more").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_dropped_end_of_a_duplex_can_still_be_read_but_not_written_to() {
    let (mut near, mut far) = duplex(4);
    far.write_all(b"last").await.unwrap();
    near.write_all(b"full").await.unwrap();
    let mut waits = tokio_test::task::spawn(near.write(b"!"));
    tokio_test::assert_pending!(waits.poll());
    drop(far);
    assert!(waits.is_woken());
    let error = tokio_test::assert_ready!(waits.poll()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    drop(waits);
    let mut all = Vec::new();
    near.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"last");
}

/// Which of the two goes with `every_await_point`: only `duplex` takes part in tokio's budget.
#[tokio::test(start_paused = true)]
async fn a_duplex_suspends_on_demand_and_a_builder_does_not() {
    let with_builder = every_await_point(
        LIMIT,
        async || Builder::new().write(b"get\n").read(b"\x03abc").build(),
        async |mock| get(mock).await.unwrap(),
        async |_, _| (),
    );
    assert_eq!(with_builder.await.unwrap(), 0);
    let with_duplex = every_await_point(
        LIMIT,
        async || {
            let (near, mut far) = duplex(64);
            far.write_all(b"\x03abc").await.unwrap();
            (near, far)
        },
        async |(near, _)| get(near).await.unwrap(),
        async |_, _| (),
    );
    assert_eq!(with_duplex.await.unwrap(), 3);
}

//! What two copies do to a client that says that it has sent all, and then reads the answer.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::io;
use std::num::NonZeroUsize;
use std::time::Duration;

use ::io::relay::{Limits, relay};
use antipatterns::ignored_half_close::{until_both_end, until_one_ends};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy_bidirectional, duplex};
use tokio::join;
use tokio::time::{error::Elapsed, timeout};
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_secs(3600);
const ANSWER: usize = 1_000_000;

/// Asks through the proxy, half-closes, and reads the answer. The server answers at the end of the
/// question. The bytes of the answer, and what the server's write said.
async fn through<F>(
    proxy: impl FnOnce(DuplexStream, DuplexStream) -> F,
) -> Result<(usize, io::Result<()>), Elapsed>
where
    F: Future,
{
    let (mut client, near) = duplex(1024);
    let (far, mut server) = duplex(1024);
    let ask = async {
        let mut answer = Vec::new();
        client.write_all(b"the question").await.unwrap();
        client.shutdown().await.unwrap(); // it has sent all, and reads
        client.read_to_end(&mut answer).await.unwrap();
        answer.len()
    };
    let serve = async {
        let mut question = Vec::new();
        server.read_to_end(&mut question).await.unwrap();
        assert_eq!(question, b"the question");
        let written = server.write_all(&vec![b'x'; ANSWER]).await;
        server.shutdown().await.unwrap();
        written
    };
    let all = async { join!(ask, serve, proxy(near, far)) };
    timeout(HOUR, all)
        .await
        .map(|(bytes, written, _)| (bytes, written))
}

#[tokio::test(start_paused = true)]
async fn harm_the_answer_to_a_client_that_half_closes_is_lost() {
    let (bytes, written) = through(until_one_ends).await.unwrap();
    assert_eq!(bytes, 0, "and a clean end");
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn harm_an_end_that_is_not_passed_on_makes_all_three_wait_for_ever() {
    through(until_both_end).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn mended_the_end_is_passed_on_and_the_answer_comes_back_whole() {
    let limits = Limits {
        idle: HOUR,
        buffer: NonZeroUsize::new(8192).unwrap(),
    };
    let relayed = through(async |mut a, mut b| {
        let report = relay(&mut a, &mut b, limits, &CancellationToken::new()).await;
        assert_eq!(
            (report.a_to_b.written, report.b_to_a.written),
            (12, ANSWER as u64)
        );
    });
    let (bytes, written) = relayed.await.unwrap();
    assert!(bytes == ANSWER && written.is_ok());

    let copied = through(async |mut a, mut b| copy_bidirectional(&mut a, &mut b).await);
    assert_eq!(copied.await.unwrap().0, ANSWER);
}

//! That what may be repeated is told from what must not, on real failures where there are some.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use errors::retryable::{Retry, Retryable, retry_of};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

const MS: Duration = Duration::from_millis(1);

/// Sends a byte and waits for the answer.
async fn call(address: std::net::SocketAddr) -> io::Result<u8> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&[1]).await?;
    stream.read_u8().await
}

#[tokio::test]
async fn a_refused_connection_is_tried_later() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(call(address).await.unwrap_err().retry(), Retry::LATER);
}

#[tokio::test]
async fn a_connection_that_ends_before_the_answer_is_for_the_idempotent_only() {
    for resets in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let serve = async {
            let (mut peer, _) = listener.accept().await.unwrap();
            peer.read_u8().await.unwrap(); // the call has arrived, and may have been carried out
            if resets {
                peer.set_zero_linger().unwrap();
            }
        };
        let (called, ()) = tokio::join!(call(listener.local_addr().unwrap()), serve);
        let error = called.unwrap_err();
        let reset = error.kind() == ErrorKind::ConnectionReset;
        assert_eq!(reset, resets, "{error}");
        assert_eq!(error.retry(), Retry::IfIdempotent);
    }
}

/// On Unix the kind is `WouldBlock` then, on Windows `TimedOut`.
#[test]
fn an_answer_that_is_late_for_the_read_timeout_of_a_blocking_socket_is_for_the_idempotent_only() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(MS)).unwrap();
    stream.write_all(&[1]).unwrap();
    let error = stream.read_exact(&mut [0]).unwrap_err();
    peer.read_exact(&mut [0]).unwrap(); // the call has arrived, and may be carried out
    assert_eq!(error.retry(), Retry::IfIdempotent, "{:?}", error.kind());
}

#[tokio::test]
async fn what_lasts_is_never_tried_again() {
    let missing = tokio::fs::read("/no/such/file").await.unwrap_err();
    assert_eq!(missing.retry(), Retry::Never);
    for kind in [
        ErrorKind::PermissionDenied,
        ErrorKind::InvalidInput,
        ErrorKind::InvalidData,
        ErrorKind::Unsupported,
        ErrorKind::Other,
    ] {
        assert_eq!(io::Error::from(kind).retry(), Retry::Never, "{kind}");
    }
}

#[test]
fn of_each_kind_of_failure_it_is_known_whether_something_was_done() {
    for kind in [
        ErrorKind::ConnectionRefused,
        ErrorKind::AddrNotAvailable,
        ErrorKind::Interrupted,
        ErrorKind::ResourceBusy,
    ] {
        assert_eq!(io::Error::from(kind).retry(), Retry::LATER, "{kind}");
    }
    for kind in [
        ErrorKind::BrokenPipe,
        ErrorKind::ConnectionAborted,
        ErrorKind::ConnectionReset,
        ErrorKind::HostUnreachable,
        ErrorKind::NetworkDown,
        ErrorKind::NetworkUnreachable,
        ErrorKind::NotConnected,
        ErrorKind::TimedOut,
        ErrorKind::UnexpectedEof,
        ErrorKind::WouldBlock,
        ErrorKind::WriteZero,
    ] {
        assert_eq!(io::Error::from(kind).retry(), Retry::IfIdempotent, "{kind}");
    }
}

#[test]
fn only_the_idempotent_may_repeat_what_was_perhaps_done() {
    let wait = |retry: Retry| [false, true].map(|idempotent| retry.wait_at_least(idempotent));
    assert_eq!(wait(Retry::Never), [None, None]);
    assert_eq!(wait(Retry::LATER), [Some(Duration::ZERO); 2]);
    assert_eq!(wait(Retry::Later { after: Some(MS) }), [Some(MS); 2]);
    assert_eq!(wait(Retry::IfIdempotent), [None, Some(Duration::ZERO)]);
}

#[derive(Debug, Error)]
enum LoadError {
    #[error("cannot load")]
    Io(#[source] io::Error),
    #[error("too slow")]
    Slow(#[source] tokio::time::error::Elapsed),
    #[error("bad input")]
    Bad,
}

#[tokio::test(start_paused = true)]
async fn the_chain_of_sources_is_asked_where_there_is_no_type() {
    let of = |error: LoadError| {
        let boxed: Box<dyn Error + Send + Sync> = Box::new(error);
        retry_of(&*boxed)
    };
    let refused = io::Error::from(ErrorKind::ConnectionRefused);
    assert_eq!(of(LoadError::Io(refused)), Retry::LATER);
    let elapsed = timeout(MS, sleep(2 * MS)).await.unwrap_err();
    assert_eq!(of(LoadError::Slow(elapsed)), Retry::IfIdempotent);
    assert_eq!(of(LoadError::Bad), Retry::Never);
    assert_eq!(
        retry_of(&io::Error::from(ErrorKind::TimedOut)),
        Retry::IfIdempotent
    );
}

#[test]
fn harm_an_error_inside_of_another_io_error_loses_its_kind() {
    let refused = io::Error::from(ErrorKind::ConnectionRefused);
    let wrapped = io::Error::other(refused);
    assert_eq!(wrapped.retry(), Retry::Never);
    assert_eq!(retry_of(&wrapped), Retry::Never);
}

#[test]
fn references_and_pointers_answer_like_the_error() {
    fn ask(error: impl Retryable) -> Retry {
        error.retry()
    }
    let refused = || io::Error::from(ErrorKind::ConnectionRefused);
    let error = refused();
    assert_eq!((ask(&error), ask(error)), (Retry::LATER, Retry::LATER));
    assert_eq!(ask(Box::new(refused())), Retry::LATER);
    assert_eq!(ask(Arc::new(refused())), Retry::LATER);
    let unnamed: Box<dyn Retryable> = Box::new(refused());
    assert_eq!(ask(unnamed), Retry::LATER);
}

/// Books each payment it receives, and answers the first too late.
async fn pay_until_answered(idempotent: bool) -> (u32, bool) {
    let (payments, mut received) = mpsc::channel::<tokio::sync::oneshot::Sender<()>>(1);
    let bank = tokio::spawn(async move {
        let mut booked = 0;
        while let Some(answer) = received.recv().await {
            booked += 1;
            sleep(if booked == 1 { 20 * MS } else { MS }).await;
            answer.send(()).ok(); // whoever paid may have left
        }
        booked
    });
    let pay = async || {
        let (answer, answered) = tokio::sync::oneshot::channel();
        payments.send(answer).await.unwrap();
        timeout(10 * MS, answered).await.map(Result::unwrap)
    };
    let paid = loop {
        match pay().await {
            Ok(()) => break true,
            Err(error) if error.retry().wait_at_least(idempotent).is_some() => sleep(30 * MS).await,
            Err(_) => break false,
        }
    };
    drop(payments);
    (bank.await.unwrap(), paid)
}

#[tokio::test(start_paused = true)]
async fn harm_a_call_that_timed_out_and_is_made_again_is_done_twice() {
    assert_eq!(pay_until_answered(true).await, (2, true));
    assert_eq!(
        pay_until_answered(false).await,
        (1, false),
        "booked once, and not known"
    );
}

#[tokio::test(start_paused = true)]
async fn harm_retries_around_retries_multiply() {
    async fn three_times(calls: &mut u32, mut call: impl AsyncFnMut(&mut u32)) {
        for _ in 0..3 {
            call(calls).await;
        }
    }
    let mut calls = 0;
    three_times(&mut calls, async |calls| {
        three_times(calls, async |calls| *calls += 1).await;
    })
    .await;
    assert_eq!(calls, 9);
}

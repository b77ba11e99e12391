//! What a retry does to a payment that was made and whose answer was late or lost.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use antipatterns::paid_twice::pay;
use errors::retryable::Retryable;
use retry::backoff::{Policy, RetryError, retry};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    /// The bank needs 1.2 s.
    Slow,
    /// The first connection breaks before its answer.
    LostAnswer,
    /// The first connection is refused.
    Refused,
}

/// Books what it receives, but nothing with a key that it knows.
#[derive(Default)]
struct Books {
    received: u32,
    booked: u32,
    keys: HashSet<u32>,
}

#[derive(Clone)]
struct Bank(Trouble, Arc<Mutex<Books>>);

impl Bank {
    fn in_trouble(trouble: Trouble) -> Self {
        Self(trouble, Arc::default())
    }

    async fn serve(self, mut client: DuplexStream) -> io::Result<()> {
        let key = client.read_u32().await?;
        if self.0 == Trouble::Slow {
            sleep(Duration::from_millis(1200)).await;
        }
        {
            let mut books = self.1.lock().unwrap();
            if key == 0 || books.keys.insert(key) {
                books.booked += 1;
            }
            if self.0 == Trouble::LostAnswer && books.received == 1 {
                return Ok(());
            }
        }
        client.write_u8(1).await
    }

    /// A request on a connection of its own. A key of 0 is none.
    async fn post(&self, key: u32) -> io::Result<()> {
        let received = {
            let mut books = self.1.lock().unwrap();
            books.received += 1;
            books.received
        };
        if self.0 == Trouble::Refused && received == 1 {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        let (mut connection, bank) = duplex(64);
        tokio::spawn(self.clone().serve(bank));
        connection.write_u32(key).await?;
        connection.read_u8().await.map(drop)
    }

    /// Requests and bookings, once everything that was sent has been carried out.
    async fn books(&self) -> (u32, u32) {
        sleep(10 * SECOND).await;
        let books = self.1.lock().unwrap();
        (books.received, books.booked)
    }
}

#[tokio::test(start_paused = true)]
async fn harm_a_slow_bank_books_three_payments_and_the_payer_is_told_of_none() {
    let bank = Bank::in_trouble(Trouble::Slow);
    let error = pay(|| bank.post(0)).await.unwrap_err();
    assert_eq!(error.to_string(), "timed out");
    assert_eq!(bank.books().await, (3, 3));
}

#[tokio::test(start_paused = true)]
async fn harm_a_lost_answer_is_booked_twice_and_told_as_paid_once() {
    let bank = Bank::in_trouble(Trouble::LostAnswer);
    pay(|| bank.post(0)).await.unwrap();
    assert_eq!(bank.books().await, (2, 2));
}

/// Pays with the same tries and limits, and asks each error whether to try again.
async fn pay_once(bank: &Bank, key: u32) -> Result<(), RetryError<io::Error>> {
    let policy = Policy {
        base: SECOND,
        cap: SECOND,
        tries: NonZeroU32::new(3).unwrap(),
        total: Duration::MAX,
    };
    let judge = |error: &io::Error| error.retry().wait_at_least(key > 0);
    let random = fastrand::Rng::with_seed(7);
    retry(&policy, random, judge, async |_| {
        timeout(SECOND, bank.post(key)).await?
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn mended_what_may_have_been_done_is_not_sent_again_and_what_was_refused_is() {
    for (trouble, books) in [
        (Trouble::Slow, (1, 1)),
        (Trouble::LostAnswer, (1, 1)),
        (Trouble::Refused, (2, 1)),
    ] {
        let bank = Bank::in_trouble(trouble);
        let paid = pay_once(&bank, 0).await;
        assert_eq!(paid.is_ok(), trouble == Trouble::Refused);
        assert_eq!(bank.books().await, books);
    }
}

#[tokio::test(start_paused = true)]
async fn mended_with_a_key_it_is_sent_again_and_booked_once() {
    let bank = Bank::in_trouble(Trouble::LostAnswer);
    pay_once(&bank, 12).await.unwrap();
    assert_eq!(bank.books().await, (2, 1));
}

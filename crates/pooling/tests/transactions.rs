//! That a transaction happens as a whole or not at all, and the next user of the connection never
//! finds a trace of it.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::error::Error as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use deadpool_postgres::{Client as Pooled, Manager, ManagerConfig, Pool, RecyclingMethod};
use pooling::transactions::{
    Fate, Settings, TransactionError, TransactionId, fate, in_transaction,
};
use servers::Postgres;
use testing::every_await_point::{Outcome, every_await_point};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, IsolationLevel, NoTls, SimpleQueryMessage, Transaction};

const LIMIT: Duration = Duration::from_secs(60);
const SETTINGS: Settings = Settings {
    isolation: IsolationLevel::ReadCommitted,
    statement_timeout: LIMIT,
};

static SERVER: LazyLock<Postgres> =
    LazyLock::new(|| Postgres::start().unwrap_or_else(|error| panic!("{error}")));

/// A pool of one connection, whose next user is therefore the next user of that connection, in a
/// schema with two accounts of 100 each.
async fn bank() -> Pool {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let schema = format!("bank{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let pool = pool_of(&schema, 1);
    let make = format!(
        "CREATE SCHEMA {schema};
         CREATE TABLE accounts (name text PRIMARY KEY, amount int NOT NULL CHECK (amount >= 0));
         INSERT INTO accounts VALUES ('ann', 100), ('bo', 100)"
    );
    pool.get()
        .await
        .unwrap()
        .batch_execute(&make)
        .await
        .unwrap();
    pool
}

fn pool_of(schema: &str, connections: usize) -> Pool {
    let mut config: tokio_postgres::Config = SERVER.url().parse().unwrap();
    config.options(format!("-c search_path={schema}"));
    let recycling_method = RecyclingMethod::Fast;
    let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method });
    Pool::builder(manager)
        .max_size(connections)
        .build()
        .unwrap()
}

/// Another connection to the same schema.
async fn other(client: &Client) -> Pooled {
    let schema: String = one(client, "SELECT current_schema::text").await;
    pool_of(&schema, 1).get().await.unwrap()
}

async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(client: &Client, query: &str) -> T {
    client.query_one(query, &[]).await.unwrap().get(0)
}

async fn amounts(client: &Client) -> (i32, i32) {
    let amount = async |name| {
        let query = format!("SELECT amount FROM accounts WHERE name = '{name}'");
        one(client, &query).await
    };
    (amount("ann").await, amount("bo").await)
}

/// 30 from one account to the other, in two statements.
async fn transfer(transaction: &mut Transaction<'_>) -> Result<u64, Error> {
    let give = "UPDATE accounts SET amount = amount - $1 WHERE name = 'ann'";
    let take = "UPDATE accounts SET amount = amount + $1 WHERE name = 'bo'";
    let given = transaction.execute(give, &[&30]).await?;
    let taken = transaction.execute(take, &[&30]).await?;
    Ok(given + taken)
}

/// Whether this statement's transaction is its own. One that was open is older.
async fn is_outside(client: &Client) -> bool {
    let query = "SELECT now() = statement_timestamp()";
    let answer = client.simple_query(query).await.unwrap();
    answer
        .iter()
        .any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("t")))
}

/// The next user finds a session outside of any transaction, with its own settings, and what it writes
/// is kept: another connection sees it.
async fn assert_clean(client: &Client) {
    assert!(
        is_outside(client).await,
        "it is in the last one's transaction"
    );
    assert_eq!(one::<String>(client, "SHOW statement_timeout").await, "0");
    let write = "INSERT INTO accounts VALUES ('next', 1)";
    client.batch_execute(write).await.unwrap();
    let other = other(client).await;
    let seen: i64 = one(&other, "SELECT count(*) FROM accounts WHERE name = 'next'").await;
    assert_eq!(seen, 1, "what the next user wrote is lost");
}

#[tokio::test]
async fn work_that_succeeds_is_committed() {
    let pool = bank().await;
    let mut client = pool.get().await.unwrap();
    let changed = in_transaction(&mut client, SETTINGS, transfer)
        .await
        .unwrap();
    assert_eq!(changed, 2);
    assert_eq!(amounts(&*other(&client).await).await, (70, 130));
    assert_clean(&client).await;
}

#[tokio::test]
async fn work_that_fails_is_rolled_back_before_its_error_is_returned() {
    let pool = bank().await;
    let other = pool.get().await.unwrap();
    let schema: String = one(&other, "SELECT current_schema::text").await;
    let mut client = through_a_wire(&schema, CutAt::Nowhere).await;
    let failing = in_transaction(&mut client, SETTINGS, async |transaction| {
        transfer(transaction).await.unwrap();
        Err::<(), _>("no")
    });
    let error = failing.await.unwrap_err();
    assert!(matches!(error, TransactionError::Work("no")), "{error:?}");
    // Its locks are gone too: no wait at all is allowed here.
    let rows = other
        .query("SELECT * FROM accounts FOR UPDATE NOWAIT", &[])
        .await;
    assert_eq!(rows.unwrap().len(), 2);
    assert_eq!(amounts(&other).await, (100, 100));
    assert_clean(&client).await;
}

#[tokio::test]
async fn work_that_panics_is_rolled_back() {
    let pool = bank().await;
    let task = tokio::spawn({
        let pool = pool.clone();
        async move {
            let mut client = pool.get().await.unwrap();
            let work = async |transaction: &mut Transaction<'_>| {
                transfer(transaction).await?;
                assert_eq!(1, 2, "a fault");
                Ok::<_, Error>(())
            };
            in_transaction(&mut client, SETTINGS, work).await
        }
    });
    assert!(task.await.unwrap_err().is_panic());
    let client = pool.get().await.unwrap();
    assert_eq!(amounts(&client).await, (100, 100));
    assert_clean(&client).await;
}

/// Dropped at each await, the pool's only connection goes back to the pool and is used at once.
#[tokio::test]
async fn dropped_at_any_point_all_or_nothing_has_happened_and_the_next_user_finds_it_clean() {
    struct State {
        pool: Pool,
        /// Whether the work had been done, so that only the commit was left.
        worked: bool,
        backend: i32,
    }
    let setup = async || {
        let pool = bank().await;
        let backend = one(&pool.get().await.unwrap(), "SELECT pg_backend_pid()").await;
        let worked = false;
        State {
            pool,
            worked,
            backend,
        }
    };
    let operation = async |state: &mut State| {
        let mut client = state.pool.get().await.unwrap();
        in_transaction(&mut client, SETTINGS, async |transaction| {
            let changed = transfer(transaction).await;
            state.worked = true;
            changed
        })
        .await
    };
    let committed = AtomicU32::new(0);
    let check = async |state: State, outcome: Outcome<Result<u64, TransactionError<Error>>>| {
        let client = state.pool.get().await.unwrap();
        let backend: i32 = one(&client, "SELECT pg_backend_pid()").await;
        assert_eq!(backend, state.backend, "it was given another connection");
        match (outcome, amounts(&client).await) {
            (Outcome::Completed(changed), (70, 130)) => assert_eq!(changed.unwrap(), 2),
            (Outcome::Dropped(_), (100, 100)) => {}
            (Outcome::Dropped(_), (70, 130)) if state.worked => {
                committed.fetch_add(1, Ordering::Relaxed);
            }
            (outcome, amounts) => panic!("{outcome:?} with {amounts:?}"),
        }
        assert_clean(&client).await;
    };
    let points = every_await_point(LIMIT, setup, operation, check).await;
    // BEGIN, SET, two statements that are prepared and executed, the check, COMMIT.
    assert!(points.unwrap() >= 8);
    // Dropped while the commit is under way, it has happened.
    assert!(committed.into_inner() >= 1);
}

/// By hand, without the harness: as many polls as it takes.
#[tokio::test]
async fn dropped_after_any_number_of_polls_nothing_is_left() {
    let pool = bank().await;
    let mut done = 0;
    for polls in 1.. {
        let mut client = pool.get().await.unwrap();
        let before = amounts(&client).await;
        let mut left = polls;
        let mut work = Box::pin(in_transaction(&mut client, SETTINGS, async |transaction| {
            let transfer = "UPDATE accounts SET amount = amount - 1 WHERE name = 'ann'";
            transaction.batch_execute(transfer).await?;
            let transfer = "UPDATE accounts SET amount = amount + 1 WHERE name = 'bo'";
            transaction.batch_execute(transfer).await
        }));
        let ended = std::future::poll_fn(|cx| {
            if left == 0 {
                return std::task::Poll::Ready(None);
            }
            left -= 1;
            work.as_mut().poll(cx).map(Some)
        })
        .await;
        drop(work);
        drop(client);
        let client = pool.get().await.unwrap();
        let after = amounts(&client).await;
        assert_eq!(after.0 + after.1, 200, "after {polls} polls");
        assert!(is_outside(&client).await, "after {polls} polls");
        if let Some(result) = ended {
            result.unwrap();
            assert_eq!(after.0, before.0 - 1);
            done = polls;
            break;
        }
    }
    assert!(
        done > 6,
        "{done} polls, and as many awaits as BEGIN, SET, 2, check and COMMIT"
    );
}

#[tokio::test]
async fn the_next_user_waits_no_longer_than_the_statement_may_take() {
    let pool = bank().await;
    let settings = Settings {
        statement_timeout: Duration::from_secs(1),
        ..SETTINGS
    };
    let mut client = pool.get().await.unwrap();
    let (other, backend) = (
        other(&client).await,
        one::<i32>(&client, "SELECT pg_backend_pid()").await,
    );
    let sleeping = format!(
        "SELECT count(*) FROM pg_stat_activity
         WHERE pid = {backend} AND query = 'SELECT pg_sleep(30)' AND state = 'active'"
    );
    let slow = async |transaction: &mut Transaction<'_>| {
        transfer(transaction).await?;
        transaction.batch_execute("SELECT pg_sleep(30)").await
    };
    let started = Instant::now();
    tokio::select! {
        ended = in_transaction(&mut client, settings, slow) => panic!("{ended:?}"),
        () = async { while one::<i64>(&other, &sleeping).await == 0 {} } => (),
    }
    drop(client);
    let client = pool.get().await.unwrap();
    assert_eq!(amounts(&client).await, (100, 100));
    assert!(
        started.elapsed() >= settings.statement_timeout,
        "it waits for the statement's end"
    );
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "and not for 30 s"
    );
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_ended_by_the_server() {
    let pool = bank().await;
    let mut client = pool.get().await.unwrap();
    // No time at all must not be taken for no limit, nor endless time be refused.
    for (limit, in_time) in [(Duration::ZERO, false), (Duration::MAX, true)] {
        let settings = Settings {
            statement_timeout: limit,
            ..SETTINGS
        };
        let slow = async |transaction: &mut Transaction<'_>| {
            transaction.batch_execute("SELECT pg_sleep(0.2)").await
        };
        let ended = in_transaction(&mut client, settings, slow).await;
        match ended {
            Ok(()) => assert!(in_time),
            Err(TransactionError::Work(error) | TransactionError::RolledBack(error)) => {
                assert!(!in_time);
                assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_clean(&client).await;
}

#[tokio::test]
async fn a_swallowed_failure_is_an_error_and_a_savepoint_mends_it() {
    let pool = bank().await;
    let mut client = pool.get().await.unwrap();
    let refused = "INSERT INTO accounts VALUES ('ann', 1)";
    let swallowing = in_transaction(&mut client, SETTINGS, async |transaction| {
        transfer(transaction).await?;
        drop(transaction.batch_execute(refused).await);
        Ok::<_, Error>(())
    });
    let error = swallowing.await.unwrap_err();
    assert!(matches!(error, TransactionError::Aborted), "{error:?}");
    assert!(!error.is_retryable());
    assert_eq!(amounts(&client).await, (100, 100));
    let going_on = in_transaction(&mut client, SETTINGS, async |transaction| {
        transfer(transaction).await?;
        let savepoint = transaction.transaction().await?;
        drop(savepoint.batch_execute(refused).await);
        savepoint.rollback().await
    });
    going_on.await.unwrap();
    assert_eq!(amounts(&client).await, (70, 130));
    assert_clean(&client).await;
}

#[tokio::test]
async fn harm_a_commit_after_a_failed_statement_rolls_back_and_says_ok() {
    let pool = bank().await;
    let mut client = pool.get().await.unwrap();
    let mut transaction = tokio_postgres::Client::transaction(&mut client)
        .await
        .unwrap();
    transfer(&mut transaction).await.unwrap();
    let refused = "INSERT INTO accounts VALUES ('ann', 1)";
    assert!(transaction.batch_execute(refused).await.is_err());
    assert!(transaction.commit().await.is_ok());
    assert_eq!(amounts(&client).await, (100, 100));
}

/// What is refused at the commit itself is known to be rolled back.
#[tokio::test]
async fn a_refused_commit_is_rolled_back_and_not_unknown() {
    let pool = bank().await;
    let mut client = pool.get().await.unwrap();
    let deferred =
        "CREATE TABLE owners (name text REFERENCES accounts DEFERRABLE INITIALLY DEFERRED)";
    client.batch_execute(deferred).await.unwrap();
    let work = in_transaction(&mut client, SETTINGS, async |transaction| {
        transfer(transaction).await?;
        transaction
            .batch_execute("INSERT INTO owners VALUES ('nobody')")
            .await
    });
    let error = work.await.unwrap_err();
    let TransactionError::RolledBack(refusal) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(refusal.code(), Some(&SqlState::FOREIGN_KEY_VIOLATION));
    assert!(!error.is_retryable());
    assert_eq!(amounts(&client).await, (100, 100));
    assert_clean(&client).await;
}

#[tokio::test]
async fn lost_against_another_transaction_it_is_retryable_and_then_succeeds() {
    let pool = bank().await;
    let mut client = pool.get().await.unwrap();
    let rival = other(&client).await;
    let settings = Settings {
        isolation: IsolationLevel::Serializable,
        ..SETTINGS
    };
    let mut tries = 0;
    loop {
        tries += 1;
        let work = in_transaction(&mut client, settings, async |transaction| {
            // The snapshot is taken, and then somebody else writes.
            let _: i64 = transaction
                .query_one("SELECT count(*) FROM accounts", &[])
                .await?
                .get(0);
            if tries == 1 {
                let deposit = "UPDATE accounts SET amount = amount + 5 WHERE name = 'ann'";
                rival.batch_execute(deposit).await?;
            }
            transfer(transaction).await
        });
        match work.await {
            Ok(_) => break,
            Err(error) => {
                assert!(error.is_retryable(), "{error:?}");
                assert_eq!(tries, 1);
            }
        }
    }
    assert_eq!((tries, amounts(&client).await), (2, (75, 130)));
}

/// Two that each read what the other writes: one of them learns it only when it commits.
#[tokio::test]
async fn a_conflict_that_shows_at_the_commit_is_retryable() {
    let pool = bank().await;
    let mut client = pool.get().await.unwrap();
    let mut rival = other(&client).await;
    let settings = Settings {
        isolation: IsolationLevel::Serializable,
        ..SETTINGS
    };
    let work = in_transaction(&mut client, settings, async |transaction| {
        let first = amount(transaction, "ann").await?;
        let set_bo = in_transaction(&mut rival, settings, async |rival| {
            let second = amount(rival, "bo").await?;
            let set = "UPDATE accounts SET amount = $1 WHERE name = 'ann'";
            rival.execute(set, &[&(second + 1)]).await
        });
        let set = "UPDATE accounts SET amount = $1 WHERE name = 'bo'";
        transaction.execute(set, &[&(first + 1)]).await?;
        set_bo.await.unwrap();
        Ok::<_, Error>(())
    });
    let error = work.await.unwrap_err();
    assert!(
        matches!(error, TransactionError::RolledBack(_)),
        "{error:?}"
    );
    assert!(error.is_retryable());
    assert_clean(&client).await;
}

async fn amount(transaction: &Transaction<'_>, name: &str) -> Result<i32, Error> {
    let query = "SELECT amount FROM accounts WHERE name = $1";
    Ok(transaction.query_one(query, &[&name]).await?.get(0))
}

#[tokio::test]
async fn the_loser_of_a_deadlock_is_retryable() {
    let pool = bank().await;
    let mut client = pool.get().await.unwrap();
    let mut rival = other(&client).await;
    for client in [&client, &rival] {
        client
            .batch_execute("SET deadlock_timeout = '50ms'")
            .await
            .unwrap();
    }
    let meet = tokio::sync::Barrier::new(2);
    let lock_both = async |client: &mut Client, first: &str, second: &str| {
        in_transaction(client, SETTINGS, async |transaction| {
            let lock = "SELECT * FROM accounts WHERE name = $1 FOR UPDATE";
            transaction.query(lock, &[&first]).await?;
            meet.wait().await;
            transaction.query(lock, &[&second]).await
        })
        .await
        .map(drop)
    };
    let ended = tokio::join!(
        lock_both(&mut client, "ann", "bo"),
        lock_both(&mut rival, "bo", "ann")
    );
    let ((Ok(()), Err(error)) | (Err(error), Ok(()))) = ended else {
        panic!("{ended:?}");
    };
    assert!(error.is_retryable(), "{error:?}");
    assert_clean(&client).await;
}

/// An error of one's own is looked through, down to the server's.
#[tokio::test]
async fn only_conflicts_are_retryable() {
    #[derive(Debug, thiserror::Error)]
    #[error("the transfer failed")]
    struct Mine(#[from] Error);

    let pool = bank().await;
    let mut client = pool.get().await.unwrap();
    for (code, retryable) in [
        ("40001", true),
        ("40P01", true),
        ("40002", false),
        ("23505", false),
        ("57014", false),
    ] {
        let work = in_transaction(&mut client, SETTINGS, async |transaction| {
            let raise =
                format!("DO $$ BEGIN RAISE EXCEPTION 'so' USING ERRCODE = '{code}'; END $$");
            transaction.batch_execute(&raise).await.map_err(Mine)
        });
        let error = work.await.unwrap_err();
        assert_eq!(error.is_retryable(), retryable, "{code}");
        let mine = error.source().map(ToString::to_string);
        assert_eq!(mine.as_deref(), Some("the transfer failed"));
    }
    assert_clean(&client).await;
}

/// Where the wire is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CutAt {
    BeforeTheServerHasTheCommit,
    WhileTheServerCommits,
    BeforeTheClientHasTheAnswer,
    Nowhere,
}

/// A connection through a wire that is cut at the commit.
async fn through_a_wire(schema: &str, cut_at: CutAt) -> Client {
    let mut config: tokio_postgres::Config = SERVER.url().parse().unwrap();
    config.options(format!("-c search_path={schema}"));
    let folder = SERVER.url().split(['=', ' ']).nth(1).unwrap();
    let server = UnixStream::connect(format!("{folder}/.s.PGSQL.5432"))
        .await
        .unwrap();
    let (near, far) = duplex(1 << 16);
    tokio::spawn(relay(far, server, cut_at));
    let (client, connection) = config.connect_raw(near, NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) }); // the client hears of its end
    client
}

async fn relay(client: DuplexStream, server: UnixStream, cut_at: CutAt) {
    let (mut from_client, mut to_client) = split(client);
    let (mut from_server, mut to_server) = server.into_split();
    let (mut request, mut answer) = ([0; 4096], [0; 4096]);
    loop {
        tokio::select! {
            length = from_client.read(&mut request) => {
                let request = &request[..length.unwrap()];
                let is_commit = request.windows(7).any(|it| it == b"COMMIT\0");
                if request.is_empty() || is_commit && cut_at == CutAt::BeforeTheServerHasTheCommit {
                    return;
                }
                if request.windows(9).any(|it| it == b"ROLLBACK\0") {
                    sleep(Duration::from_millis(50)).await; // a long way
                }
                to_server.write_all(request).await.unwrap();
                if is_commit && cut_at == CutAt::BeforeTheClientHasTheAnswer {
                    drop(from_server.read(&mut answer).await);
                }
                if is_commit && cut_at != CutAt::Nowhere {
                    return;
                }
            }
            length = from_server.read(&mut answer) => {
                to_client.write_all(&answer[..length.unwrap()]).await.unwrap();
            }
        }
    }
}

async fn known_fate(client: &Client, id: TransactionId) -> Fate {
    loop {
        match fate(client, id).await.unwrap() {
            Fate::InProgress => sleep(Duration::from_millis(5)).await,
            known => return known,
        }
    }
}

#[tokio::test]
async fn a_commit_that_was_cut_off_is_unknown_and_its_fate_can_be_asked() {
    for (cut_at, expected, amounts_then) in [
        (
            CutAt::BeforeTheServerHasTheCommit,
            Fate::RolledBack,
            (100, 100),
        ),
        (
            CutAt::BeforeTheClientHasTheAnswer,
            Fate::Committed,
            (70, 130),
        ),
    ] {
        let pool = bank().await;
        let witness = pool.get().await.unwrap();
        let schema: String = one(&witness, "SELECT current_schema::text").await;
        let mut client = through_a_wire(&schema, cut_at).await;
        let error = in_transaction(&mut client, SETTINGS, transfer)
            .await
            .unwrap_err();
        let TransactionError::Unknown {
            transaction: Some(id),
            ..
        } = error
        else {
            panic!("{error:?}");
        };
        assert!(!error.is_retryable(), "twice would be wrong");
        let known = timeout(LIMIT, known_fate(&witness, id)).await.unwrap();
        assert_eq!(known, expected, "{cut_at:?}");
        assert_eq!(amounts(&witness).await, amounts_then, "{cut_at:?}");
    }
}

/// So that a commit takes a second: long enough to be looked at, on a busy machine too.
async fn slow_commits(client: &Client) {
    let slow = "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER wait AFTER UPDATE ON accounts DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION wait()";
    client.batch_execute(slow).await.unwrap();
}

#[tokio::test]
async fn a_cut_off_commit_that_still_goes_on_is_in_progress() {
    let pool = bank().await;
    let witness = pool.get().await.unwrap();
    slow_commits(&witness).await;
    let schema: String = one(&witness, "SELECT current_schema::text").await;
    let mut client = through_a_wire(&schema, CutAt::WhileTheServerCommits).await;
    let error = in_transaction(&mut client, SETTINGS, transfer)
        .await
        .unwrap_err();
    let TransactionError::Unknown {
        transaction: Some(id),
        ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(fate(&witness, id).await.unwrap(), Fate::InProgress);
    let known = timeout(LIMIT, known_fate(&witness, id)).await.unwrap();
    assert_eq!(known, Fate::Committed);
    assert_eq!(amounts(&witness).await, (70, 130));
}

#[tokio::test]
async fn the_fate_of_no_transaction_and_of_one_to_come() {
    let pool = bank().await;
    let client = pool.get().await.unwrap();
    let of_none = fate(&client, TransactionId(0)).await.unwrap();
    assert_eq!(of_none, Fate::Forgotten);
    assert!(fate(&client, TransactionId(u64::MAX / 2)).await.is_err());
}

/// FATAL is not a refusal: where a commit waits for a replica, it comes after the commit.
#[tokio::test]
async fn a_session_that_is_ended_within_the_commit_is_unknown() {
    let pool = bank().await;
    let mut client = pool.get().await.unwrap();
    slow_commits(&client).await;
    let witness = other(&client).await;
    let backend: i32 = one(&client, "SELECT pg_backend_pid()").await;
    let end = async {
        let committing = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = {backend} AND query = 'COMMIT' AND state = 'active'"
        );
        while one::<i64>(&witness, &committing).await == 0 {
            sleep(Duration::from_millis(5)).await;
        }
        let end = format!("SELECT pg_terminate_backend({backend})");
        assert!(one::<bool>(&witness, &end).await);
    };
    let (ended, ()) = tokio::join!(in_transaction(&mut client, SETTINGS, transfer), end);
    let error = ended.unwrap_err();
    let TransactionError::Unknown {
        transaction: Some(id),
        source,
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(source.code(), Some(&SqlState::ADMIN_SHUTDOWN));
    let known = timeout(LIMIT, known_fate(&witness, id)).await.unwrap();
    assert_eq!(known, Fate::RolledBack);
}

#[tokio::test]
async fn a_connection_that_is_lost_before_the_commit_is_rolled_back() {
    let pool = bank().await;
    let mut client = pool.get().await.unwrap();
    let end = "SELECT pg_terminate_backend(pg_backend_pid())";
    let work = in_transaction(&mut client, SETTINGS, async |transaction| {
        transfer(transaction).await?;
        drop(transaction.batch_execute(end).await);
        Ok::<_, Error>(())
    });
    let error = work.await.unwrap_err();
    assert!(
        matches!(error, TransactionError::RolledBack(_)),
        "{error:?}"
    );
    // And so is one that is lost before it begins.
    let work = in_transaction(&mut client, SETTINGS, transfer).await;
    assert!(
        matches!(work, Err(TransactionError::RolledBack(_))),
        "{work:?}"
    );
    drop(client);
    let client = pool.get().await.unwrap();
    assert_eq!(amounts(&client).await, (100, 100));
    assert_clean(&client).await;
}

#[tokio::test]
async fn it_runs_in_a_task_that_may_move_between_threads() {
    let pool = bank().await;
    let task = tokio::spawn({
        let pool = pool.clone();
        async move {
            let mut client = pool.get().await.unwrap();
            let name = "ann".to_owned();
            in_transaction(&mut client, SETTINGS, async |transaction| {
                amount(transaction, &name).await
            })
            .await
        }
    });
    assert_eq!(task.await.unwrap().unwrap(), 100);
}

#[tokio::test]
async fn harm_a_raw_begin_that_is_dropped_takes_the_next_users_writes_with_it() {
    let pool = bank().await;
    let client = pool.get().await.unwrap();
    let handler = async {
        client.batch_execute("BEGIN").await.unwrap();
        std::future::pending::<()>().await; // work that takes too long
        client.batch_execute("COMMIT").await.unwrap();
    };
    assert!(timeout(Duration::from_millis(20), handler).await.is_err());
    drop(client);

    let next = pool.get().await.unwrap();
    let write = "INSERT INTO accounts VALUES ('next', 1)";
    next.batch_execute(write).await.unwrap(); // it says that all is well
    let other = other(&next).await;
    let kept = "SELECT count(*) FROM accounts WHERE name = 'next'";
    assert_eq!(one::<i64>(&other, kept).await, 0, "nobody else sees it");
    drop(Pooled::take(next)); // the connection ends one day, and the write with it
    assert_eq!(one::<i64>(&other, kept).await, 0);
}

#[tokio::test]
async fn harm_a_raw_begin_that_failed_and_was_dropped_refuses_whatever_comes_next() {
    let pool = bank().await;
    let client = pool.get().await.unwrap();
    let failing = async {
        client.batch_execute("BEGIN; SELECT 1 / 0").await?;
        client.batch_execute("COMMIT").await
    };
    assert!(failing.await.is_err()); // `?` has left out the ROLLBACK
    drop(client);
    let next = pool.get().await.unwrap();
    let error = next.batch_execute("SELECT 1").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    let said = error.as_db_error().unwrap().message();
    assert!(said.contains("current transaction is aborted"), "{said}");
}

#[tokio::test]
async fn harm_a_commit_within_the_work_cannot_be_taken_back() {
    let pool = bank().await;
    let mut client = pool.get().await.unwrap();
    let work = in_transaction(&mut client, SETTINGS, async |transaction| {
        transfer(transaction).await.unwrap();
        transaction.batch_execute("COMMIT").await.unwrap();
        Err::<(), _>("no")
    });
    assert!(matches!(work.await, Err(TransactionError::Work("no"))));
    assert_eq!(amounts(&client).await, (70, 130));
    assert_clean(&client).await;
}

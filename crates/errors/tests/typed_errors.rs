//! That each way for a lookup to fail is a variant of its own, made by a real PostgreSQL.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::time::Duration;

use errors::typed_errors::{Columns, LookupError, find_one};
use servers::Postgres;
use testing::every_await_point::{Outcome, every_await_point};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

const LIMIT: Duration = Duration::from_secs(60);

/// One for all tests of this file, but for those that stop it.
static SERVER: LazyLock<Postgres> =
    LazyLock::new(|| Postgres::shared().unwrap_or_else(|error| panic!("{error}")));

async fn connect(server: &Postgres) -> (Client, JoinHandle<()>) {
    let (client, connection) = tokio_postgres::connect(server.url(), NoTls).await.unwrap();
    let task = tokio::spawn(async move { drop(connection.await) }); // the client hears of its end
    (client, task)
}

/// With a table of its own that only this connection sees.
async fn users() -> Client {
    let (client, _) = connect(&SERVER).await;
    let users = "CREATE TEMPORARY TABLE users (id int PRIMARY KEY, name text, age int NOT NULL);
        INSERT INTO users VALUES (1, 'Ann', 7), (2, NULL, 8), (3, 'Cy', 8)";
    client.batch_execute(users).await.unwrap();
    client
}

#[derive(Debug, PartialEq)]
struct User {
    name: String,
    age: i32,
}

fn user(row: &Columns) -> Result<User, LookupError> {
    Ok(User {
        name: row.get("name")?,
        age: row.get("age")?,
    })
}

async fn by_id(client: &Client, id: i32) -> Result<User, LookupError> {
    let query = "SELECT * FROM users WHERE id = $1";
    find_one(client, LIMIT, query, &[&id], user).await
}

#[tokio::test]
async fn a_row_is_read_by_the_names_of_its_columns() {
    let client = users().await;
    let ann = User {
        name: "Ann".to_owned(),
        age: 7,
    };
    assert_eq!(by_id(&client, 1).await.unwrap(), ann);
    // Whatever their order.
    let query = "SELECT age, id, name FROM users WHERE id = 1";
    assert_eq!(
        find_one(&client, LIMIT, query, &[], user).await.unwrap(),
        ann
    );
}

#[tokio::test]
async fn no_row_and_several_are_told_apart() {
    let client = users().await;
    assert!(matches!(
        by_id(&client, 9).await,
        Err(LookupError::NotFound)
    ));
    let query = "SELECT * FROM users WHERE age = 8";
    let error = find_one(&client, LIMIT, query, &[], user)
        .await
        .unwrap_err();
    assert!(matches!(error, LookupError::Ambiguous), "{error}");
    let many = "SELECT 'x' AS name, 1 AS age FROM generate_series(1, 100000)";
    let error = find_one(&client, LIMIT, many, &[], user).await.unwrap_err();
    assert!(matches!(error, LookupError::Ambiguous), "{error}");
    assert!(by_id(&client, 1).await.is_ok(), "the connection goes on");
}

#[tokio::test]
async fn a_column_that_is_null_missing_or_of_another_type_is_named() {
    let client = users().await;
    for (query, column, cause) in [
        ("SELECT * FROM users WHERE id = 2", "name", "NULL"),
        ("SELECT 'Ann' AS nane, 7 AS age", "name", "invalid column"),
        ("SELECT 'Ann' AS name, 7::bigint AS age", "age", "int8"),
    ] {
        let error = find_one(&client, LIMIT, query, &[], user)
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("column `{column}` cannot be read")
        );
        let mut said = String::new();
        let mut next = error.source();
        while let Some(cause) = next {
            said += &format!("{cause} ");
            next = cause.source();
        }
        assert!(said.contains(cause), "{said}");
    }
    let nullable = |row: &Columns| row.get::<Option<String>>("name");
    let query = "SELECT * FROM users WHERE id = 2";
    let name = find_one(&client, LIMIT, query, &[], nullable)
        .await
        .unwrap();
    assert_eq!(name, None);
}

#[tokio::test]
async fn a_refused_query_tells_its_message_and_code() {
    let client = users().await;
    for (query, code, message) in [
        (
            "SELECT * FROM user_s",
            SqlState::UNDEFINED_TABLE,
            "\"user_s\" does not exist",
        ),
        ("SELECT 1 +", SqlState::SYNTAX_ERROR, "syntax error"),
        (
            "SELECT 1 / 0",
            SqlState::DIVISION_BY_ZERO,
            "division by zero",
        ),
        (
            "INSERT INTO users VALUES (1, 'Bo', 9) RETURNING name, age",
            SqlState::UNIQUE_VIOLATION,
            "duplicate key",
        ),
    ] {
        let error = find_one(&client, LIMIT, query, &[], user)
            .await
            .unwrap_err();
        assert_eq!(error.code(), Some(&code));
        let said = error.to_string();
        assert!(
            said.contains(message) && said.contains(code.code()),
            "{said}"
        );
        assert!(error.source().is_none(), "or it would be printed twice");
    }
    assert_eq!(LookupError::NotFound.code(), None);
}

#[tokio::test]
async fn a_parameter_of_another_type_is_a_failure_and_not_a_panic() {
    let client = users().await;
    let query = "SELECT * FROM users WHERE id = $1";
    let error = find_one(&client, LIMIT, query, &[&"one"], user)
        .await
        .unwrap_err();
    assert!(matches!(error, LookupError::Failed(_)), "{error}");
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_timed_out_and_the_connection_goes_on() {
    let client = users().await;
    let limit = Duration::from_millis(500); // a busy machine has brought it to the server by then
    let slow = "SELECT 'x' AS name, 1 AS age FROM pg_sleep(1)";
    let started = Instant::now();
    let error = find_one(&client, limit, slow, &[], user).await.unwrap_err();
    assert!(
        matches!(error, LookupError::TimedOut { limit: it } if it == limit),
        "{error}"
    );
    // What comes next waits for the rest of it.
    assert!(by_id(&client, 1).await.is_ok());
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn no_time_and_endless_time_are_no_panic() {
    let client = users().await;
    let query = "SELECT 'Ann' AS name, 7 AS age FROM pg_sleep(0.1)";
    for (limit, in_time) in [(Duration::ZERO, false), (Duration::MAX, true)] {
        let found = find_one(&client, limit, query, &[], user).await;
        assert_eq!(found.is_ok(), in_time, "{found:?}");
    }
}

async fn is_running(marked: &str) -> bool {
    let (client, _) = connect(&SERVER).await;
    let query = "SELECT count(*) AS running FROM pg_stat_activity
        WHERE state = 'active' AND query LIKE $1 AND pid <> pg_backend_pid()";
    let count = |row: &Columns| row.get::<i64>("running");
    let pattern = format!("%{marked}%");
    find_one(&client, LIMIT, query, &[&pattern], count)
        .await
        .unwrap()
        > 0
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait)
        .await
        .expect("it never came");
}

#[tokio::test]
async fn harm_a_query_that_timed_out_goes_on_in_the_server() {
    let (client, _) = connect(&SERVER).await;
    let limit = Duration::from_secs(1); // enough for a busy machine to bring it to the server
    let slow = "SELECT 1 AS marked_one FROM pg_sleep(60)";
    let one = |row: &Columns| row.get::<i32>("marked_one");
    let error = find_one(&client, limit, slow, &[], one).await.unwrap_err();
    assert!(matches!(error, LookupError::TimedOut { .. }), "{error}");
    assert!(is_running("marked_one").await);
    // Not even the end of the connection ends it, before the server comes to write its answer.
    let cancel = client.cancel_token();
    drop(client);
    assert!(is_running("marked_one").await);
    cancel.cancel_query(NoTls).await.unwrap();
    until(async || !is_running("marked_one").await).await;
}

#[tokio::test]
async fn with_a_statement_timeout_the_server_ends_it() {
    let (client, _) = connect(&SERVER).await;
    client
        .batch_execute("SET statement_timeout = '100ms'")
        .await
        .unwrap();
    let slow = "SELECT 1 AS marked_two FROM pg_sleep(60)";
    let one = |row: &Columns| row.get::<i32>("marked_two");
    let error = find_one(&client, LIMIT, slow, &[], one).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
    until(async || !is_running("marked_two").await).await;
}

#[tokio::test]
async fn a_connection_that_is_lost_before_or_within_the_query_is_closed() {
    let server = Postgres::start().unwrap();
    // The connection's task is gone.
    let (client, task) = connect(&server).await;
    task.abort();
    drop(task.await);
    assert!(matches!(
        by_id(&client, 1).await,
        Err(LookupError::Closed(_))
    ));
    // An administrator ends the session.
    let (client, _) = connect(&server).await;
    let query = "SELECT pg_terminate_backend(pg_backend_pid()) AS ended FROM pg_sleep(0.01)";
    let ended = |row: &Columns| row.get::<bool>("ended");
    let error = find_one(&client, LIMIT, query, &[], ended)
        .await
        .unwrap_err();
    assert!(matches!(error, LookupError::Closed(_)), "{error:?}");
    // The server goes, while a query waits and before one is made.
    let (client, _) = connect(&server).await;
    let slow = find_one(
        &client,
        LIMIT,
        "SELECT true AS ended FROM pg_sleep(60)",
        &[],
        ended,
    );
    let stop = async {
        sleep(Duration::from_millis(100)).await;
        server.stop().unwrap();
    };
    let (within, ()) = tokio::join!(slow, stop);
    assert!(matches!(within, Err(LookupError::Closed(_))), "{within:?}");
    let after = by_id(&client, 1).await;
    assert!(matches!(after, Err(LookupError::Closed(_))), "{after:?}");
}

/// A server that lets everybody in, and ends the session with this error at the first query. Each field
/// of the error is a letter and a text.
async fn ends_the_session(fields: &'static [&'static str]) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let length = stream.read_u32().await.unwrap();
        let mut rest = vec![0; length as usize - 4];
        stream.read_exact(&mut rest).await.unwrap();
        // No password is needed, and it is ready.
        stream
            .write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")
            .await
            .unwrap();
        stream.read_u8().await.unwrap();
        let mut body = fields.join("\0").into_bytes();
        body.extend(b"\0\0");
        stream.write_u8(b'E').await.unwrap();
        stream
            .write_u32(u32::try_from(body.len()).unwrap() + 4)
            .await
            .unwrap();
        stream.write_all(&body).await.unwrap();
        std::future::pending::<()>().await; // it is the error that says it, and not the end of the stream
    });
    let url = format!("host=127.0.0.1 port={port} user=postgres sslmode=disable");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

#[tokio::test]
async fn whatever_ends_the_session_is_closed_whichever_code_it_has() {
    for fields in [
        &["SFATAL", "VFATAL", "C57P01", "Man administrator"][..],
        &["SFATAL", "VFATAL", "C25P04", "Mtransaction timeout"],
        &["SFATAL", "VFATAL", "C40001", "Mconflict with recovery"],
        &["SFATAL", "VFATAL", "C57P04", "Mthe database is dropped"],
        &["SPANIC", "VPANIC", "CXX000", "Man internal error"],
        // In another language, and as written by what does not tell the severity twice.
        &["SFATALE", "VFATAL", "C25P04", "Mtransaction timeout"],
        &["SFATAL", "C08P01", "Mpooler"],
        &["SPANIC", "C08P01", "Mpooler"],
    ] {
        let client = ends_the_session(fields).await;
        let error = by_id(&client, 1).await.unwrap_err();
        assert!(matches!(error, LookupError::Closed(Some(_))), "{error:?}");
    }
    let client = ends_the_session(&["SERROR", "C40001", "Mpooler"]).await;
    let error = by_id(&client, 1).await.unwrap_err();
    assert!(matches!(error, LookupError::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn a_code_of_a_shutdown_in_an_error_that_ends_no_session_is_a_refusal() {
    let client = users().await;
    let raise = "CREATE FUNCTION pg_temp.raise() RETURNS int LANGUAGE plpgsql
        AS $$ BEGIN RAISE SQLSTATE '57P01'; END $$";
    client.batch_execute(raise).await.unwrap();
    let one = |row: &Columns| row.get::<i32>("one");
    let error = find_one(&client, LIMIT, "SELECT pg_temp.raise() AS one", &[], one)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::ADMIN_SHUTDOWN));
    assert_eq!(by_id(&client, 3).await.unwrap().name, "Cy");
}

#[tokio::test]
async fn a_server_that_hangs_is_a_timeout() {
    let server = Postgres::start().unwrap();
    let (client, _) = connect(&server).await;
    let one = |row: &Columns| row.get::<i32>("one");
    let query = "SELECT 1 AS one, pg_sleep(60)";
    let error = find_one(&client, Duration::from_millis(100), query, &[], one).await;
    assert!(
        matches!(error, Err(LookupError::TimedOut { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn dropped_at_any_point_the_connection_can_be_used_at_once() {
    let points = every_await_point(
        LIMIT,
        users,
        async |client| by_id(client, 1).await,
        async |client, outcome| {
            if let Outcome::Completed(found) = outcome {
                assert_eq!(found.unwrap().name, "Ann");
            }
            assert_eq!(by_id(&client, 3).await.unwrap().name, "Cy");
        },
    )
    .await;
    assert!(points.unwrap() >= 2);
}

#[tokio::test]
async fn harm_the_librarys_error_says_neither_what_was_refused_nor_which_column() {
    let client = users().await;
    let error = client
        .query_one("SELECT * FROM user_s", &[])
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "db error");
    let row = client
        .query_one("SELECT * FROM users WHERE id = 2", &[])
        .await
        .unwrap();
    let error = row.try_get::<_, String>("name").unwrap_err();
    assert_eq!(error.to_string(), "error deserializing column 1");
    let panics = catch_unwind(AssertUnwindSafe(|| row.get::<_, String>("name")));
    assert!(panics.is_err());
}

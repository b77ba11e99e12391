//! What the section's page says and no recipe does.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::sync::LazyLock;
use std::time::Duration;

use servers::Postgres;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage};

static SERVER: LazyLock<Postgres> =
    LazyLock::new(|| Postgres::start().unwrap_or_else(|error| panic!("{error}")));

async fn connect() -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(SERVER.url(), NoTls).await?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

#[tokio::test]
async fn the_server_refuses_connections_beyond_its_limit_of_a_hundred() {
    let mut clients = Vec::new();
    let refused = loop {
        match connect().await {
            Ok(client) => clients.push(client),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.code(), Some(&SqlState::TOO_MANY_CONNECTIONS));
    // This file's other test may have had one of them.
    assert!((99..=100).contains(&clients.len()), "{}", clients.len());
}

#[tokio::test]
async fn one_client_serves_several_callers_one_query_after_the_other() {
    let client = loop {
        // The other test may have all of them for a moment.
        if let Ok(client) = connect().await {
            break client;
        }
    };
    let started = Instant::now();
    let slow = client.simple_query("SELECT 'slow' FROM pg_sleep(0.2)");
    let quick = async {
        let rows = client.simple_query("SELECT 'quick'").await?;
        Ok((rows, started.elapsed()))
    };
    let (slow, (quick, after)) = tokio::try_join!(biased; slow, quick).unwrap();
    for (answer, expected) in [(slow, "slow"), (quick, "quick")] {
        let mut rows = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        assert_eq!(rows.next(), Some(expected));
    }
    assert!(after >= Duration::from_millis(200), "{after:?}");
}

//! cargo run --example typed_errors
//!
//! Users are looked up in a real PostgreSQL, which is started for this and gone afterwards. A web
//! service would answer each error in its own way: here with the status it would send.

use std::error::Error;
use std::time::Duration;

use errors::typed_errors::{Columns, LookupError, find_one};
use servers::Postgres;
use tokio_postgres::NoTls;

const LIMIT: Duration = Duration::from_millis(500);

fn status(error: &LookupError) -> u16 {
    match error {
        LookupError::NotFound => 404,
        LookupError::Closed(_) => 503,
        LookupError::TimedOut { .. } => 504,
        _ => 500, // our own fault
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Postgres::start()?;
    let (client, connection) = tokio_postgres::connect(server.url(), NoTls).await?;
    let connection = tokio::spawn(connection);
    let users = "CREATE TABLE users (id int PRIMARY KEY, name text);
        INSERT INTO users VALUES (1, 'Ann'), (2, NULL)";
    client.batch_execute(users).await?;

    for (query, id) in [
        ("SELECT name FROM users WHERE id = $1", 1),
        ("SELECT name FROM users WHERE id = $1", 9),
        ("SELECT name FROM users WHERE id = $1", 2),
        ("SELECT name FROM users WHERE id > $1", 0),
        ("SELECT nane FROM users WHERE id = $1", 1),
        ("SELECT 'Zoe' AS name FROM pg_sleep(60) WHERE $1 > 0", 1),
    ] {
        let name = |row: &Columns| row.get::<String>("name");
        match find_one(&client, LIMIT, query, &[&id], name).await {
            Ok(name) => println!("200 {name}"),
            Err(error) => println!("{} {error}", status(&error)),
        }
    }
    server.stop()?;
    connection.await?.ok(); // it has ended with an error, as we wanted
    let query = "SELECT name FROM users WHERE id = 1";
    if let Err(error) = find_one(&client, LIMIT, query, &[], |row| row.get::<String>("name")).await
    {
        println!("{} {error}", status(&error));
    }
    Ok(())
}

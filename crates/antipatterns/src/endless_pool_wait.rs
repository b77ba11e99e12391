//! # A pool without a limit to its wait, and a second connection while one is held: `pool.get()`
//!
//! A pool lends its connections, and whoever finds none waits. As deadpool comes, it waits for ever.
//! In a function deep down somebody takes a connection for a query of its own, while the caller holds
//! one for its query. With few callers there is always another one free.
//!
//! ## You have it when
//! - from one moment on no request that touches the database is answered, until a restart;
//! - the database is idle meanwhile, with as many connections as the pool may have, all `idle`;
//! - nothing is logged: no error, no time limit, not even the health check, which waits as well.
//!
//! ## What it does to you
//! - Four requests at once on a pool of four: each holds one connection and waits for another, which
//!   one of them holds. All four stand still, an hour later and for ever.
//! - So does everybody who comes later: `pool.get()` is neither answered nor an error.
//!
//! ## Use instead
//! - `deadpool_pool`: each wait has a limit, and an exhausted pool is an error of its own;
//! - and hand the connection on to who needs one: `customer_of(&client, …)`.

use std::error::Error;

use deadpool_postgres::{BuildError, Manager, Pool};
use tokio_postgres::{Config, NoTls};

/// A pool of four connections.
///
/// # Errors
///
/// None.
pub fn pool(config: Config) -> Result<Pool, BuildError> {
    let builder = Pool::builder(Manager::new(config, NoTls)).max_size(4);
    builder.build() // without `wait_timeout`, `get` waits for ever
}

/// An order and its customer.
///
/// # Errors
///
/// If the database cannot be reached, or has no such order or customer.
pub async fn show_order(pool: &Pool, id: i32) -> Result<String, Box<dyn Error + Send + Sync>> {
    let client = pool.get().await?;
    let query = "SELECT item, customer FROM orders WHERE id = $1";
    let order = client.query_one(query, &[&id]).await?;
    let customer = customer_of(pool, order.try_get("customer")?).await?; // with `client` in hand
    Ok(format!(
        "{} for {customer}",
        order.try_get::<_, &str>("item")?
    ))
}

async fn customer_of(pool: &Pool, id: i32) -> Result<String, Box<dyn Error + Send + Sync>> {
    let client = pool.get().await?;
    let query = "SELECT name FROM customers WHERE id = $1";
    Ok(client.query_one(query, &[&id]).await?.try_get("name")?)
}

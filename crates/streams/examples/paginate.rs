//! cargo run --example paginate
//!
//! A server lists birds, two a page. Its second page fails once, its third is empty. The reader is
//! told of the error and reads on, and no bird is missing. Who wants one bird fetches one page.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use streams::paginate::{Page, paginate};
use tokio::net::TcpListener;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Birds {
    birds: Vec<String>,
    next: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct At {
    at: Option<String>,
}

async fn list(
    State(failed): State<Arc<AtomicBool>>,
    Query(At { at }): Query<At>,
) -> Result<Json<Birds>, StatusCode> {
    println!("  server: the page at {at:?}");
    let (birds, next): (&[&str], _) = match at.as_deref() {
        None => (&["auk", "bittern"], Some("c")),
        Some("c") if !failed.swap(true, Ordering::Relaxed) => {
            return Err(StatusCode::INTERNAL_SERVER_ERROR);
        }
        Some("c") => (&["crane", "dunlin"], Some("e")),
        Some("e") => (&[], Some("f")),
        Some(_) => (&["finch"], None),
    };
    let birds = birds.iter().map(ToString::to_string).collect();
    let next = next.map(str::to_owned);
    Ok(Json(Birds { birds, next }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/birds", listener.local_addr()?);
    let routes = Router::new().route("/birds", get(list));
    let routes = routes.with_state(Arc::default());
    let server = tokio::spawn(async { axum::serve(listener, routes).await });

    let client = reqwest::Client::builder().no_proxy().build()?;
    let fetch = async |at: Option<String>| {
        let request = client.get(&url).query(&At { at });
        let answer = request.send().await?.error_for_status()?;
        let Birds { birds: items, next } = answer.json().await?;
        Ok::<_, reqwest::Error>(Page { items, next })
    };

    println!("one bird:");
    let limit = Duration::from_secs(10);
    let mut birds = Box::pin(paginate(None, limit, &fetch).take(1));
    while let Some(bird) = birds.next().await {
        println!("{}", bird?);
    }

    println!("all birds:");
    let mut birds = Box::pin(paginate(None, limit, &fetch));
    let mut errors = 0;
    while let Some(bird) = birds.next().await {
        match bird {
            Ok(bird) => println!("{bird}"),
            Err(error) if errors < 3 => {
                errors += 1; // a program would wait here before it asks again
                println!("{error}");
            }
            Err(error) => return Err(error.into()),
        }
    }
    server.abort();
    Ok(())
}

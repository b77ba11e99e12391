//! cargo run --example context
//!
//! A configuration with one fault after the other, in a real file: what the operator reads.

use std::fs;

use anyhow::{Result, ensure};
use errors::context::load;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Configuration {
    workers: u8,
    #[serde(default)]
    routes: Vec<Route>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Route {
    path: String,
    limit: u32,
}

fn check(it: &Configuration) -> Result<()> {
    ensure!(it.workers > 0, "workers: there must be at least one");
    for (index, route) in it.routes.iter().enumerate() {
        let Route { path, limit } = route;
        ensure!(
            path.starts_with('/'),
            "routes[{index}].path: `{path}` does not begin with `/`"
        );
        ensure!(
            *limit > 0,
            "routes[{index}].limit: with 0 nothing would get through"
        );
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("app.toml");
    for content in [
        None,
        Some("workers = 4\nroutes = [\n"),
        Some("workers = 400\n"),
        Some("workers = 4\nworkres = 8\n"),
        Some("workers = 4\n\n[[routes]]\npath = '/'\nlimit = '10 per second'\n"),
        Some("workers = 4\n\n[[routes]]\npath = 'index'\nlimit = 10\n"),
        Some("workers = 4\n\n[[routes]]\npath = '/'\nlimit = 10\n"),
    ] {
        if let Some(content) = content {
            fs::write(&path, content)?;
        }
        match load(&path, 10_000, check).await {
            Ok(it) => println!("{} workers, {} route", it.workers, it.routes.len()),
            // The temporary folder has another name on each run.
            Err(error) => {
                let said = format!("{error:#}").replace(&folder.path().display().to_string(), "");
                println!("{said}\n");
            }
        }
    }
    Ok(())
}

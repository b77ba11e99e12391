//! cargo run --example dyn_store
//!
//! The configuration names the stores, one in memory and one that is far away, and the program asks
//! one after the other. The clock is virtual.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use traits::dyn_store::{DynStore, Store};

type AnyStore = Arc<dyn DynStore<&'static str>>;

#[derive(Default)]
struct Memory(Mutex<HashMap<String, Vec<u8>>>);

impl Store for Memory {
    type Error = &'static str;

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, &'static str> {
        let values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(values.get(key).cloned())
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<(), &'static str> {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        values.insert(key.to_owned(), value.to_owned());
        Ok(())
    }
}

/// Knows every word, and takes its time. Nobody may write there.
struct Remote;

impl Store for Remote {
    type Error = &'static str;

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, &'static str> {
        sleep(Duration::from_millis(80)).await;
        Ok(Some(key.to_uppercase().into_bytes()))
    }

    async fn set(&self, _key: &str, _value: &[u8]) -> Result<(), &'static str> {
        Err("it is read-only")
    }
}

fn open(name: &str) -> Result<AnyStore, String> {
    match name {
        "memory" => Ok(Arc::new(Memory::default())),
        "remote" => Ok(Arc::new(Remote)),
        _ => Err(format!("no store is called {name:?}")),
    }
}

/// The first that has it. Those before it get it too.
async fn look_up(stores: &[AnyStore], key: &str) -> Result<Option<Vec<u8>>, &'static str> {
    for (index, store) in stores.iter().enumerate() {
        if let Some(value) = store.get(key).await? {
            for nearer in stores.iter().take(index) {
                nearer.set(key, &value).await?;
            }
            return Ok(Some(value));
        }
    }
    Ok(None)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), String> {
    let stores: Vec<AnyStore> = ["memory", "remote"]
        .map(open)
        .into_iter()
        .collect::<Result<_, _>>()?;
    for key in ["apple", "apple", "pear"] {
        let started = Instant::now();
        let value = look_up(&stores, key).await?.unwrap_or_default();
        let value = String::from_utf8_lossy(&value).into_owned();
        println!("{key}: {value} after {} ms", started.elapsed().as_millis());
    }
    if let Some(remote) = stores.last() {
        println!("a write there: {:?}", remote.set("apple", b"red").await);
    }
    println!("{:?}", open("tape").err());
    Ok(())
}

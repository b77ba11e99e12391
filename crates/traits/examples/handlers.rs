//! cargo run --example handlers
//!
//! Commands of a small shell, each an async function or closure of its own type in one table; the
//! lines are visited in turn, and slow ones are spawned. The clock is virtual.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use traits::handlers::{Handlers, Taken, visit};

async fn echo(words: String) -> String {
    words
}

async fn wait(milliseconds: String) -> String {
    let time = milliseconds.parse().unwrap_or_default();
    sleep(Duration::from_millis(time)).await;
    format!("waited {time} ms")
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Taken> {
    let greeting = String::from("hello");
    let mut commands = Handlers::new();
    commands.add("echo", echo)?;
    commands.add("wait", wait)?;
    commands.add("greet", move |name| {
        let greeting = greeting.clone();
        async move { format!("{greeting}, {name}") }
    })?;
    if let Err(error) = commands.add("wait", echo) {
        println!("{error}");
    }

    let started = Instant::now();
    let mut background = JoinSet::new();
    let run = async |line: &&str| {
        let (name, input) = line.split_once(' ').unwrap_or((line, ""));
        match commands.call(name, input.to_owned()) {
            Ok(call) if name == "wait" => drop(background.spawn(call)),
            Ok(call) => println!("{}", call.await),
            Err(_) if name == "exit" => return Err("bye"),
            Err(_) => println!("{name}? There are {}", commands.names().join(", ")),
        }
        Ok(())
    };
    let lines = [
        "echo one two",
        "wait 300",
        "wait 100",
        "greet Ann",
        "jump",
        "exit",
        "echo no",
    ];
    let end = visit(lines, run).await;
    println!("{end:?} after {} ms", started.elapsed().as_millis());
    while let Some(Ok(said)) = background.join_next().await {
        println!("{said}");
    }
    Ok(())
}

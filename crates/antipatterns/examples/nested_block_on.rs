//! cargo run --example nested_block_on
//!
//! A function that is not async needs an answer from one that is, and a task calls it: with a new
//! runtime for each call, with the task's own runtime, and through the bridge.

use std::panic::catch_unwind;
use std::time::Duration;

use antipatterns::nested_block_on::{with_current_handle, with_new_runtime};
use runtime::sync_bridge::{AsyncThread, CallError};
use tokio::time::sleep;

async fn answer() -> u32 {
    sleep(Duration::from_millis(1)).await;
    42
}

/// Prints the first sentence of the panic, if there is one.
fn print(name: &str, call: fn() -> u32) {
    match catch_unwind(call) {
        Ok(answer) => println!("{name} {answer}"),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            let text = text.unwrap_or_default();
            let sentence = text.split(['.', ',']).next().unwrap_or_default();
            println!("{name} panic: {sentence}");
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn in_a_task() -> Result<(), CallError> {
    print("in a task, a new runtime:       ", || {
        with_new_runtime(answer())
    });
    print("in a task, the current handle:  ", || {
        with_current_handle(answer())
    });
    let bridge = AsyncThread::start("bridge").map_err(|_| CallError::Abandoned)?;
    let answer = bridge.call(Duration::from_secs(60), answer())?;
    println!("in a task, sync_bridge:          {answer}");
    Ok(())
}

fn main() -> Result<(), CallError> {
    std::panic::set_hook(Box::new(|_| {})); // printed below
    print("plain thread, a new runtime:    ", || {
        with_new_runtime(answer())
    });
    print("plain thread, the current handle:", || {
        with_current_handle(answer())
    });
    in_a_task()
}

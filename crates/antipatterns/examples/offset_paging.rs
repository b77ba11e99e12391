//! cargo run --example offset_paging
//!
//! A thousand entries, a hundred a page; each is deleted when it is handled.

use std::cell::RefCell;
use std::time::Duration;

use antipatterns::offset_paging::handle_all;
use futures_util::StreamExt;
use streams::paginate::{Page, PageError, paginate};

type Failed = PageError<u32, &'static str>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failed> {
    let list: RefCell<Vec<u32>> = RefCell::new((1..=1_000).collect());
    let delete = |entry| list.borrow_mut().retain(|it| *it != entry);

    let by_offset = async |offset| {
        let list = list.borrow();
        list.iter()
            .skip(offset)
            .take(100)
            .copied()
            .collect::<Vec<_>>()
    };
    handle_all(by_offset, async |entry| delete(entry)).await;
    println!("by offset:       {} of 1000 are left", list.borrow().len());

    list.replace((1..=1_000).collect());
    let by_key = async |last: Option<u32>| {
        let list = list.borrow();
        let is_behind = |entry: &&u32| last.is_none_or(|last| **entry > last);
        let items: Vec<_> = list.iter().filter(is_behind).take(100).copied().collect();
        let next = items.last().copied();
        Ok(Page { items, next })
    };
    let mut entries = paginate(None, Duration::from_secs(10), by_key);
    while let Some(entry) = entries.next().await {
        delete(entry?);
    }
    println!("by the last key: {} of 1000 are left", list.borrow().len());
    Ok(())
}

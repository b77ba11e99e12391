//! What an offset passes over in a list that changes.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::RefCell;
use std::time::Duration;

use antipatterns::offset_paging::handle_all;
use futures_util::StreamExt;
use streams::paginate::{Page, paginate};

const LIMIT: Duration = Duration::from_secs(60);
const PAGE: usize = 100;

/// The server's list.
struct List(RefCell<Vec<u32>>);

impl List {
    fn new() -> Self {
        Self(RefCell::new((1..=1_000).collect()))
    }

    fn page(&self, offset: usize) -> Vec<u32> {
        self.0
            .borrow()
            .iter()
            .skip(offset)
            .take(PAGE)
            .copied()
            .collect()
    }

    /// Those behind the entry, in the order of the list; from its head on without one.
    fn behind(&self, last: Option<u32>) -> Result<Page<u32, u32>, &'static str> {
        let list = self.0.borrow();
        let is_behind = |entry: &&u32| last.is_none_or(|last| **entry > last);
        let items: Vec<_> = list.iter().filter(is_behind).take(PAGE).copied().collect();
        let next = items.last().copied();
        Ok(Page { items, next })
    }

    fn delete(&self, entry: u32) {
        self.0.borrow_mut().retain(|it| *it != entry);
    }
}

#[tokio::test]
async fn harm_half_of_a_list_is_passed_over_when_what_is_handled_is_deleted() {
    let (list, mut handled) = (List::new(), 0);
    handle_all(
        async |offset| list.page(offset),
        async |entry| {
            list.delete(entry);
            handled += 1;
        },
    )
    .await;
    assert_eq!((handled, list.0.borrow().len()), (500, 500));
}

#[tokio::test]
async fn harm_a_new_entry_at_the_head_makes_another_come_twice() {
    let (list, mut handled) = (List::new(), Vec::new());
    handle_all(
        async |offset| list.page(offset),
        async |entry| {
            if entry % 100 == 50 {
                list.0.borrow_mut().insert(0, 0); // once in a page
            }
            handled.push(entry);
        },
    )
    .await;
    let before = handled.len();
    handled.sort_unstable();
    handled.dedup();
    assert_eq!((handled.len(), before - handled.len()), (1_000, 10));
}

#[tokio::test]
async fn harm_a_list_that_stays_as_it_is_is_handled_so_its_test_passes() {
    let (list, mut handled) = (List::new(), Vec::new());
    let page = async |offset| list.page(offset);
    handle_all(page, async |entry| handled.push(entry)).await;
    assert_eq!(handled, *list.0.borrow());
}

#[tokio::test]
async fn mended_after_the_last_key_every_entry_comes_once() {
    let (list, mut handled) = (List::new(), 0);
    let mut entries = paginate(None, LIMIT, async |last| list.behind(last));
    while let Some(entry) = entries.next().await {
        list.delete(entry.unwrap());
        list.0.borrow_mut().insert(0, 0);
        handled += 1;
    }
    assert_eq!(handled, 1_000);
}

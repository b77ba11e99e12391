//! # Offset paging: a list that changes while it is read
//!
//! All entries are to be handled, a page at a time, and the API wants an offset. An entry that is
//! handled leaves the list, or a new one comes in at its head. The list moves under the offset, and
//! entries are passed over, or come twice.
//!
//! ## You have it when
//! - a job that handles and deletes "everything" leaves half of it, without an error;
//! - of a list with the newest first, some entries are handled twice, the more the busier it is;
//! - `offset += page.len()` stands in the loop that also handles the page.
//!
//! ## What it does to you
//! - 1,000 entries in pages of 100, each deleted as it is handled: 500 are handled, 500 left.
//! - With a new entry at the head while each page is handled: 10 entries come twice.
//! - In a list that does not change it is right, so its test passes.
//!
//! ## Use instead
//! - `paginate`, with a token that names an entry: what comes after the last key, whatever is in
//!   front of it.

/// Handles every entry. `page` gets the entries from an offset on, none at the end.
pub async fn handle_all<T>(page: impl AsyncFn(usize) -> Vec<T>, mut handle: impl AsyncFnMut(T)) {
    let mut offset = 0;
    loop {
        let entries = page(offset).await;
        if entries.is_empty() {
            return;
        }
        offset += entries.len(); // counted in the list as it was
        for entry in entries {
            handle(entry).await;
        }
    }
}

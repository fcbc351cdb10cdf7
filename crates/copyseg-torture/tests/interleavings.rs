//! The hand-off between callers and the committer, and the publication to readers, under thousands of schedules.
//!
//! What runs is the source of `copyseg-core`, with shuttle deciding at every lock, channel, notification and published
//! pointer who goes on. Each test is named after the promise that its schedules try to break.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

#[path = "interleavings/explore.rs"]
mod explore;
#[path = "interleavings/store.rs"]
mod store;
#[path = "interleavings/commits.rs"]
mod commits;
#[path = "interleavings/ends.rs"]
mod ends;
#[path = "interleavings/readers.rs"]
mod readers;

/// A test that runs an `async` scenario under many schedules.
macro_rules! scenarios {
    ($($(#[$meta:meta])* async fn $name:ident() $body:block)*) => {$(
        $(#[$meta])*
        #[test]
        fn $name() {
            async fn scenario() $body
            $crate::explore::explore(stringify!($name), scenario);
        }
    )*};
}

use scenarios;

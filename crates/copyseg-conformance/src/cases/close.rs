//! Letting go of the storage.

use std::sync::Arc;

use copyseg_core::ErrorKind;
use futures::future::join;
use tokio::sync::oneshot;

use crate::fixture::Fixture;
use crate::writer::{Writer, begin, job, put};

/// After a close every call is refused as closed, and changes nothing.
pub async fn every_call_after_a_close_is_refused(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    writer.commit([put(job(1), "kept")]).await;
    let catalog = writer.catalog.clone();
    catalog.close().await.expect("a store can be closed");
    let commit = writer.prepare([put(job(1), "refused")]);
    let closed = Some(ErrorKind::Closed);
    assert_eq!(commit.send(&*catalog).await.err().map(|error| error.kind()), closed, "commit");
    assert_eq!(catalog.acquire().await.err().map(|error| error.kind()), closed, "acquire");
    assert_eq!(catalog.load().await.err().map(|error| error.kind()), closed, "load");
    assert_eq!(catalog.head().await.err().map(|error| error.kind()), closed, "head");
    writer.catalog = fixture.open().await;
    writer.assert_durable().await;
}

/// Closing a closed handle does nothing, at the same time or later.
pub async fn closing_twice_is_fine(fixture: &dyn Fixture) {
    let catalog = fixture.open().await;
    let (one, other) = join(catalog.close(), catalog.close()).await;
    one.and(other).expect("a store can be closed twice at once");
    catalog.close().await.expect("a closed store can be closed");
}

/// Once a close has returned the same storage can be opened, though the closed handle is still there.
pub async fn a_closed_store_opens_again_at_once(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let mut closed = Vec::new();
    for id in 0..10 {
        writer.commit([put(job(id), "kept")]).await;
        writer.catalog.close().await.expect("a store can be closed");
        closed.push(std::mem::replace(&mut writer.catalog, fixture.open().await));
    }
    writer.assert_durable().await;
}

/// A commit under way when the handle is closed is either done or refused when the close returns, and says which.
pub async fn a_close_waits_for_commits_under_way(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    for round in 0..10 {
        let commit = writer.prepare([put(job(round.into()), "all or nothing")]);
        let catalog = writer.catalog.clone();
        let committing = begin(commit.send(&*catalog), round);
        let (committed, closed) = join(committing, catalog.close()).await;
        closed.expect("a store can be closed");
        match committed {
            Ok(()) => writer.note(&commit),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
        }
        writer.catalog = fixture.open().await;
        writer.assert_stored().await;
    }
    writer.assert_durable().await;
}

/// A committer finds out by its next commit that the catalog was closed behind it, and is not left behind.
pub async fn a_spawned_committer_goes_on_after_a_close(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let commit = writer.prepare([put(job(1), "refused")]);
    let (start, started) = oneshot::channel::<()>();
    let (answer, answered) = oneshot::channel();
    let catalog = Arc::clone(&writer.catalog);
    writer.catalog.spawn_committer(Box::pin(async move {
        started.await.expect("it is told to start");
        let _ = answer.send(commit.send(&*catalog).await);
    }));
    writer.catalog.close().await.expect("a store can be closed");
    start.send(()).expect("it waits");
    let refused = answered.await.expect("it runs to its end");
    assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::Closed));
    writer.catalog = fixture.open().await;
    writer.assert_durable().await;
}

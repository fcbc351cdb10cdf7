//! How a commit whose outcome is unknown is settled: by writing, never by reading.

use copyseg_core::{Catalog, ErrorKind};

use crate::faulty::{Call, Fault, FaultyCatalog};
use crate::fixture::Fixture;
use crate::writer::{Prepared, Writer, begin, delete, job, put, task};

/// A commit sent a second time is refused and changes nothing, even when what it wrote is gone again.
pub async fn a_repeated_commit_is_refused(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let commit = writer.prepare([put(job(1), "once")]);
    commit.send(&*writer.catalog).await.expect("a commit on the head is taken");
    writer.note(&commit);
    writer.assert_refused(&commit, ErrorKind::Fenced).await;
    writer.commit([delete(job(1))]).await;
    writer.assert_refused(&commit, ErrorKind::Fenced).await;
    writer.assert_durable().await;
}

/// A commit that never arrived is taken when it is sent again.
pub async fn a_resend_after_a_lost_request_is_applied(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let commit = send_and_lose(&writer, Fault::Lost).await;
    writer.assert_stored().await;
    commit.send(&*writer.catalog).await.expect("a resend of a lost request is taken");
    writer.note(&commit);
    writer.assert_durable().await;
}

/// A commit that arrived is refused when it is sent again, and the batch number in the head tells whose it was.
pub async fn a_resend_after_a_lost_reply_is_refused(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let commit = send_and_lose(&writer, Fault::After).await;
    writer.note(&commit);
    writer.assert_refused(&commit, ErrorKind::Fenced).await;
    let head = writer.catalog.head().await.expect("the head can be read");
    assert_eq!(head.batch, commit.next.batch);
    writer.assert_durable().await;
}

/// After an empty batch was taken in its place, a commit that arrives late is refused and changes nothing.
pub async fn a_late_original_is_refused_after_an_empty_batch(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let late = send_and_lose(&writer, Fault::Lost).await;
    writer.commit([]).await;
    writer.assert_refused(&late, ErrorKind::Fenced).await;
    writer.assert_durable().await;
}

/// A commit whose caller went away is applied whole or not at all, and is settled like any unknown outcome.
pub async fn a_dropped_commit_is_all_or_nothing(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    for round in 0..10 {
        let dropped = writer.prepare((0..20).map(|id| put(task(id), [round; 100])));
        // Wherever it has got to, and whether it is done, it is forgotten here.
        drop(begin(dropped.send(&*writer.catalog), 1 + round));
        let mut settling = writer.prepare([]);
        settling.next.batch = dropped.next.batch ^ 1;
        match settling.send(&*writer.catalog).await {
            Ok(()) => writer.note(&settling),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Fenced);
                writer.note(&dropped);
            }
        }
        writer.assert_stored().await;
    }
    writer.assert_durable().await;
}

async fn send_and_lose(writer: &Writer<'_>, fault: Fault) -> Prepared {
    let commit = writer.prepare([put(job(1), "sent"), put(task(1), "sent")]);
    let faulty = FaultyCatalog::new(writer.catalog.clone());
    faulty.fail_nth_of(Call::Commit, 0, fault);
    let outcome = faulty.commit(&commit.expected, &commit.next, &commit.batch).await;
    assert_eq!(outcome.map_err(|error| error.kind()), Err(ErrorKind::OutcomeUnknown));
    commit
}

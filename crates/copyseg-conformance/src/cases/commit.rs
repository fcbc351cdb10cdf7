//! What a commit writes, and when it writes nothing.

use std::sync::Arc;
use std::time::Duration;

use copyseg_core::{Batch, ErrorKind, Head, RecordCounts, RecordKind, Revision};
use futures::future::join_all;
use tokio::sync::oneshot;

use crate::fixture::Fixture;
use crate::writer::{Prepared, Writer, assert_turns_for_others, delete, job, key, put, task};

/// A commit adds, overwrites and removes records and moves the head, all of it durably.
pub async fn a_commit_writes_its_batch_and_the_head(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    writer.commit([put(job(1), "first"), put(task(1), "removed"), put(task(2), "untouched")]).await;
    writer.assert_stored().await;
    writer.commit([put(job(1), "second, and longer"), delete(task(1)), put(job(3), "new")]).await;
    writer.assert_durable().await;
}

/// A commit without operations still moves the head durably; unknown outcomes are settled with it.
pub async fn an_empty_batch_moves_the_head(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    writer.commit([put(job(1), "untouched")]).await;
    writer.commit([]).await;
    writer.assert_durable().await;
}

/// Removing a record that is not there is no error, and the rest of the batch is written.
pub async fn deleting_an_absent_record_is_fine(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    writer.commit([delete(job(7)), put(task(7), "written"), delete(key(RecordKind::Store, 7))]).await;
    writer.assert_durable().await;
}

/// A commit is refused when any field of the expected head differs from the stored one, and changes nothing.
pub async fn a_commit_on_another_head_writes_nothing(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    writer.commit([put(job(1), "kept"), put(job(2), "kept")]).await;
    let head = writer.stored.head;
    let others = [
        Head { epoch: head.epoch + 1, ..head },
        Head { writer: head.writer ^ 1, ..head },
        Head { batch: head.batch ^ 1, ..head },
        Head { revision: Revision(head.revision.0 + 1), ..head },
        Head { counts: RecordCounts([9, 9, 9]), ..head },
        Head::default(),
    ];
    for expected in others {
        let mut commit = writer.prepare([put(job(1), "lost"), delete(job(2)), put(task(3), "lost")]);
        commit.expected = expected;
        writer.assert_refused(&commit, ErrorKind::Fenced).await;
    }
    writer.assert_durable().await;
}

/// Of commits sent at the same time on one head exactly one is applied, and all of it.
pub async fn concurrent_commits_on_one_head_have_one_winner(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let commits: Vec<_> = (0..8)
        .map(|id| {
            let mut commit = writer.prepare([put(job(0), [id]), put(job(i64::from(id) + 1), [id])]);
            commit.next.batch = u64::from(id);
            commit
        })
        .collect();
    let outcomes = join_all(commits.iter().map(|commit| commit.send(&*writer.catalog))).await;
    let mut winners = Vec::new();
    for (commit, outcome) in commits.iter().zip(outcomes) {
        match outcome {
            Ok(()) => winners.push(commit),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Fenced),
        }
    }
    assert_eq!(winners.len(), 1, "commits applied on one head");
    winners.into_iter().for_each(|winner| writer.note(winner));
    writer.assert_durable().await;
}

/// Commits may be sent before it is known whether the one that they build upon is applied. One that comes before that one is
/// refused, and can be sent again.
pub async fn commits_under_way_together_are_applied_in_order(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    for round in 0..10 {
        let mut ahead = writer.stored.clone();
        let commits = [0, 1, 2].map(|id| {
            let next = Head { batch: ahead.head.batch.wrapping_add(1), ..ahead.head };
            let commit =
                Prepared { expected: ahead.head, next, batch: Batch::from_iter([put(task(id), [round])]) };
            ahead.apply(&commit.next, &commit.batch);
            commit
        });
        writer.assert_refused(&commits[1], ErrorKind::Fenced).await;
        let outcomes = join_all(commits.iter().map(|commit| commit.send(&*writer.catalog))).await;
        assert!(outcomes[0].is_ok(), "it builds upon what is stored");
        for (commit, outcome) in commits.iter().zip(outcomes) {
            if let Err(error) = outcome {
                assert_eq!(error.kind(), ErrorKind::Fenced);
                commit.send(&*writer.catalog).await.expect("the one before it is applied");
            }
            writer.note(commit);
        }
        writer.assert_stored().await;
    }
    writer.assert_durable().await;
}

/// The head is the caller's: every field comes back as it was given, and the next commit can expect it.
pub async fn the_next_head_is_stored_as_given(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let given = [
        Head::default(),
        Head { epoch: 1, writer: 2, batch: 3, revision: Revision(4), counts: RecordCounts([5, 6, 7]) },
        Head {
            epoch: u64::MAX,
            writer: u64::MAX,
            batch: u64::MAX,
            revision: Revision(u64::MAX),
            counts: RecordCounts([u64::MAX; 3]),
        },
    ];
    for next in given {
        let stored = writer.catalog.commit(&writer.stored.head, &next, &Batch::from_iter([])).await;
        stored.expect("a commit on the head is taken");
        writer.stored.head = next;
        writer.assert_stored().await;
    }
    writer.assert_durable().await;
}

/// A long mixed history leaves what its writes add up to, while it is made and afterwards.
pub async fn any_sequence_of_batches_leaves_what_it_wrote(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let mut state = 7_u64;
    let mut random = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    for round in 0..100 {
        let kind = RecordKind::ALL[random(3) as usize];
        let first = random(20) as i64 - 10;
        let operations: Vec<_> = (first..first + random(10) as i64)
            .map(|id| match random(3) {
                0 => delete(key(kind, id)),
                _ => put(key(kind, id), vec![round; random(200) as usize]),
            })
            .collect();
        writer.commit(operations).await;
        if round % 10 == 0 {
            writer.assert_stored().await;
        }
    }
    writer.assert_durable().await;
}

/// While a commit is under way, other tasks on its thread get their turn.
pub async fn a_commit_lets_other_tasks_run(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    assert_turns_for_others(async || writer.commit([put(job(1), [0; 1000])]).await).await;
}

/// The committer of a manager commits and waits, on the runtime of its manager or where the catalog has its thread.
pub async fn a_spawned_committer_commits(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let commit = writer.prepare([put(job(1), "by the committer")]);
    let (start, started) = oneshot::channel::<()>();
    let (answer, answered) = oneshot::channel();
    let (catalog, sent) = (Arc::clone(&writer.catalog), commit.clone());
    writer.catalog.spawn_committer(Box::pin(async move {
        started.await.expect("it is told to start");
        tokio::time::sleep(Duration::from_millis(1)).await;
        let _ = answer.send(sent.send(&*catalog).await);
    }));
    writer.assert_stored().await;
    start.send(()).expect("it waits");
    answered.await.expect("it runs to its end").expect("a commit on the head is taken");
    writer.note(&commit);
    writer.assert_durable().await;
}

/// What happens to one manager is nothing to the catalog.
pub async fn a_spawned_committer_may_panic(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let (ended, end) = oneshot::channel::<()>();
    writer.catalog.spawn_committer(Box::pin(async move {
        let _ended = ended;
        std::panic::resume_unwind(Box::new("a committer"));
    }));
    assert!(end.await.is_err(), "it is dropped");
    writer.commit([put(job(1), "after the panic")]).await;
    writer.assert_durable().await;
}

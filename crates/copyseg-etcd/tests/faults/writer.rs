//! An owner of a store, with a model of what it wrote.

use std::collections::BTreeMap;

use copyseg_core::{
    Batch, Catalog, ErrorKind, Head, Loaded, Operation, RecordCounts, RecordKey, RecordKind, Result, Revision,
};
use futures::TryStreamExt;

pub(crate) struct Writer<'a> {
    pub(crate) catalog: &'a dyn Catalog,
    pub(crate) head: Head,
    pub(crate) records: BTreeMap<RecordKey, Vec<u8>>,
}

impl<'a> Writer<'a> {
    pub(crate) async fn acquire(catalog: &'a dyn Catalog) -> Self {
        let head = catalog.acquire().await.unwrap();
        Self { catalog, head, records: BTreeMap::new() }
    }

    /// Puts records of this size, all or none; notes them when they were taken.
    pub(crate) async fn put(&mut self, ids: impl IntoIterator<Item = i64>, size: usize) -> Result<()> {
        let fill = self.head.revision.0 as u8;
        let records: Vec<_> = ids.into_iter().map(|id| (task(id), vec![fill; size])).collect();
        let batch: Batch =
            records.iter().map(|(key, bytes)| Operation::Put(*key, bytes.as_slice().into())).collect();
        let new = records.iter().filter(|(key, _)| !self.records.contains_key(key)).count();
        let next = Head {
            batch: self.head.batch.wrapping_add(1),
            revision: Revision(self.head.revision.0 + 1),
            counts: RecordCounts([0, 0, (self.records.len() + new) as u64]),
            ..self.head
        };
        self.catalog.commit(&self.head, &next, &batch).await?;
        self.head = next;
        self.records.extend(records);
        Ok(())
    }

    /// Puts as [`put`](Self::put) does, and settles unknown outcomes by sending again, as a manager does.
    pub(crate) async fn put_surely(&mut self, id: i64) {
        let (batch, next) = self.small(id);
        loop {
            let error = match self.catalog.commit(&self.head, &next, &batch).await {
                Ok(()) => break,
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::OutcomeUnknown | ErrorKind::Unavailable => {}
                ErrorKind::Fenced => match self.catalog.head().await {
                    Ok(head) if head == next => break,
                    Ok(head) => assert_eq!(head, self.head, "nobody else writes"),
                    Err(_cannot_tell_yet) => {}
                },
                _ => panic!("{error:?}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        self.note(id, next);
    }

    /// A commit of one small record, and the head that it makes.
    pub(crate) fn small(&self, id: i64) -> (Batch, Head) {
        let new = u64::from(!self.records.contains_key(&task(id)));
        let next = Head {
            batch: self.head.batch.wrapping_add(1),
            revision: Revision(self.head.revision.0 + 1),
            counts: RecordCounts([0, 0, self.records.len() as u64 + new]),
            ..self.head
        };
        (Batch::from_iter([Operation::Put(task(id), id.to_be_bytes().into())]), next)
    }

    /// Notes that a commit from [`small`](Self::small) was applied.
    pub(crate) fn note(&mut self, id: i64, next: Head) {
        self.records.insert(task(id), id.to_be_bytes().into());
        self.head = next;
    }

    /// Asserts that the store holds what was taken, and nothing else.
    pub(crate) async fn assert_stored(&self) {
        let loaded = self.catalog.load().await.unwrap();
        assert_eq!(loaded.head, self.head);
        self.assert_loaded(loaded).await;
    }

    pub(crate) async fn assert_loaded(&self, loaded: Loaded) {
        let mut found = BTreeMap::new();
        let mut pages = loaded.pages;
        while let Some(page) = pages.try_next().await.unwrap() {
            found.extend(page.into_iter().map(|record| (record.key, record.bytes.into())));
        }
        assert!(found == self.records, "{} records, not {}", found.len(), self.records.len());
    }
}

pub(crate) fn task(id: i64) -> RecordKey {
    RecordKey { kind: RecordKind::Task, id }
}

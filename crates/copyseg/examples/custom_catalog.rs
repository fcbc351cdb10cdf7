//! A backend of your own: a store in one file that each commit replaces as a whole. Slow when it is large, and as
//! safe as any other: `cargo test --example custom_catalog` runs the suite that every backend passes.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use copyseg::{
    Batch, Catalog, Error, ErrorKind, Head, Limits, Loaded, ManagerOptions, MetaManager, NewJob, Operation,
    Record, RecordKey, RecordKind, Result, Snapshot,
};
use futures::future::BoxFuture;
use futures::{StreamExt, stream};

/// Records by the number of their kind and their id.
type Records = BTreeMap<(u8, i64), Vec<u8>>;
type Store = (Head, Records);

/// A handle on the file; a clone is the same handle.
#[derive(Debug, Clone)]
struct FileCatalog {
    path: PathBuf,
    closed: Arc<AtomicBool>,
}

impl FileCatalog {
    fn open(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), closed: Arc::default() }
    }

    /// Runs `call` on a thread that may block, one at a time over all processes: the lock file sees to it.
    async fn exclusively<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Path) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let this = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let lock = File::create(this.path.with_extension("lock")).map_err(not_done)?;
            lock.lock().map_err(not_done)?;
            if this.closed.load(Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Closed, "the file catalog is closed"));
            }
            call(&this.path)
        });
        task.await
            .map_err(|error| Error::with_source(ErrorKind::OutcomeUnknown, "a call was cut off", error))?
    }
}

#[async_trait::async_trait]
impl Catalog for FileCatalog {
    async fn acquire(&self) -> Result<Head> {
        self.exclusively(|path| {
            let (head, records) = read(path)?;
            let head = head.acquired()?;
            replace(path, &head, &records).map(|()| head)
        })
        .await
    }

    async fn load(&self) -> Result<Loaded> {
        let (head, records) = self.exclusively(read).await?;
        let records = records.into_iter().filter_map(|((kind, id), bytes)| {
            RecordKind::from_number(kind)
                .map(|kind| Record { key: RecordKey { kind, id }, bytes: bytes.into() })
        });
        Ok(Loaded { head, pages: stream::iter(records).chunks(Loaded::PAGE_RECORDS_MAX).map(Ok).boxed() })
    }

    async fn commit(&self, expected: &Head, next: &Head, batch: &Batch) -> Result<()> {
        self.limits().check(batch)?;
        let (expected, next, batch) = (*expected, *next, batch.clone());
        self.exclusively(move |path| {
            let (head, mut records) = read(path)?;
            if head != expected {
                return Err(Error::new(ErrorKind::Fenced, "another writer has moved the head of the file"));
            }
            for operation in batch.operations() {
                let key = (operation.key().kind as u8, operation.key().id);
                match operation {
                    Operation::Put(_, bytes) => records.insert(key, bytes.to_vec()),
                    Operation::Delete(_) => records.remove(&key),
                };
            }
            replace(path, &next, &records)
        })
        .await
    }

    async fn head(&self) -> Result<Head> {
        Ok(self.exclusively(read).await?.0)
    }

    fn limits(&self) -> Limits {
        Limits { operations_max: 10_000, bytes_max: 16 << 20, commits_max: 1 }
    }

    async fn close(&self) -> Result<()> {
        // Waits for the call under way; closing a closed handle is fine.
        let this = self.clone();
        let call = self.exclusively(move |_| {
            this.closed.store(true, Ordering::Relaxed);
            Ok(())
        });
        call.await.or_else(|error| if error.kind() == ErrorKind::Closed { Ok(()) } else { Err(error) })
    }

    fn spawn_committer(&self, committer: BoxFuture<'static, ()>) {
        drop(tokio::spawn(committer));
    }
}

/// Reads the whole store; one that is not there yet is empty.
fn read(path: &Path) -> Result<Store> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Store::default()),
        Err(error) => return Err(not_done(error)),
    };
    let decoded = bincode::decode_from_slice::<(Vec<u8>, Records), _>(&bytes, bincode::config::standard());
    let ((head, records), _) =
        decoded.map_err(|error| Error::with_source(ErrorKind::Corrupt, "the file is damaged", error))?;
    Ok((Head::from_bytes(&head)?, records))
}

/// Writes a new file beside the old one and renames it over: readers and crashes see the one or the other.
fn replace(path: &Path, head: &Head, records: &Records) -> Result<()> {
    let bytes = bincode::encode_to_vec((head.to_bytes(), records), bincode::config::standard());
    let new = path.with_extension("new");
    let write = |bytes: Vec<u8>| {
        let mut file = File::create(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()
    };
    write(bytes.map_err(io::Error::other).map_err(not_done)?).map_err(not_done)?;
    // From here on the change may have been made, so an error must say that nobody knows.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let publish = || fs::rename(&new, path).and_then(|()| File::open(folder)?.sync_all());
    publish().map_err(|error| Error::with_source(ErrorKind::OutcomeUnknown, "cannot replace the file", error))
}

fn not_done(error: io::Error) -> Error {
    Error::with_source(ErrorKind::Unavailable, "the file catalog is out of reach", error)
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().map_err(not_done)?;
    let path = folder.path().join("jobs");

    let manager = MetaManager::open(Arc::new(FileCatalog::open(&path)), ManagerOptions::default()).await?;
    let job = manager.add_job(NewJob { snapshot: "nightly".into(), ..NewJob::default() }, vec![]).await?;
    manager.close().await?;

    let found = Snapshot::load(&FileCatalog::open(&path)).await?;
    println!("the file holds job {job}, snapshot {:?}", found.job(job).map(|job| &job.snapshot));
    assert!(found.job(job).is_some());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(tempfile::TempDir);

    #[async_trait::async_trait]
    impl copyseg_conformance::Fixture for Folder {
        async fn open(&self) -> Arc<dyn Catalog> {
            Arc::new(FileCatalog::open(self.0.path().join("jobs")))
        }

        async fn open_after_kill(&self) -> Arc<dyn Catalog> {
            self.open().await
        }
    }

    copyseg_conformance::suite!(Folder(tempfile::tempdir().unwrap()));
}

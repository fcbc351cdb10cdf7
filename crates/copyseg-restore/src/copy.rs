//! The built-in worker: copies the files of segments from one storage to another.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use copyseg_core::SegmentPair;
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;

use crate::failure::Failure;
use crate::layout;
use crate::location::Location;
use crate::options;
use crate::plan;
use crate::request::Verify;
use crate::storage::content::Checksum;
use crate::storage::{File, Storage};
use crate::verify;
use crate::worker::{Assignment, Slot, Worker};

/// Copies through `object_store`, or through the file system where a side is local.
pub struct CopyWorker {
    source: Arc<dyn Storage>,
    target: Arc<dyn Storage>,
}

impl CopyWorker {
    /// A worker that copies from `source` to `target`.
    pub fn new(source: &Location, target: &Location) -> Self {
        Self { source: source.storage(), target: target.storage() }
    }

    async fn copy_segment(&self, assignment: &Assignment, segment: SegmentPair) -> Result<(), Failure> {
        let (restore, verify) = options::of_worker(assignment.job())?;
        let mut slot = Some(assignment.slot().await);
        let files = plan::unchanged_files(&*self.source, &*self.target, restore, &segment).await?;
        let copies = files.into_iter().map(|file| {
            let slot = slot.take();
            async move {
                let _slot: Slot = match slot {
                    Some(slot) => slot,
                    None => assignment.slot().await,
                };
                let to = layout::copied(&file.name, segment.target);
                self.copy_file(assignment, &file, &to, verify).await
            }
        });
        let copies: Vec<_> = copies.collect();
        stream::iter(copies)
            .buffer_unordered(assignment.objects_in_flight())
            .try_for_each(|()| async { Ok(()) })
            .await
    }

    async fn copy_file(
        &self,
        assignment: &Assignment,
        file: &File,
        to: &str,
        verify: Verify,
    ) -> Result<(), Failure> {
        if self.target.copy_from(&*self.source, file, to).await? {
            assignment.copied(file.bytes);
            return Ok(());
        }
        let sum = Arc::new(Mutex::new(Checksum::default()));
        let (counted, reporter) = (Arc::clone(&sum), assignment.reporter());
        let content = self.source.open(file).await?.inspect(move |chunk| {
            counted.lock().add(chunk);
            reporter.copied(chunk.len() as u64);
        });
        self.target.write(to, assignment.staging(), file.bytes, content).await?;
        let sum = *sum.lock();
        if sum.bytes != file.bytes {
            let what = self.source.describe(&file.name);
            return Err(Failure::transient(format!("{what} was cut short after {} bytes", sum.bytes)));
        }
        verify::check(&*self.target, to, sum, verify, assignment).await
    }
}

#[async_trait]
impl Worker for CopyWorker {
    async fn copy(&self, assignment: &Assignment) -> Result<(), Failure> {
        let segments: Vec<_> = assignment.task().segments.iter().collect();
        let folders = segments.iter().map(|segment| segment.target.to_string()).collect();
        stream::iter(segments.into_iter().map(|segment| self.copy_segment(assignment, segment)))
            .buffer_unordered(assignment.objects_in_flight())
            .try_for_each(|()| async { Ok(()) })
            .await?;
        // All at once: to sync the folder that all of them lie in takes as long as to sync one of them.
        let reporter = assignment.reporter();
        self.target.settle(folders, Box::new(move || reporter.beat())).await?;
        assignment.beat();
        Ok(())
    }
}

impl fmt::Debug for CopyWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CopyWorker({:?} to {:?})", self.source, self.target)
    }
}

//! What of a target would survive the loss of power, as told by its calls to the file system; and a catalog that takes no
//! acknowledgement of what would not.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use async_trait::async_trait;
use copyseg_core::{
    Batch, Catalog, Head, JobFilter, JobState, Limits, Loaded, Result, Snapshot, TaskFilter, TaskState,
};
use copyseg_restore::{DiskCall, DiskHook};
use futures::future::BoxFuture;

use crate::scene::files_of;

/// Follows the calls to the file system below a target.
#[derive(Debug)]
pub(crate) struct Power {
    target: PathBuf,
    /// Calls of this name are not seen, as if they were not made.
    skipped: &'static str,
    disk: Mutex<Disk>,
}

#[derive(Debug, Default)]
struct Disk {
    /// Files whose content is not synced.
    dirty: HashSet<PathBuf>,
    /// Names that are not synced with their folder.
    pending: HashSet<PathBuf>,
    /// Names that are.
    durable: HashSet<PathBuf>,
    /// What each folder that is being synced held when that began.
    syncing: HashMap<ThreadId, Vec<PathBuf>>,
}

impl Power {
    pub(crate) fn new(target: PathBuf, skipped: &'static str) -> Arc<Self> {
        Arc::new(Self { target, skipped, disk: Mutex::default() })
    }

    pub(crate) fn hook(self: &Arc<Self>) -> Arc<DiskHook> {
        let power = Arc::clone(self);
        Arc::new(move |call: &DiskCall<'_>, done| {
            if call.path.starts_with(power.target.parent().unwrap()) && call.operation != power.skipped {
                power.disk.lock().unwrap().see(call, done, &power.target);
            }
            Ok(())
        })
    }

    /// The files that would be there, whole.
    fn survivors(&self) -> HashSet<PathBuf> {
        let disk = self.disk.lock().unwrap();
        let survives = |path: &&PathBuf| {
            let mut above = path.ancestors().take_while(|above| above.starts_with(&self.target));
            !disk.dirty.contains(*path) && above.all(|above| disk.durable.contains(above))
        };
        let relative = |path: &PathBuf| path.strip_prefix(&self.target).ok().map(Path::to_owned);
        disk.durable.iter().filter(survives).filter_map(relative).collect()
    }
}

impl Disk {
    fn see(&mut self, call: &DiskCall<'_>, done: bool, target: &Path) {
        let path = call.path.to_owned();
        match (call.operation, call.to, done) {
            ("create", None, true) => {
                self.dirty.insert(path.clone());
                self.pending.insert(path);
            }
            ("write", None, true) => _ = self.dirty.insert(path),
            ("sync", None, true) => _ = self.dirty.remove(&path),
            ("rename" | "rename new", Some(to), true) => {
                match self.dirty.remove(&path) {
                    true => self.dirty.insert(to.to_owned()),
                    false => self.dirty.remove(to),
                };
                self.durable.remove(to);
                self.pending.insert(to.to_owned());
            }
            ("create folders", None, true) => {
                let made = path.ancestors().take_while(|above| above.starts_with(target));
                let made: Vec<_> = made.filter(|above| !self.durable.contains(*above)).collect();
                self.pending.extend(made.into_iter().map(Path::to_owned));
            }
            ("sync folder", None, false) => {
                let held = self.pending.iter().filter(|name| name.parent() == Some(call.path)).cloned();
                let held = held.collect();
                self.syncing.insert(std::thread::current().id(), held);
            }
            ("sync folder", None, true) => {
                for name in self.syncing.remove(&std::thread::current().id()).unwrap_or_default() {
                    self.pending.remove(&name);
                    self.durable.insert(name);
                }
            }
            _ => {}
        }
    }
}

/// Looks, at every commit, whether what it acknowledges would survive.
#[derive(Debug)]
pub(crate) struct Acknowledging {
    power: Arc<Power>,
    inner: Arc<dyn Catalog>,
    /// The files that were acknowledged.
    pub(crate) files: Mutex<HashSet<PathBuf>>,
    /// Those of them that would not survive.
    pub(crate) lost: Mutex<HashSet<PathBuf>>,
}

impl Acknowledging {
    pub(crate) fn new(power: &Arc<Power>, inner: Arc<dyn Catalog>) -> Arc<Self> {
        Arc::new(Self { power: Arc::clone(power), inner, files: Mutex::default(), lost: Mutex::default() })
    }

    async fn check(&self, survivors: &HashSet<PathBuf>) {
        let state = Snapshot::load(&*self.inner).await.unwrap();
        let records = |name: &str| Path::new("_copyseg").join(name);
        let mut acknowledged = Vec::new();
        for task in state.tasks(&TaskFilter::new()).filter(|task| task.state != TaskState::Pending) {
            acknowledged.push(records("owner"));
            if task.state == TaskState::Completed {
                let segments = task.segments.iter();
                acknowledged.extend(segments.flat_map(|pair| files_of(pair.source.0, pair.target.0)));
            }
        }
        if state.jobs(&JobFilter::new()).any(|job| job.state == JobState::Completed) {
            acknowledged.push(records("outcome"));
        }
        let lost = acknowledged.iter().filter(|file| !survivors.contains(*file)).cloned();
        self.lost.lock().unwrap().extend(lost);
        self.files.lock().unwrap().extend(acknowledged);
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Catalog for Acknowledging {
    async fn acquire(&self) -> Result<Head> {
        self.inner.acquire().await
    }

    async fn load(&self) -> Result<Loaded> {
        self.inner.load().await
    }

    async fn commit(&self, expected: &Head, next: &Head, batch: &Batch) -> Result<()> {
        // What is synced while the commit is under way comes too late.
        let survivors = self.power.survivors();
        self.inner.commit(expected, next, batch).await?;
        self.check(&survivors).await;
        Ok(())
    }

    async fn head(&self) -> Result<Head> {
        self.inner.head().await
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }

    fn spawn_committer(&self, committer: BoxFuture<'static, ()>) {
        self.inner.spawn_committer(committer);
    }
}

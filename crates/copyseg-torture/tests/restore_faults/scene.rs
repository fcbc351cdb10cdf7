//! A restore that has come to a certain step, and what must hold when it is completed in the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use copyseg_core::{Catalog, Error, JobFilter, JobState, ManagerOptions, MemoryCatalog, MetaManager, Result};
use copyseg_restore::{
    Assignment, CancellationToken, CopyWorker, DiskHook, Failure, Manifest, Outcome, RestoreProgress,
    RestoreRequest, Worker, restore, restore_with,
};
use copyseg_torture::Visible;
use tempfile::TempDir;
use tokio::sync::watch;

/// Where the run begins in which something fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing is there.
    Begin,
    /// An earlier run was stopped when it had copied a segment of three.
    GoOn,
    /// An earlier run was killed while it copied, so that it left an unfinished file.
    GoOnAfterKill,
    /// The job was cancelled when a segment was copied.
    StartOver,
    /// Another catalog's unfinished restore of another snapshot owns the target.
    TakeOver,
    /// The restore is complete.
    Again,
}

impl Step {
    pub(crate) const ALL: [Self; 6] =
        [Self::Begin, Self::GoOn, Self::GoOnAfterKill, Self::StartOver, Self::TakeOver, Self::Again];
}

pub(crate) struct Scene {
    folder: TempDir,
    storage: MemoryCatalog,
    step: Step,
}

const FILES: [(&str, &str); 5] = [
    ("1/ids.npy", "one"),
    ("1/vectors.npy", "1.0 1.1 1.2"),
    ("2/ids.npy", ""),
    ("459117024851200032/nested/deeply/stats.json", "{}"),
    ("459117024851200032/ids.npy", "many"),
];

impl Scene {
    pub(crate) async fn at(step: Step) -> Self {
        // In memory, where there is such a folder: the order of syncs is another test's matter.
        let shared_memory = Path::new("/dev/shm");
        let folder = match shared_memory.is_dir() {
            true => TempDir::new_in(shared_memory).unwrap(),
            false => TempDir::new().unwrap(),
        };
        for (name, content) in FILES {
            write(&folder.path().join("nightly").join(name), content);
        }
        let scene = Self { folder, storage: MemoryCatalog::new(), step };
        match step {
            Step::Begin => {}
            Step::GoOn => scene.copy_one_segment(&scene.storage, "nightly").await,
            Step::GoOnAfterKill => {
                scene.copy_one_segment(&scene.storage, "nightly").await;
                let restore = std::fs::read_dir(scene.target().join("_copyseg")).unwrap();
                let restore = restore.filter_map(|entry| {
                    Some(entry.unwrap().file_name().to_str()?.strip_prefix("plan-")?.to_owned())
                });
                for restore in restore {
                    let staging = scene.target().join("_copyseg/staging").join(restore).join("killed");
                    write(&staging.join("unfinished"), "1.0 1");
                }
            }
            Step::StartOver => {
                scene.copy_one_segment(&scene.storage, "nightly").await;
                let manager = open(Arc::new(scene.storage.clone())).await.unwrap();
                let job = manager.list_jobs(&JobFilter::new()).unwrap()[0].id;
                manager.cancel_job(job, "by an operator").await.unwrap();
                manager.close().await.unwrap();
            }
            Step::TakeOver => {
                for segment in ["5", "6", "7"] {
                    write(&scene.folder.path().join("weekly").join(segment).join("ids.npy"), segment);
                }
                scene.copy_one_segment(&MemoryCatalog::new(), "weekly").await;
            }
            Step::Again => {
                assert!(completed(&scene.run(Arc::new(scene.storage.clone()), None).await));
            }
        }
        scene
    }

    /// The catalog without faults.
    pub(crate) fn storage(&self) -> Arc<dyn Catalog> {
        Arc::new(self.storage.clone())
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.folder.path().join("restored")
    }

    /// A run that is stopped when it has copied a segment of three.
    pub(crate) async fn begin(&self) {
        self.copy_one_segment(&self.storage, "nightly").await;
    }

    /// The restore's own files in the target, sorted.
    pub(crate) fn records(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.target().join("_copyseg")).unwrap();
        let mut records: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        records.retain(|path| path.is_file());
        records.sort();
        records
    }

    /// A run as of a new process, whose memory is compared with the storage at its end.
    pub(crate) async fn run(
        &self,
        catalog: Arc<dyn Catalog>,
        hook: Option<Arc<DiskHook>>,
    ) -> Result<Outcome> {
        let manager = open(catalog).await?;
        let progress = watch::Sender::new(RestoreProgress::default());
        let request = self.request("nightly", hook);
        let outcome =
            restore(&manager, "redb:///catalog", &request, &progress, &CancellationToken::new()).await;
        // It changes nothing, and so waits only for what is under way. Whoever was fenced has nothing to say.
        if manager.transact(|_| Ok(())).await.is_ok() {
            let memory = Visible::of(&manager.snapshot().unwrap());
            assert_eq!(memory, Visible::stored(&self.storage).await, "memory equals storage");
        }
        outcome
    }

    /// Runs it again with nothing in its way, and checks everything that holds of a completed restore.
    pub(crate) async fn complete(&self, catalog: Arc<dyn Catalog>) {
        let outcome = self.run(catalog, None).await;
        assert!(completed(&outcome), "{outcome:?}");
        let target = self.target();
        let manifest = Manifest::read(&self.request("nightly", None).target).await.unwrap().unwrap();
        let mut expected: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
        for segment in &manifest.segments {
            for name in files_of(segment.source.0, segment.target.0) {
                let source = name.to_str().unwrap().split_once('/').unwrap().1;
                let source = self.folder.path().join("nightly").join(segment.source.to_string()).join(source);
                expected.insert(name, std::fs::read(source).unwrap());
            }
        }
        assert_eq!(expected.len(), FILES.len());
        let mut found = files(&target);
        for record in ["owner", "outcome"] {
            assert!(found.remove(&Path::new("_copyseg").join(record)).is_some(), "{record}");
        }
        assert_eq!(found, expected, "the target holds the snapshot, once, and nothing else");
        assert!(!target.join("_copyseg/staging").exists());
        let manager = open(self.storage()).await.unwrap();
        let states: Vec<_> =
            manager.list_jobs(&JobFilter::new()).unwrap().iter().map(|job| job.state).collect();
        assert_eq!(states.iter().filter(|state| **state == JobState::Completed).count(), 1, "{states:?}");
        assert!(states.iter().all(|state| state.is_terminal()), "{states:?}");
    }

    fn request(&self, source: &str, hook: Option<Arc<DiskHook>>) -> RestoreRequest {
        let path = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        let mut request = RestoreRequest::new(&path(source), &path("restored")).unwrap();
        request.options.retry_delay_min = Duration::from_millis(1);
        request.options.retry_delay_max = Duration::from_millis(5);
        request.options.segments_per_task = Some(1);
        request.options.objects_in_flight = 2;
        request.options.take_over = self.step == Step::TakeOver;
        if let Some(hook) = hook {
            request.target = request.target.with_hook(Arc::clone(&hook));
            request.source = request.source.with_hook(hook);
        }
        request
    }

    async fn copy_one_segment(&self, storage: &MemoryCatalog, source: &str) {
        let manager = open(Arc::new(storage.clone())).await.unwrap();
        let mut request = self.request(source, None);
        request.options.objects_in_flight = 1;
        let stop = CancellationToken::new();
        let inner = CopyWorker::new(&request.source, &request.target);
        let worker = Arc::new(Stopping { inner, tasks: AtomicU32::new(0), stop: stop.clone() });
        let progress = watch::Sender::new(RestoreProgress::default());
        let catalog = format!("redb:///{source}");
        let catalog = if source == "nightly" { "redb:///catalog" } else { &catalog };
        let outcome = restore_with(&manager, catalog, &request, worker, &progress, &stop).await.unwrap();
        assert!(matches!(outcome, Outcome::Stopped { .. }), "{outcome:?}");
        manager.close().await.unwrap();
    }
}

/// The name, below the target, of every file of a segment.
pub(crate) fn files_of(source: i64, target: i64) -> Vec<PathBuf> {
    let prefix = format!("{source}/");
    let names = FILES.iter().filter_map(|(name, _)| name.strip_prefix(&prefix));
    names.map(|name| Path::new(&target.to_string()).join(name)).collect()
}

pub(crate) fn completed(outcome: &Result<Outcome>) -> bool {
    matches!(outcome, Ok(Outcome::Completed { .. }))
}

async fn open(catalog: Arc<dyn Catalog>) -> Result<MetaManager, Error> {
    MetaManager::open(catalog, ManagerOptions::default()).await
}

/// Copies one task, and then has the run stopped.
#[derive(Debug)]
struct Stopping {
    inner: CopyWorker,
    tasks: AtomicU32,
    stop: CancellationToken,
}

#[async_trait]
impl Worker for Stopping {
    async fn copy(&self, assignment: &Assignment) -> Result<(), Failure> {
        if self.tasks.fetch_add(1, Ordering::SeqCst) > 0 {
            self.stop.cancel();
            std::future::pending::<()>().await;
        }
        self.inner.copy(assignment).await
    }
}

fn write(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let name = path.strip_prefix(root).unwrap().to_owned();
                    files.insert(name, std::fs::read(&path).unwrap());
                }
            }
        }
    }
    files
}

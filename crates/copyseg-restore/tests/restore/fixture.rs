//! A source, a target and a catalog in memory that outlives its manager.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use copyseg_core::{
    Job, JobFilter, JobId, ManagerOptions, ManualClock, MemoryCatalog, MetaManager, Result, Timestamp,
};
use copyseg_restore::{
    Assignment, CancellationToken, CopyWorker, Failure, Manifest, Outcome, RestoreProgress, RestoreRequest,
    Worker, restore, restore_with,
};
use futures::future::BoxFuture;
use tempfile::TempDir;
use tokio::sync::watch;

pub(crate) const CATALOG: &str = "redb:///catalog";

pub(crate) struct Fixture {
    pub(crate) folder: TempDir,
    pub(crate) clock: ManualClock,
    pub(crate) manager: MetaManager,
    pub(crate) catalog: MemoryCatalog,
}

impl Fixture {
    /// Three segments with five files in all.
    pub(crate) async fn new() -> Self {
        let fixture = Self::empty().await;
        fixture.write("1/ids.npy", "one");
        fixture.write("1/vectors.npy", "1.0 1.1 1.2");
        fixture.write("2/ids.npy", "");
        fixture.write("459117024851200032/nested/deeply/stats.json", "{}");
        fixture.write("459117024851200032/ids.npy", "many");
        fixture
    }

    /// Nothing at all.
    pub(crate) async fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp::from_millis(1_760_000_000_000));
        let catalog = MemoryCatalog::new();
        let manager = open(&catalog, &clock).await;
        Self { folder, clock, manager, catalog }
    }

    /// What a new process finds: the same catalog under a new manager.
    pub(crate) async fn restart(&mut self) {
        self.manager = open(&self.catalog, &self.clock).await;
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.path("nightly")
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.path("restored")
    }

    /// Writes a file of the snapshot.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        write(&self.source().join(name), content);
    }

    pub(crate) fn request(&self) -> RestoreRequest {
        quick(RestoreRequest::new(text(&self.source()), text(&self.target())).unwrap())
    }

    pub(crate) async fn restore(&self) -> Result<Outcome> {
        self.restore_request(&self.request()).await
    }

    pub(crate) async fn restore_request(&self, request: &RestoreRequest) -> Result<Outcome> {
        run(&self.manager, CATALOG, request).await
    }

    /// Restores with a hook that runs before the worker copies a task.
    pub(crate) fn restore_hooked(
        &self,
        request: &RestoreRequest,
        stop: &CancellationToken,
        before: impl Fn(&Assignment) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync + 'static,
    ) -> BoxFuture<'static, Result<Outcome>> {
        let (manager, request, stop) = (self.manager.clone(), request.clone(), stop.clone());
        let worker = hooked(&request, before);
        Box::pin(async move {
            let progress = watch::Sender::new(RestoreProgress::default());
            restore_with(&manager, CATALOG, &request, worker, &progress, &stop).await
        })
    }

    pub(crate) fn jobs(&self) -> Vec<Arc<Job>> {
        self.manager.list_jobs(&JobFilter::new()).unwrap()
    }

    pub(crate) fn job(&self, id: JobId) -> Arc<Job> {
        self.manager.get_job(id).unwrap().unwrap()
    }

    pub(crate) async fn manifest(&self) -> Option<Manifest> {
        Manifest::read(&self.request().target).await.unwrap()
    }

    /// Every file below the target, by name.
    pub(crate) fn target_files(&self) -> BTreeMap<String, Vec<u8>> {
        files(&self.target())
    }

    /// The restored files under the names of their source segments, as the manifest maps them.
    pub(crate) async fn restored(&self) -> BTreeMap<String, Vec<u8>> {
        let manifest = self.manifest().await.expect("a manifest");
        let found = self.target_files();
        let of_segment = |target: String| {
            found.iter().filter_map(move |(name, content)| {
                name.strip_prefix(&format!("{target}/")).map(|file| (file.to_owned(), content.clone()))
            })
        };
        let segments = manifest.segments.iter();
        segments
            .flat_map(|segment| {
                of_segment(segment.target.to_string())
                    .map(move |(file, content)| (format!("{}/{file}", segment.source), content))
            })
            .collect()
    }

    /// Checks everything that holds of a completed restore.
    pub(crate) async fn assert_restored(&self) {
        assert_eq!(self.restored().await, files(&self.source()), "the restored content is the source's");
        let manifest = self.manifest().await.unwrap();
        let named: usize = manifest.segments.iter().map(|segment| segment.files as usize).sum();
        let records = ["_copyseg/outcome", "_copyseg/owner"];
        let found: Vec<_> = self.target_files().into_keys().filter(|name| name.starts_with('_')).collect();
        assert_eq!(found, records, "no staging file is left");
        assert_eq!(self.target_files().len(), named + records.len(), "nothing was copied twice");
        assert!(!self.target().join("_copyseg/staging").exists());
    }
}

/// The built-in worker, with a hook that runs before it copies a task.
pub(crate) fn hooked(
    request: &RestoreRequest,
    before: impl Fn(&Assignment) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync + 'static,
) -> Arc<dyn Worker> {
    let inner = CopyWorker::new(&request.source, &request.target);
    Arc::new(Hooked { inner, before: Box::new(before) })
}

struct Hooked {
    inner: CopyWorker,
    before: Box<Before>,
}

type Before = dyn Fn(&Assignment) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync;

impl std::fmt::Debug for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl Worker for Hooked {
    async fn copy(&self, assignment: &Assignment) -> Result<(), Failure> {
        (self.before)(assignment).await?;
        self.inner.copy(assignment).await
    }
}

async fn open(catalog: &MemoryCatalog, clock: &ManualClock) -> MetaManager {
    let options = ManagerOptions { clock: Arc::new(clock.clone()), ..ManagerOptions::default() };
    MetaManager::open(Arc::new(catalog.clone()), options).await.unwrap()
}

pub(crate) async fn run(manager: &MetaManager, catalog: &str, request: &RestoreRequest) -> Result<Outcome> {
    let progress = watch::Sender::new(RestoreProgress::default());
    restore(manager, catalog, request, &progress, &CancellationToken::new()).await
}

/// The request with waits that a test can afford.
pub(crate) fn quick(mut request: RestoreRequest) -> RestoreRequest {
    request.options.retry_delay_min = Duration::from_millis(1);
    request.options.retry_delay_max = Duration::from_millis(5);
    request
}

pub(crate) fn completed(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Completed { .. })
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

pub(crate) fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = text(path.strip_prefix(root).unwrap()).to_owned();
                match std::fs::read(&path) {
                    Ok(content) => _ = files.insert(name, content),
                    // A restore that is under way has put it in its place since the folder was read.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => panic!("{}: {error}", path.display()),
                }
            }
        }
    }
    files
}

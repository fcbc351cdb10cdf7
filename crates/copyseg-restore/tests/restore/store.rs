//! A remote store in memory that numbers its calls and lets a test decide what becomes of each.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use copyseg_restore::Location;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Proceed,
    /// It fails before it had any effect.
    Fail,
    /// It has its effect, and the answer is lost.
    LoseAnswer,
    /// The credentials do not allow it.
    Deny,
    /// It has its effect, and whoever called it dies before learning that.
    DieAfter,
}

/// A call: its number from 0, its operation and its object.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) number: usize,
    pub(crate) operation: &'static str,
    pub(crate) path: String,
}

type Hook = dyn Fn(Call) -> BoxFuture<'static, Fate> + Send + Sync;

pub(crate) struct TestStore {
    bucket: String,
    pub(crate) inner: InMemory,
    calls: AtomicUsize,
    pub(crate) uploads: AtomicUsize,
    pub(crate) largest_part: AtomicUsize,
    /// Told when a call died.
    pub(crate) died: Notify,
    hook: Mutex<Arc<Hook>>,
}

impl TestStore {
    pub(crate) fn new() -> Arc<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        Arc::new(Self {
            bucket: format!("bucket-{}", COUNT.fetch_add(1, Ordering::SeqCst)),
            inner: InMemory::new(),
            calls: AtomicUsize::new(0),
            uploads: AtomicUsize::new(0),
            largest_part: AtomicUsize::new(0),
            died: Notify::new(),
            hook: Mutex::new(Arc::new(|_| async { Fate::Proceed }.boxed())),
        })
    }

    /// Numbers the calls from 0 again and sends them through `hook`.
    pub(crate) fn hook(&self, hook: impl Fn(Call) -> BoxFuture<'static, Fate> + Send + Sync + 'static) {
        self.calls.store(0, Ordering::SeqCst);
        *self.hook.lock() = Arc::new(hook);
    }

    /// How many calls there were since the hook was set.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Lets every call proceed.
    pub(crate) fn unhook(&self) {
        self.hook(|_| async { Fate::Proceed }.boxed());
    }

    /// A location in this store, which has a bucket of its own.
    pub(crate) fn location(self: &Arc<Self>, prefix: &str) -> Location {
        Location::with_store(&self.url(prefix), self.clone()).unwrap()
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("s3://{}/{name}", self.bucket)
    }

    pub(crate) async fn put_text(&self, path: &str, content: impl Into<PutPayload>) {
        self.inner.put(&Path::from(path), content.into()).await.unwrap();
    }

    pub(crate) async fn names(&self, prefix: &str) -> Vec<String> {
        let prefix = Path::from(prefix);
        let objects: Vec<ObjectMeta> = self.inner.list(Some(&prefix)).try_collect().await.unwrap();
        let mut names: Vec<String> = objects.into_iter().map(|object| object.location.into()).collect();
        names.sort();
        names
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        path: &Path,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        let hook = self.hook.lock().clone();
        let broken = || Error::Generic { store: "test", source: "the connection was reset".into() };
        match hook(Call { number, operation, path: path.to_string() }).await {
            Fate::Proceed => work.await,
            Fate::Fail => Err(broken()),
            Fate::Deny => Err(Error::PermissionDenied { path: path.to_string(), source: "denied".into() }),
            Fate::LoseAnswer => work.await.and_then(|_| Err(broken())),
            Fate::DieAfter => {
                let _ = work.await;
                self.died.notify_one();
                std::future::pending().await
            }
        }
    }
}

#[async_trait]
impl ObjectStore for TestStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.call("put", path, self.inner.put_opts(path, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = if options.head { "head" } else { "get" };
        self.call(operation, path, self.inner.get_opts(path, options)).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let hook = self.hook.lock().clone();
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        let paths = paths.then(move |path| {
            let hook = hook.clone();
            async move {
                let path = path?;
                match hook(Call { number, operation: "delete", path: path.to_string() }).await {
                    Fate::Proceed | Fate::LoseAnswer | Fate::DieAfter => Ok(path),
                    _ => Err(Error::Generic { store: "test", source: "the connection was reset".into() }),
                }
            }
        });
        self.inner.delete_stream(paths.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (hook, number) = (self.hook.lock().clone(), self.calls.fetch_add(1, Ordering::SeqCst));
        let (listed, path) = (self.inner.list(prefix), prefix.map(Path::to_string).unwrap_or_default());
        let listed = async move {
            match hook(Call { number, operation: "list", path }).await {
                Fate::Proceed | Fate::DieAfter => Ok(listed),
                _ => Err(Error::Generic { store: "test", source: "the connection was reset".into() }),
            }
        };
        listed.into_stream().try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let path = prefix.cloned().unwrap_or_default();
        self.call("list", &path, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.call("copy", from, self.inner.copy_opts(from, to, options)).await
    }
}

#[async_trait]
impl MultipartStore for TestStore {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        let id = self.call("create_multipart", path, self.inner.create_multipart(path)).await?;
        self.uploads.fetch_add(1, Ordering::SeqCst);
        Ok(id)
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        index: usize,
        part: PutPayload,
    ) -> Result<PartId> {
        self.largest_part.fetch_max(part.content_length(), Ordering::SeqCst);
        self.call("put_part", path, self.inner.put_part(path, id, index, part)).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let completed = async {
            let completed = self.inner.complete_multipart(path, id, parts).await?;
            self.uploads.fetch_sub(1, Ordering::SeqCst);
            Ok(completed)
        };
        self.call("complete_multipart", path, completed).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        let aborted = async {
            // As S3 does it: an upload that is over is not found.
            self.inner
                .abort_multipart(path, id)
                .await
                .map_err(|error| Error::NotFound { path: path.to_string(), source: error.into() })?;
            self.uploads.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };
        self.call("abort_multipart", path, aborted).await
    }
}

impl fmt::Debug for TestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestStore")
    }
}

impl fmt::Display for TestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestStore")
    }
}

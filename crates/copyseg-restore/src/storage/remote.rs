//! Objects below a prefix of a remote store: one put for small ones, a recorded multipart upload for the rest.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};
use serde::{Deserialize, Serialize};

use super::content::{Checksum, Content};
use super::{Entry, File, Heard, Storage, changed, staged_name};
use crate::failure::{Failure, FailureKind};
use crate::location::RemoteStore;

/// The smallest part of an upload, and the largest object that is put in one request.
const PART_BYTES_MIN: u64 = 8 << 20;
/// What S3 allows in one upload.
const PARTS_MAX: u64 = 10_000;
/// What S3 copies in one request.
const COPY_BYTES_MAX: u64 = 5 << 30;

pub(crate) struct Remote {
    store: Arc<dyn RemoteStore>,
    bucket: String,
    prefix: Path,
}

/// What is noted about an upload while it is under way, so that a later run can abort it.
#[derive(Serialize, Deserialize)]
struct Upload {
    object: String,
    upload: String,
}

impl Remote {
    pub(crate) fn new(store: Arc<dyn RemoteStore>, bucket: String, prefix: Path) -> Self {
        Self { store, bucket, prefix }
    }

    /// The scheme and bucket, the same for every location in one store.
    pub(crate) fn bucket(&self) -> &str {
        &self.bucket
    }

    fn key(&self, name: &str) -> Result<Path, Failure> {
        let separator = if self.prefix.is_root() || name.is_empty() { "" } else { "/" };
        Path::parse(format!("{}{separator}{name}", self.prefix))
            .map_err(|error| self.failure("name", name)(error.into()))
    }

    fn name(&self, key: &Path) -> String {
        let rest = key.as_ref().strip_prefix(self.prefix.as_ref()).unwrap_or(key.as_ref());
        rest.trim_start_matches('/').to_owned()
    }

    fn failure<'a>(
        &'a self,
        operation: &'a str,
        name: &'a str,
    ) -> impl Fn(object_store::Error) -> Failure + 'a {
        move |error| Failure::of_object(operation, &self.describe(name), error)
    }

    /// Every object below `folder`.
    async fn objects(&self, folder: &str) -> Result<Vec<ObjectMeta>, Failure> {
        let key = self.key(folder)?;
        let objects: Vec<_> =
            self.store.list(Some(&key)).try_collect().await.map_err(self.failure("list", folder))?;
        Ok(objects.into_iter().filter(|object| object.location != key).collect())
    }

    async fn put(&self, name: &str, content: PutPayload) -> Result<(), Failure> {
        let put = self.store.put(&self.key(name)?, content).await;
        put.map(drop).map_err(self.failure("write", name))
    }

    async fn upload(&self, name: &str, note: &str, bytes: u64, content: Content) -> Result<(), Failure> {
        let key = self.key(name)?;
        let id = self.store.create_multipart(&key).await.map_err(self.failure("write", name))?;
        let upload = Upload { object: name.to_owned(), upload: id };
        let uploaded = async {
            let noted = serde_json::to_vec(&upload).map_err(|error| {
                let message = format!("cannot write {}", self.describe(note));
                Failure::caused(FailureKind::Permanent, message, error)
            })?;
            self.put(note, noted.into()).await?;
            self.upload_parts(&key, &upload, bytes, content).await
        };
        let uploaded = uploaded.await;
        if uploaded.is_err() {
            // What cannot be aborted now is noted, and aborted by the sweep of a later run.
            let _ = self.store.abort_multipart(&key, &upload.upload).await;
        }
        self.remove(note).await?;
        uploaded
    }

    async fn upload_parts(
        &self,
        key: &Path,
        upload: &Upload,
        bytes: u64,
        content: Content,
    ) -> Result<(), Failure> {
        let failed = self.failure("write", &upload.object);
        let part_bytes = PART_BYTES_MIN.max(bytes.div_ceil(PARTS_MAX)) as usize;
        let mut parts = Vec::new();
        let mut rest = content.into_stream();
        loop {
            let (part, more) = gather(&mut rest, part_bytes).await?;
            parts.push(self.store.put_part(key, &upload.upload, parts.len(), part).await.map_err(&failed)?);
            match more {
                Some(more) => rest = futures::stream::once(async { Ok(more) }).chain(rest).boxed(),
                None => break,
            }
        }
        self.store.complete_multipart(key, &upload.upload, parts).await.map(drop).map_err(failed)
    }
}

/// The next `bytes` bytes, fewer at the end, and what the last chunk held beyond them.
async fn gather(
    content: &mut BoxStream<'static, Result<Bytes, Failure>>,
    bytes: usize,
) -> Result<(PutPayload, Option<Bytes>), Failure> {
    let (mut chunks, mut gathered) = (Vec::new(), 0);
    while let Some(mut chunk) = content.try_next().await? {
        let fits = chunk.len().min(bytes - gathered);
        let beyond = chunk.split_off(fits);
        gathered += fits;
        chunks.push(chunk);
        if !beyond.is_empty() {
            return Ok((chunks.into_iter().collect(), Some(beyond)));
        }
    }
    Ok((chunks.into_iter().collect(), None))
}

fn stamp(object: &ObjectMeta) -> String {
    object.e_tag.clone().unwrap_or_else(|| object.last_modified.timestamp_millis().to_string())
}

#[async_trait]
impl Storage for Remote {
    async fn list(&self, folder: &str) -> Result<Vec<Entry>, Failure> {
        let objects = self.objects(folder).await?;
        let folders: HashSet<String> =
            objects.iter().filter_map(|object| object.location.parent()).map(String::from).collect();
        // Consoles mark a folder by an empty object of its name.
        let is_marker = |object: &ObjectMeta| object.size == 0 && folders.contains(object.location.as_ref());
        let files = objects.iter().filter(|object| !is_marker(object)).map(|object| {
            let name = self.name(&object.location);
            Entry::File(File { name, bytes: object.size, stamp: stamp(object) })
        });
        Ok(files.collect())
    }

    async fn list_all(&self, _folders: Vec<String>) -> Result<Vec<Entry>, Failure> {
        // A listing has a thousand objects in an answer: one for each folder would take far longer.
        self.list("").await
    }

    async fn names(&self, folder: &str) -> Result<Vec<String>, Failure> {
        let key = self.key(folder)?;
        let listed =
            self.store.list_with_delimiter(Some(&key)).await.map_err(self.failure("list", folder))?;
        let objects = listed.objects.into_iter().map(|object| object.location);
        let names = objects.chain(listed.common_prefixes).filter(|found| *found != key);
        Ok(names.filter_map(|found| found.filename().map(str::to_owned)).collect())
    }

    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let key = self.key(name)?;
        match async { self.store.get(&key).await?.bytes().await }.await {
            Ok(content) => Ok(Some(content.to_vec())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failure("read", name)(error)),
        }
    }

    async fn find(&self, name: &str) -> Result<Option<File>, Failure> {
        match self.store.head(&self.key(name)?).await {
            Ok(found) => Ok(Some(File { name: name.to_owned(), bytes: found.size, stamp: stamp(&found) })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failure("read", name)(error)),
        }
    }

    async fn prepare(&self, _folder: &str) -> Result<(), Failure> {
        Ok(())
    }

    async fn open_staging(&self, _staging: &str) -> Result<(), Failure> {
        Ok(())
    }

    async fn create(&self, name: &str, _staging: &str, content: Bytes) -> Result<bool, Failure> {
        let options = PutOptions::from(PutMode::Create);
        match self.store.put_opts(&self.key(name)?, content.into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(false)
            }
            Err(error) => Err(self.failure("create", name)(error)),
        }
    }

    async fn replace(
        &self,
        name: &str,
        _staging: &str,
        expected: &[u8],
        content: Bytes,
    ) -> Result<bool, Failure> {
        let (key, failed) = (self.key(name)?, self.failure("replace", name));
        let found = match self.store.get(&key).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(failed(error)),
        };
        let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        if found.bytes().await.map_err(&failed)? != expected {
            return Ok(false);
        }
        match self.store.put_opts(&key, content.into(), PutMode::Update(version).into()).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::Precondition { .. } | object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    async fn open(&self, file: &File) -> Result<Content, Failure> {
        let what = self.describe(&file.name);
        let key = self.key(&file.name)?;
        let found = match self.store.get_opts(&key, GetOptions::default()).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Err(changed(&what, "is gone")),
            Err(error) => return Err(self.failure("read", &file.name)(error)),
        };
        // The stream belongs to the version that this answer describes.
        if found.meta.size != file.bytes {
            return Err(changed(&what, &format!("had {} bytes and now has {}", file.bytes, found.meta.size)));
        }
        if stamp(&found.meta) != file.stamp {
            return Err(changed(&what, "was modified"));
        }
        let chunks = found.into_stream();
        Ok(Content::Stream(chunks.map_err(move |error| Failure::of_object("read", &what, error)).boxed()))
    }

    async fn write(&self, name: &str, staging: &str, bytes: u64, content: Content) -> Result<(), Failure> {
        if bytes > PART_BYTES_MIN {
            return self.upload(name, &staged_name(staging)?, bytes, content).await;
        }
        let chunks: Vec<Bytes> = content.into_stream().try_collect().await?;
        self.put(name, chunks.into_iter().collect()).await
    }

    async fn checksum(&self, name: &str, heard: Heard) -> Result<Option<Checksum>, Failure> {
        let (key, failed) = (self.key(name)?, self.failure("read", name));
        let mut chunks = match self.store.get(&key).await {
            Ok(found) => found.into_stream(),
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut sum = Checksum::default();
        while let Some(chunk) = chunks.try_next().await.map_err(&failed)? {
            sum.add(&chunk);
            heard();
        }
        Ok(Some(sum))
    }

    async fn copy_from(&self, source: &dyn Storage, file: &File, name: &str) -> Result<bool, Failure> {
        let Some(source) = source.as_remote().filter(|source| source.bucket == self.bucket) else {
            return Ok(false);
        };
        if file.bytes > COPY_BYTES_MAX {
            return Ok(false);
        }
        let what = source.describe(&file.name);
        let gone = |error| match error {
            object_store::Error::NotFound { .. } => changed(&what, "is gone"),
            error => source.failure("copy", &file.name)(error),
        };
        let (from, to) = (source.key(&file.name)?, self.key(name)?);
        self.store.copy(&from, &to).await.map_err(gone)?;
        let original = self.store.head(&from).await.map_err(gone)?;
        if original.size != file.bytes || stamp(&original) != file.stamp {
            return Err(changed(&what, "was modified"));
        }
        let copy = self.store.head(&to).await.map_err(self.failure("check", name))?;
        if copy.size != file.bytes {
            let (name, bytes) = (self.describe(name), copy.size);
            return Err(Failure::transient(format!("{name} has {bytes} bytes after copying {what}")));
        }
        Ok(true)
    }

    async fn settle(&self, _folders: Vec<String>, _heard: Heard) -> Result<(), Failure> {
        Ok(())
    }

    async fn remove(&self, name: &str) -> Result<(), Failure> {
        let mut keys: Vec<_> = self.objects(name).await?.into_iter().map(|object| object.location).collect();
        keys.push(self.key(name)?);
        let keys = futures::stream::iter(keys.into_iter().map(Ok)).boxed();
        let mut removed = self.store.delete_stream(keys);
        while let Some(key) = removed.next().await {
            match key {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failure("remove", name)(error)),
            }
        }
        Ok(())
    }

    async fn sweep(&self, _top: &str, folder: &str) -> Result<(), Failure> {
        for note in self.objects(folder).await? {
            let name = self.name(&note.location);
            let noted = self.read(&name).await?.unwrap_or_default();
            if let Ok(upload) = serde_json::from_slice::<Upload>(&noted) {
                match self.store.abort_multipart(&self.key(&upload.object)?, &upload.upload).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => {
                        // The note stays, so that a later sweep tries again.
                        tracing::warn!(object = upload.object, %error, "an unfinished upload could not be aborted");
                        continue;
                    }
                }
            }
            self.remove(&name).await?;
        }
        Ok(())
    }

    fn describe(&self, name: &str) -> String {
        let prefix = self.prefix.as_ref();
        let separator = if prefix.is_empty() { "" } else { "/" };
        format!("{}{separator}{prefix}/{name}", self.bucket).trim_end_matches('/').to_owned()
    }

    fn as_remote(&self) -> Option<&Remote> {
        Some(self)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe(""))
    }
}

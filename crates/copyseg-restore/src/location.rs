//! Where segments are read and written: a local directory or a prefix of a remote store, under one canonical URL.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use copyseg_core::{Error, ErrorKind, Result};
use object_store::ObjectStore;
use object_store::multipart::MultipartStore;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::failure::Failure;
use crate::storage::Storage;
use crate::storage::local::Local;
use crate::storage::local::disk::Disk;
#[cfg(feature = "faults")]
use crate::storage::local::disk::DiskHook;
use crate::storage::remote::Remote;

/// A remote store: what `object_store` offers for every cloud and for memory.
pub trait RemoteStore: ObjectStore + MultipartStore {}

impl<T: ObjectStore + MultipartStore> RemoteStore for T {}

/// A local directory or a prefix of a remote store.
///
/// Displayed as its canonical URL, without secrets: two texts that mean the same place display the same.
///
/// ```
/// # use copyseg_restore::Location;
/// let here = Location::parse("./nightly/../restored/")?;
/// assert_eq!(here.to_string(), Location::parse("restored")?.to_string());
/// assert!(here.to_string().starts_with("file:///"));
/// # Ok::<(), copyseg_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Location {
    url: String,
    local_path: Option<PathBuf>,
    storage: Arc<dyn Storage>,
}

impl Location {
    /// The location that `text` names: a path, or a `file://`, `s3://`, `gs://` or `az://` URL.
    ///
    /// A path that begins like a URL, or like the name of a catalog, is written with `./` before it.
    ///
    /// Nothing needs to exist there. Symbolic links on the way are resolved. Credentials of remote stores come
    /// from the environment (`AWS_ACCESS_KEY_ID`, `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_KEY` and
    /// their like), never from the URL.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if it is no such location, or holds credentials, a query or a fragment;
    /// [`ErrorKind::Unsupported`] if this build lacks the feature for its scheme;
    /// [`ErrorKind::Unavailable`] if the file system cannot be asked.
    pub fn parse(text: &str) -> Result<Self> {
        let Some(scheme) = scheme_of(text) else {
            return match text {
                "" => Err(invalid("a location is empty: give a path or a URL")),
                path => Self::local(Path::new(path)),
            };
        };
        let rest = &text[scheme.len() + 1..];
        match scheme.as_str() {
            "file" if rest.starts_with('/') => Self::local(&path_of(text)?),
            scheme @ ("s3" | "gs" | "az") if rest.starts_with("//") => {
                let url = bare_url(scheme, text)?;
                let store = remote_store(scheme, &url)?;
                Self::with_store(url.as_str(), store)
            }
            // The text is not repeated: with another slash it might have been a URL with a secret.
            scheme => Err(invalid(format!(
                "what begins with `{scheme}:` is no place to restore from or to: use a path, file:///, s3://, gs:// or \
                 az://; for a local folder of that name, put ./ before it"
            ))),
        }
    }

    /// The location `url` in a store that the caller has opened, whatever its scheme.
    ///
    /// `url` is `scheme://bucket/prefix`; stores given for the same scheme and bucket must be the same store.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if `url` is not of this form.
    pub fn with_store(url: &str, store: Arc<dyn RemoteStore>) -> Result<Self> {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        let url = bare_url(scheme, url)?;
        let prefix = object_store::path::Path::from_url_path(collapsed(url.path())).map_err(|error| {
            Error::with_source(ErrorKind::InvalidArgument, format!("`{url}` holds an unusable path"), error)
        })?;
        let bucket = format!("{scheme}://{}", url.host_str().unwrap_or_default());
        let mut canonical = url;
        if let Ok(mut segments) = canonical.path_segments_mut() {
            segments.clear().extend(prefix.parts().map(|part| part.as_ref().to_owned()));
        }
        let storage = Arc::new(Remote::new(store, bucket, prefix));
        Ok(Self { url: canonical.into(), local_path: None, storage })
    }

    /// The same local directory, with every call to the file system shown to `hook`.
    #[cfg(feature = "faults")]
    #[must_use]
    pub fn with_hook(mut self, hook: Arc<DiskHook>) -> Self {
        if let Some(path) = &self.local_path {
            self.storage = Arc::new(Local::new(path.clone(), Disk { hook: Some(hook) }));
        }
        self
    }

    /// The directory, if the location is local.
    pub fn local_path(&self) -> Option<&Path> {
        self.local_path.as_deref()
    }

    /// The canonical URL, without secrets.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// Where a catalog keeps its records, if in local files, from its canonical URL.
    pub(crate) fn of_local_catalog(url: &str) -> Result<Option<Self>> {
        let Some((_, path)) = url.split_once(":///") else { return Ok(None) };
        let path = percent_decode_str(path).decode_utf8_lossy();
        Self::local(&Path::new("/").join(&*path)).map(Some)
    }

    pub(crate) fn storage(&self) -> Arc<dyn Storage> {
        self.storage.clone()
    }

    /// The last part of the URL, which names the snapshot or the restored collection to people.
    pub(crate) fn name(&self) -> &str {
        self.url.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default()
    }

    /// Refuses two locations of which one lies inside the other.
    pub(crate) fn check_apart(&self, other: &Self) -> Result<()> {
        if self.lies_in(other) || other.lies_in(self) {
            return Err(invalid(format!(
                "cannot restore from {self} to {other}: one lies inside the other; choose a target elsewhere"
            )));
        }
        Ok(())
    }

    /// Refuses a catalog that lies in this location, which is the snapshot or the target: it would change what is there.
    pub(crate) fn check_without_catalog(&self, catalog: &Self, what: &str) -> Result<()> {
        if catalog.lies_in(self) {
            return Err(invalid(format!(
                "the catalog {catalog} would lie in the {what} {self} and change it: keep it elsewhere"
            )));
        }
        Ok(())
    }

    fn lies_in(&self, outer: &Self) -> bool {
        let (inner, outer) = (self.url.trim_end_matches('/'), outer.url.trim_end_matches('/'));
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn local(path: &Path) -> Result<Self> {
        let path = canonical_path(path).map_err(|error| Failure::of_file("resolve the path", path, error))?;
        let url = Url::from_file_path(&path)
            .map_err(|()| invalid(format!("{} cannot be written as a URL", path.display())))?;
        let storage = Arc::new(Local::new(path.clone(), Disk::default()));
        Ok(Self { url: url.into(), local_path: Some(path), storage })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.url)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

/// The scheme, in small letters, of what is no path: any before `://`, and one that is known before any colon, so that a
/// missing slash makes no local folder.
fn scheme_of(text: &str) -> Option<String> {
    const KNOWN: [&str; 8] = ["file", "s3", "gs", "az", "redb", "sled", "etcd", "memory"];
    let (scheme, _) = text.split_once(':')?;
    let is_known = KNOWN.iter().any(|known| known.eq_ignore_ascii_case(scheme));
    let is_url = !scheme.contains('/') && (is_known || text.contains("://"));
    is_url.then(|| scheme.to_ascii_lowercase())
}

/// The path of a `file:` URL. What follows a `?` or `#` is no part of it, so that it would be another path than the one
/// meant.
fn path_of(text: &str) -> Result<PathBuf> {
    let url = Url::parse(text).ok();
    if url.as_ref().is_some_and(|url| url.query().is_some() || url.fragment().is_some()) {
        return Err(invalid(format!(
            "`{text}` has a query or a fragment, which no local path has: write `?` as %3F and `#` as %23, or give the \
             plain path"
        )));
    }
    let path = url.and_then(|url| url.to_file_path().ok());
    path.ok_or_else(|| invalid(format!("`{text}` is not the URL of a local path")))
}

/// The URL, if it has a host and nothing that could be a secret. No message repeats the text, which may hold one.
fn bare_url(scheme: &str, text: &str) -> Result<Url> {
    let url = Url::parse(text).map_err(|error| {
        Error::with_source(ErrorKind::InvalidArgument, format!("the {scheme} URL cannot be read"), error)
    })?;
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(invalid(format!(
            "the {scheme} URL holds credentials, a query or a fragment: write {scheme}://bucket/prefix and put \
             credentials and settings into the environment"
        )));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(invalid(format!("the {scheme} URL names no bucket: write {scheme}://bucket/prefix")));
    }
    Ok(url)
}

/// The path without empty parts, which `object_store` refuses.
fn collapsed(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

/// The absolute path with links resolved as far as it exists, and the rest resolved by its text.
fn canonical_path(path: &Path) -> std::io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let mut rest = Vec::new();
    let mut existing = absolute.as_path();
    let mut resolved = loop {
        match existing.canonicalize() {
            Ok(resolved) => break resolved,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let (Some(parent), Some(last)) = (existing.parent(), existing.components().next_back()) else {
            break existing.to_owned();
        };
        rest.push(last);
        existing = parent;
    };
    for component in rest.into_iter().rev() {
        match component {
            Component::ParentDir => _ = resolved.pop(),
            component => resolved.push(component),
        }
    }
    Ok(resolved)
}

fn remote_store(scheme: &str, url: &Url) -> Result<Arc<dyn RemoteStore>> {
    let _ = url;
    match scheme {
        #[cfg(feature = "s3")]
        "s3" => opened(object_store::aws::AmazonS3Builder::from_env().with_url(url.as_str()).build()),
        #[cfg(feature = "gcs")]
        "gs" => {
            opened(object_store::gcp::GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).build())
        }
        #[cfg(feature = "azure")]
        "az" => opened(object_store::azure::MicrosoftAzureBuilder::from_env().with_url(url.as_str()).build()),
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "this build cannot open {scheme}:// locations: build it with the feature {}",
                match scheme {
                    "s3" => "s3",
                    "gs" => "gcs",
                    _ => "azure",
                }
            ),
        )),
    }
}

#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
fn opened(store: object_store::Result<impl RemoteStore>) -> Result<Arc<dyn RemoteStore>> {
    match store {
        Ok(store) => Ok(Arc::new(store)),
        Err(error) => Err(Error::with_source(
            ErrorKind::InvalidArgument,
            "the remote store cannot be opened: check its settings in the environment",
            error,
        )),
    }
}

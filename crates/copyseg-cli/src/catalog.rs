//! Which catalog a command works on, and how it is opened.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use copyseg::{Catalog, Error, ErrorKind, Job, JobId, ManagerOptions, MetaManager, Result, Snapshot};
use copyseg_restore::Location;
use tokio::time::{Instant, sleep};

use crate::exit::Failure;

/// How often a catalog that another process holds is tried, and the pause between: another command may just be
/// reading it.
const HELD_ATTEMPTS: u32 = 5;
const HELD_PAUSE: Duration = Duration::from_millis(100);

/// How long the process that holds a catalog is given to do what it is asked to, and how long before it is looked for
/// anew.
const ASKED_MAX: Duration = Duration::from_secs(30);
const ASKED_AGAIN: Duration = Duration::from_secs(10);

/// The URL of the catalog that a command was given.
///
/// It may also be the path of a redb file, or of a local target with a catalog beside it.
///
/// # Errors
/// [`Failure::Usage`] if none was given, [`ErrorKind::NotFound`] if what was given is none of these.
pub(crate) fn url(given: Option<&str>) -> Result<String, Failure> {
    let Some(given) = given.filter(|given| !given.is_empty()) else {
        return Err(Failure::Usage(
            "this needs a catalog: give --catalog URL or set COPYSEG_CATALOG; a local target DIR has its own in \
             DIR.copyseg.redb"
                .into(),
        ));
    };
    let has_scheme = given.contains("://")
        || given.split_once(':').is_some_and(|(scheme, _)| copyseg::schemes().contains(&scheme));
    if has_scheme {
        return Ok(given.into());
    }
    let path = Path::new(given);
    if path.extension().is_some_and(|extension| extension == "redb") {
        return file_url(path);
    }
    // A restore resolves its target before it puts a catalog beside it.
    let file = Location::parse(given)?.local_path().and_then(beside);
    if let Some(file) = file.as_ref().filter(|file| file.is_file()) {
        return file_url(file);
    }
    let beside = file.map(|file| format!(" with the file {} beside it", file.display())).unwrap_or_default();
    let message =
        format!("`{given}` is no catalog: it is neither a URL nor a .redb file, and no local target{beside}");
    Err(Error::new(ErrorKind::NotFound, message).into())
}

/// The URL of the catalog beside a local target: `restored.copyseg.redb` for `restored`.
///
/// # Errors
/// [`Failure::Usage`] if there is nothing beside the target, as for `/`, or its path is not UTF-8.
pub(crate) fn url_beside(target: &Path) -> Result<String, Failure> {
    let file = beside(target).ok_or_else(|| {
        Failure::Usage(format!("a catalog cannot lie beside {}: give --catalog URL", target.display()))
    })?;
    file_url(&file)
}

fn beside(target: &Path) -> Option<PathBuf> {
    let mut name: OsString = target.file_name()?.into();
    name.push(".copyseg.redb");
    Some(target.with_file_name(name))
}

fn file_url(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().ok_or_else(|| {
        Failure::Usage(format!("the path {} is not UTF-8: name the catalog otherwise", path.display()))
    })?;
    let escaped = text.replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    let authority = if path.is_absolute() { "//" } else { "" };
    Ok(format!("redb:{authority}{escaped}"))
}

/// The command that goes on with a job in the catalog at `url`, for a shell in any folder and with any environment.
pub(crate) fn restore_command(url: &str, job: &Job) -> String {
    // The URL of a store in etcd alone would lack what it takes to connect.
    let local = Some(url).filter(|url| !url.starts_with("etcd:"));
    let canonical = local.and_then(|url| copyseg::canonical_url(url).ok());
    let catalog = canonical.as_deref().unwrap_or(url);
    let [source, target, catalog] = [&job.source, &job.target, catalog].map(quoted);
    format!("copyseg restore {source} {target} --catalog {catalog}")
}

/// The text as one word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = |character: char| character.is_alphanumeric() || "/.:_-,@%+=".contains(character);
    match text.chars().all(is_plain) {
        true => text.into(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// Opens a catalog for reading; nobody is fenced by it, and nothing is created.
pub(crate) async fn open_read_only(url: &str) -> Result<Arc<dyn Catalog>> {
    patiently(async || copyseg::open_catalog_read_only(url).await).await
}

/// What the catalog holds now.
pub(crate) async fn read(url: &str) -> Result<Snapshot> {
    let catalog = open_read_only(url).await?;
    let snapshot = Snapshot::load(&*catalog).await;
    catalog.close().await?;
    snapshot
}

/// Verifies the storage below the records of a catalog.
pub(crate) async fn check_storage(url: &str) -> Result<bool> {
    patiently(async || copyseg::check_storage(url).await).await
}

/// Becomes the writer of a catalog, created if it is not there. Where a process that has died can seem to hold it, this
/// waits until that cannot be, and tells the note so.
pub(crate) async fn acquire(url: &str, note: impl Fn(&str)) -> Result<MetaManager> {
    let patience = copyseg::dead_holder_timeout(url)?;
    let deadline = Instant::now() + patience;
    let mut told = false;
    loop {
        match acquire_now(url).await {
            Err(error) if error.kind() == ErrorKind::Held && Instant::now() < deadline => {
                if !std::mem::replace(&mut told, true) {
                    note(&format!("waiting up to {} s: {error}", patience.as_secs()));
                }
                sleep(HELD_PAUSE).await;
            }
            acquired => return acquired,
        }
    }
}

/// Becomes the writer of a catalog, created if it is not there, as soon as no other process holds it; the note is
/// told once by whom it is held.
pub(crate) async fn acquire_or_wait(url: &str, note: impl Fn(&str)) -> Result<MetaManager> {
    let mut told = false;
    let held = |error: &Error| {
        if !std::mem::replace(&mut told, true) {
            note(&format!("standing by: {error}"));
        }
    };
    copyseg::open_or_wait(url, ManagerOptions::default(), held).await
}

/// Cancels a job: by the process that holds the catalog, if one does and can be asked.
pub(crate) async fn cancel(url: &str, job: JobId, reason: &str) -> Result<(), Failure> {
    let deadline = Instant::now() + ASKED_MAX;
    loop {
        let held = match write(url, async |manager| Ok(manager.cancel_job(job, reason).await?)).await {
            Err(Failure::Library(error)) if error.kind() == ErrorKind::Held => error,
            cancelled => return cancelled.map(drop),
        };
        match copyseg::request_cancel(url, job, reason, ASKED_AGAIN).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => return Err(held.into()),
            // It may have ended without a successor: then this process can cancel the job itself.
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown && Instant::now() < deadline => {}
            answered => return Ok(answered?),
        }
    }
}

/// Becomes the writer of a catalog that exists, does `work` and lets go of it.
pub(crate) async fn write<T>(
    url: &str,
    work: impl AsyncFnOnce(&MetaManager) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // A mistyped name must not leave an empty catalog behind.
    open_read_only(url).await?.close().await?;
    let manager = acquire_now(url).await?;
    let result = work(&manager).await;
    let closed = manager.close().await;
    let value = result?;
    closed?;
    Ok(value)
}

async fn acquire_now(url: &str) -> Result<MetaManager> {
    patiently(async || copyseg::open(url).await).await
}

async fn patiently<T>(open: impl AsyncFn() -> Result<T>) -> Result<T> {
    for _ in 1..HELD_ATTEMPTS {
        match open().await {
            Err(error) if error.kind() == ErrorKind::Held => sleep(HELD_PAUSE).await,
            opened => return opened,
        }
    }
    open().await
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("redb:///a/b.redb", "redb:///a/b.redb")]
    #[case("memory:", "memory:")]
    #[case("etcd://host:2379/copyseg", "etcd://host:2379/copyseg")]
    #[case("a/b.redb", "redb:a/b.redb")]
    #[case("/a/50% #1?.redb", "redb:///a/50%25 %231%3F.redb")]
    #[case("10:30.redb", "redb:10:30.redb")]
    fn a_catalog_is_a_url_or_a_redb_file(#[case] given: &str, #[case] expected: &str) {
        assert_eq!(url(Some(given)).unwrap(), expected);
    }

    #[rstest]
    #[case("redb:///a/b.redb", "redb:///a/b.redb")]
    #[case("redb:///a b.redb", "'redb:///a b.redb'")]
    #[case("file:///$(date)", "'file:///$(date)'")]
    #[case("it's", r"'it'\''s'")]
    fn a_text_is_one_word_of_a_shell(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(quoted(text), expected);
    }

    #[rstest]
    #[case(None)]
    #[case(Some(""))]
    fn a_missing_catalog_is_a_usage_error(#[case] given: Option<&str>) {
        assert!(matches!(url(given), Err(Failure::Usage(message)) if message.contains("COPYSEG_CATALOG")));
    }

    #[test]
    fn a_path_without_a_catalog_is_not_found() {
        let Err(Failure::Library(error)) = url(Some("no-such-target")) else { panic!("it was found") };
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("no-such-target.copyseg.redb"), "{error}");
    }

    #[rstest]
    #[case("/a/restored", "redb:///a/restored.copyseg.redb")]
    #[case("/a/v1.2", "redb:///a/v1.2.copyseg.redb")]
    #[case("restored", "redb:restored.copyseg.redb")]
    fn a_local_target_has_its_catalog_beside_it(#[case] target: &str, #[case] expected: &str) {
        assert_eq!(url_beside(Path::new(target)).unwrap(), expected);
    }

    #[test]
    fn nothing_lies_beside_the_root() {
        assert!(matches!(url_beside(Path::new("/")), Err(Failure::Usage(_))));
    }
}

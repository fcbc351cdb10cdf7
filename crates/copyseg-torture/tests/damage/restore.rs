//! The restore's own files in the target: the owner, the plan, and the outcome that decides.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use copyseg_core::{Error, ErrorKind, ManagerOptions, MemoryCatalog, MetaManager, Result};
use copyseg_restore::{CancellationToken, Manifest, Outcome, RestoreProgress, RestoreRequest, restore};
use copyseg_torture::Trial;
use copyseg_torture::damage::spoils;
use tokio::sync::watch;

/// A snapshot, and the target that it was restored to.
struct Fixture {
    folder: tempfile::TempDir,
    catalog: MemoryCatalog,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for segment in [1, 22, 459_117_024_851_200_032_i64] {
            let below = folder.path().join(format!("nightly/{segment}"));
            fs::create_dir_all(&below).unwrap();
            fs::write(below.join("ids.npy"), format!("ids of {segment}")).unwrap();
            fs::write(below.join("vectors.npy"), "1.0 1.1 1.2").unwrap();
        }
        Self { folder, catalog: MemoryCatalog::new() }
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("restored")
    }

    fn request(&self) -> RestoreRequest {
        let text = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        let mut request = RestoreRequest::new(&text("nightly"), &text("restored")).unwrap();
        request.options.retry_delay_min = Duration::from_millis(1);
        request.options.retry_delay_max = Duration::from_millis(2);
        request
    }

    async fn restore(&self) -> Result<Outcome> {
        let options = ManagerOptions::default();
        let manager = MetaManager::open(Arc::new(self.catalog.clone()), options).await?;
        let progress = watch::Sender::new(RestoreProgress::default());
        let (request, stop) = (self.request(), CancellationToken::new());
        let run = restore(&manager, "redb:///catalog", &request, &progress, &stop);
        let outcome = tokio::time::timeout(Duration::from_secs(300), run).await.expect("no answer");
        manager.close().await?;
        outcome
    }

    /// Every restored file.
    fn copies(&self) -> Vec<Vec<u8>> {
        let folders = fs::read_dir(self.target()).unwrap().map(|entry| entry.unwrap().path());
        let mut folders: Vec<PathBuf> = folders.filter(|path| !path.ends_with("_copyseg")).collect();
        folders.sort();
        let names = ["ids.npy", "vectors.npy"];
        folders.iter().flat_map(|folder| names.map(|name| fs::read(folder.join(name)).unwrap())).collect()
    }
}

/// A completed restore: nobody is told of another manifest, and nothing is copied over what is there.
#[tokio::test]
async fn a_restore_with_a_damaged_record_is_known_as_completed_or_refused() {
    let fixture = Fixture::new().await;
    assert!(matches!(fixture.restore().await.unwrap(), Outcome::Completed { already: false, .. }));
    let location = fixture.request().target;
    let manifest = Manifest::read(&location).await.unwrap().unwrap();
    let copies = fixture.copies();
    assert_eq!(copies.len(), 6);
    let mut trial = Trial::new("a_restore_with_a_damaged_record_is_known_as_completed_or_refused", 1);
    while let Some(mut round) = trial.round() {
        for name in ["_copyseg/outcome", "_copyseg/owner"] {
            let path = fixture.target().join(name);
            let whole = fs::read(&path).unwrap();
            for spoil in spoils(whole.len(), round.seed(), 1) {
                let mut damaged = whole.clone();
                if !spoil.apply(&mut damaged) {
                    continue;
                }
                fs::write(&path, damaged).unwrap();
                match Manifest::read(&location).await {
                    Ok(found) => assert_eq!(found.as_ref(), Some(&manifest), "{name}, {spoil}"),
                    Err(error) => assert_names(&error, name),
                }
                match fixture.restore().await {
                    Ok(Outcome::Completed { already: true, segments: 3, .. }) => round.count("completed", 1),
                    Ok(outcome) => panic!("{name}, {spoil}: {outcome:?}"),
                    Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists { .. }) => {
                        round.count("taken for another restore's", 1);
                    }
                    Err(error) => {
                        assert_names(&error, name);
                        round.count("refused", 1);
                    }
                }
                assert!(fixture.copies() == copies, "{name}, {spoil}");
            }
            fs::write(&path, whole).unwrap();
        }
    }
}

fn assert_names(error: &Error, file: &str) {
    use ErrorKind::{Corrupt, InvalidArgument, Unsupported};
    assert!(matches!(error.kind(), Corrupt | InvalidArgument | Unsupported), "{error:?}");
    assert!(error.to_string().contains(file), "{error:?}");
}

//! Damage: every byte of what is stored changed, and every file cut, one after the other.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use copyseg_core::{Catalog, ManagerOptions, MetaManager};
use copyseg_redb::{RedbCatalog, RedbOptions};
use copyseg_sled::{SledCatalog, SledOptions};
use copyseg_torture::damage::{Spoil, Written, spoils};
use futures::future::BoxFuture;

fn env(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|s| s.parse().ok()).unwrap_or(default)
}

fn read_all(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            continue;
        }
        all.insert(entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    }
    all
}
fn write_all(folder: &Path, files: &BTreeMap<String, Vec<u8>>) {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).unwrap();
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

fn place(spoil: Spoil) -> usize {
    match spoil {
        Spoil::Flip(a, _) | Spoil::Put(a, _) | Spoil::Cut(a) => a,
    }
}

async fn explore(
    name: &str,
    files: &BTreeMap<String, Vec<u8>>,
    written: &Written,
    open: impl for<'a> Fn(&'a Path) -> BoxFuture<'a, copyseg_core::Result<Arc<dyn Catalog>>>,
) {
    let folder = tempfile::tempdir().unwrap();
    for (file, bytes) in files {
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        eprintln!("{name} {file}: {} bytes, used {used}", bytes.len());
        let start = std::time::Instant::now();
        let mut counts = BTreeMap::<String, usize>::new();
        let (from, to) = (env("FROM", 0), env("TO", used + 5000).min(bytes.len()));
        for (number, spoil) in spoils(to, env("SEED", 7) as u64, env("STRIDE", 997)).enumerate() {
            if place(spoil) < from {
                continue;
            }
            let mut copy = files.clone();
            if !spoil.apply(copy.get_mut(file).unwrap()) {
                continue;
            }
            let path = folder.path().join(number.to_string());
            write_all(&path, &copy);
            let opened = || open(&path);
            match written.find(&opened).await {
                Ok(finding) => *counts.entry(format!("{finding:?}")).or_default() += 1,
                Err(error) => {
                    *counts.entry("BAD".into()).or_default() += 1;
                    eprintln!(
                        "BAD {name} {file} page {} {spoil}: {}",
                        place(spoil) / 4096,
                        error.chars().take(400).collect::<String>().replace('\n', " ")
                    );
                }
            }
            fs::remove_dir_all(&path).unwrap();
        }
        eprintln!("{name} {file}: {counts:?} in {:?}", start.elapsed());
    }
}

fn redb(path: &Path) -> BoxFuture<'_, copyseg_core::Result<Arc<dyn Catalog>>> {
    Box::pin(async move {
        Ok(Arc::new(
            RedbCatalog::open(
                path.join("catalog.redb"),
                RedbOptions { create: false, ..RedbOptions::default() },
            )
            .await?,
        ) as Arc<dyn Catalog>)
    })
}
fn sled(path: &Path) -> BoxFuture<'_, copyseg_core::Result<Arc<dyn Catalog>>> {
    Box::pin(async move {
        Ok(Arc::new(SledCatalog::open(path, SledOptions { create: false, ..SledOptions::default() }).await?)
            as Arc<dyn Catalog>)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explore_redb() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Arc::new(
        RedbCatalog::open(folder.path().join("catalog.redb"), RedbOptions::default()).await.unwrap(),
    );
    let manager = MetaManager::open(catalog, ManagerOptions::default()).await.unwrap();
    let written = Written::fill(&manager).await.unwrap();
    let killed = read_all(folder.path());
    manager.close().await.unwrap();
    let closed = read_all(folder.path());
    explore("closed", &closed, &written, redb).await;
    explore("killed", &killed, &written, redb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explore_sled() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Arc::new(SledCatalog::open(folder.path(), SledOptions::default()).await.unwrap());
    let manager = MetaManager::open(catalog, ManagerOptions::default()).await.unwrap();
    let written = Written::fill(&manager).await.unwrap();
    let killed = read_all(folder.path());
    manager.close().await.unwrap();
    let catalog = Arc::new(SledCatalog::open(folder.path(), SledOptions::default()).await.unwrap());
    let manager = MetaManager::open(catalog, ManagerOptions::default()).await.unwrap();
    manager.close().await.unwrap();
    let closed = read_all(folder.path());
    explore("closed", &closed, &written, sled).await;
    explore("killed", &killed, &written, sled).await;
}

//! Syncs that fail in the kernel: nothing is said to be durable that the system has not synced.

use std::thread;

use copyseg_conformance::system_calls::{EIO, fail_in_this_thread};

use super::*;

/// What the work says on a disk that syncs nothing, where `owner` holds "first".
fn without_sync<T: Send>(work: impl AsyncFnOnce(&Local) -> Result<T, Failure> + Send) -> Result<T, String> {
    let (folder, local) = folder();
    fs::write(folder.path().join("owner"), "first").unwrap();
    let work = || {
        // The runtime starts its threads from this one, so they have the filter too.
        fail_in_this_thread(&["fsync", "fdatasync"], EIO);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(work(&local))
    };
    let done = thread::scope(|scope| scope.spawn(work).join().unwrap());
    assert_eq!(fs::read(folder.path().join("owner")).unwrap(), b"first", "nothing was put in place");
    assert!(!folder.path().join("7").exists(), "nothing was put in place");
    done.map_err(|failure| failure.error.chain())
}

fn assert_failed<T>(done: Result<T, String>, operation: &str) {
    let failure = done.err().expect("an error of the disk");
    assert!(failure.contains(operation) && failure.contains("os error 5"), "{failure}");
}

#[test]
fn no_file_is_in_place_that_the_system_has_not_synced() {
    let file = "cannot sync /";
    let write = async |local: &Local| local.write("7", STAGING, 6, Content::of("copied")).await;
    assert_failed(without_sync(write), file);
    let copy = async |local: &Local| {
        let owner = local.find("owner").await?.unwrap();
        local.write("7", STAGING, owner.bytes, local.open(&owner).await?).await
    };
    assert_failed(without_sync(copy), file);
    assert_failed(without_sync(async |local| local.create("7", STAGING, "new".into()).await), file);
    let replace = async |local: &Local| local.replace("owner", STAGING, b"first", "new".into()).await;
    assert_failed(without_sync(replace), file);
}

#[test]
fn no_folder_is_durable_that_the_system_has_not_synced() {
    assert_failed(without_sync(async |local| local.prepare("_copyseg").await), "cannot sync the folder /");
    let settle = async |local: &Local| local.settle(vec!["_copyseg".into()], Box::new(|| {})).await;
    assert_failed(without_sync(settle), "cannot sync the folder /");
}

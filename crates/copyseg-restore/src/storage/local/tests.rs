//! Files are read in bounded chunks, and appear whole or not at all.

mod given_up;
#[cfg(target_os = "linux")]
mod system_calls;

use futures::{StreamExt, TryStreamExt, stream};

use super::reader::CHUNK_BYTES;
use super::*;

const STAGING: &str = "_copyseg/staging/test";

fn folder() -> (tempfile::TempDir, Local) {
    let folder = tempfile::tempdir().unwrap();
    let local = Local::new(folder.path().to_owned(), Disk::default());
    std::fs::create_dir_all(folder.path().join(STAGING)).unwrap();
    (folder, local)
}

#[tokio::test]
async fn a_file_is_read_in_chunks_of_bounded_size() {
    let (folder, local) = folder();
    fs::File::create(folder.path().join("large")).unwrap().set_len(3 * CHUNK_BYTES + 5).unwrap();
    let file = local.find("large").await.unwrap().unwrap();
    let chunks: Vec<Bytes> = local.open(&file).await.unwrap().into_stream().try_collect().await.unwrap();
    assert!(chunks.iter().all(|chunk| chunk.len() as u64 <= CHUNK_BYTES));
    assert_eq!(chunks.iter().map(Bytes::len).sum::<usize>() as u64, 3 * CHUNK_BYTES + 5);
}

#[tokio::test]
async fn a_file_that_grows_while_it_is_read_is_noticed() {
    let (folder, local) = folder();
    let path = folder.path().join("growing");
    let growing = fs::File::create(&path).unwrap();
    growing.set_len(CHUNK_BYTES + 3).unwrap();
    let file = local.find("growing").await.unwrap().unwrap();
    let mut content = local.open(&file).await.unwrap().into_stream();
    assert_eq!(content.try_next().await.unwrap().unwrap().len() as u64, CHUNK_BYTES);
    growing.set_len(CHUNK_BYTES + 8).unwrap();
    let failure = content.try_collect::<Vec<_>>().await.unwrap_err();
    let (had, has) = (CHUNK_BYTES + 3, CHUNK_BYTES + 8);
    let told = format!("had {had} bytes and now has {has}");
    assert!(failure.error.to_string().ends_with(&told), "{failure:?}");
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_read_is_noticed() {
    let (folder, local) = folder();
    let path = folder.path().join("shrinking");
    let shrinking = fs::File::create(&path).unwrap();
    shrinking.set_len(3 * CHUNK_BYTES).unwrap();
    let file = local.find("shrinking").await.unwrap().unwrap();
    let mut content = local.open(&file).await.unwrap().into_stream();
    assert_eq!(content.try_next().await.unwrap().unwrap().len() as u64, CHUNK_BYTES);
    shrinking.set_len(CHUNK_BYTES + 8).unwrap();
    let failure = content.try_collect::<Vec<_>>().await.unwrap_err();
    let told = format!("had {} bytes and now has {}", 3 * CHUNK_BYTES, CHUNK_BYTES + 8);
    assert!(failure.error.to_string().ends_with(&told), "{failure:?}");
}

#[tokio::test]
async fn a_file_is_copied_whole_and_its_chunks_are_seen_as_they_go_by() {
    let (folder, local) = folder();
    for bytes in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
        let content: Vec<u8> = (0..bytes).map(|byte| (byte % 251) as u8).collect();
        fs::write(folder.path().join("file"), &content).unwrap();
        let file = local.find("file").await.unwrap().unwrap();
        let seen = std::sync::Arc::new(parking_lot::Mutex::new(Checksum::default()));
        let (sum, folder) = (seen.clone(), folder.path().to_owned());
        let chunks = local.open(&file).await.unwrap().inspect(move |chunk| {
            let unfinished = children(&Disk::default(), &folder.join(STAGING)).unwrap();
            let written: u64 = unfinished.iter().map(|(_, metadata)| metadata.len()).sum();
            let mut sum = sum.lock();
            assert_eq!(written, sum.bytes, "what was seen before is written");
            sum.add(chunk);
        });
        local.write("copy", STAGING, bytes, chunks).await.unwrap();
        assert!(local.read("copy").await.unwrap().unwrap() == content, "{bytes} bytes");
        let copy = local.checksum("copy", Box::new(|| {})).await.unwrap();
        assert_eq!(copy, Some(*seen.lock()), "{bytes} bytes");
    }
    assert_eq!(local.checksum("none", Box::new(|| {})).await.unwrap(), None);
}

#[tokio::test]
async fn a_source_that_cannot_be_opened_leaves_no_unfinished_file() {
    let (folder, local) = folder();
    fs::write(folder.path().join("file"), "content").unwrap();
    let file = local.find("file").await.unwrap().unwrap();
    fs::remove_file(folder.path().join("file")).unwrap();
    // Had it been created, that would have failed first.
    let content = local.open(&file).await.unwrap();
    let failure = local.write("copy", "no folder for it", 7, content).await.unwrap_err();
    assert!(failure.error.to_string().ends_with("it is gone"), "{failure:?}");
}

#[tokio::test]
async fn a_file_is_created_once_and_whole() {
    let (folder, local) = folder();
    assert!(local.create("_copyseg/owner", STAGING, "first".into()).await.unwrap());
    assert!(!local.create("_copyseg/owner", STAGING, "second".into()).await.unwrap());
    assert_eq!(local.read("_copyseg/owner").await.unwrap().unwrap(), b"first");
    assert!(!local.replace("_copyseg/owner", STAGING, b"second", "third".into()).await.unwrap());
    assert!(local.replace("_copyseg/owner", STAGING, b"first", "third".into()).await.unwrap());
    assert_eq!(local.read("_copyseg/owner").await.unwrap().unwrap(), b"third");
    assert_eq!(children(&Disk::default(), &folder.path().join(STAGING)).unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_create_a_file_one_succeeds() {
    let (_folder, local) = folder();
    let creations = (0..32).map(|number| local.create("_copyseg/owner", STAGING, format!("{number}").into()));
    let created = futures::future::try_join_all(creations).await.unwrap();
    assert_eq!(created.into_iter().filter(|created| *created).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_replace_the_same_file_one_succeeds() {
    let (_folder, local) = folder();
    assert!(local.create("_copyseg/owner", STAGING, "earlier".into()).await.unwrap());
    let replacements = (0..32)
        .map(|number| local.replace("_copyseg/owner", STAGING, b"earlier", format!("{number}").into()));
    let replaced = futures::future::try_join_all(replacements).await.unwrap();
    assert_eq!(replaced.into_iter().filter(|replaced| *replaced).count(), 1);
}

#[tokio::test]
async fn a_write_that_fails_leaves_the_old_file_and_no_other() {
    let (folder, local) = folder();
    fs::write(folder.path().join("file"), "old").unwrap();
    let broken = stream::iter([Ok(Bytes::from("new")), Err(Failure::transient("broken"))]).boxed();
    local.write("file", STAGING, 6, Content::Stream(broken)).await.unwrap_err();
    assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"old");
    assert_eq!(children(&Disk::default(), &folder.path().join(STAGING)).unwrap().len(), 0);
    local.sweep("_copyseg/staging", STAGING).await.unwrap();
    assert!(!folder.path().join("_copyseg/staging").exists());
}

#[tokio::test]
async fn nothing_is_written_through_a_link_that_stands_in_the_way() {
    let (folder, local) = folder();
    let elsewhere = tempfile::tempdir().unwrap();
    let link = |name: &str| std::os::unix::fs::symlink(elsewhere.path(), folder.path().join(name)).unwrap();
    link("7");
    fs::create_dir(folder.path().join("8")).unwrap();
    link("8/nested");
    for name in ["7/file", "7/nested/file", "8/nested/file", "8/nested/deeply/file"] {
        let written = local.write(name, STAGING, 7, Content::of("content")).await.unwrap_err();
        let created = local.create(name, STAGING, "content".into()).await.unwrap_err();
        for failure in [written, created] {
            assert_eq!(failure.kind, FailureKind::Blocked, "{failure:?}");
            assert!(failure.error.to_string().contains("is a symbolic link"), "{failure:?}");
        }
    }
    fs::remove_dir_all(folder.path().join("_copyseg")).unwrap();
    link("_copyseg");
    for refused in [local.prepare("_copyseg").await, local.open_staging(STAGING).await] {
        assert!(refused.unwrap_err().error.to_string().contains("is a symbolic link"));
    }
    assert!(children(&Disk::default(), elsewhere.path()).unwrap().is_empty());
}

#[tokio::test]
async fn the_location_itself_may_be_reached_through_a_link() {
    let (folder, _) = folder();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path(), &link).unwrap();
    let local = Local::new(link, Disk::default());
    local.prepare("_copyseg").await.unwrap();
    local.write("7/file", STAGING, 7, Content::of("content")).await.unwrap();
    assert_eq!(fs::read(folder.path().join("7/file")).unwrap(), b"content");
}

#[tokio::test]
async fn what_is_on_its_way_when_its_staging_folder_is_removed_never_appears() {
    let (folder, local) = folder();
    fs::write(folder.path().join("7"), "copied by a successor").unwrap();
    let local = std::sync::Arc::new(local);
    for name in ["7", "8/nested/file"] {
        let sweeping = local.clone();
        let content = stream::once(async { Ok(Bytes::from("late")) }).chain(stream::once(async move {
            sweeping.sweep("_copyseg/staging", STAGING).await.unwrap();
            Ok(Bytes::from("later"))
        }));
        let failure = local.write(name, STAGING, 9, Content::Stream(content.boxed())).await.unwrap_err();
        assert_eq!(failure.kind, crate::failure::FailureKind::Blocked, "{failure:?}");
        assert!(failure.error.to_string().contains("another process"), "{failure:?}");
        local.open_staging(STAGING).await.unwrap();
    }
    local.sweep("_copyseg/staging", STAGING).await.unwrap();
    let late = local.write("7", STAGING, 4, Content::of("late")).await;
    let created = local.create("_copyseg/owner", STAGING, "late".into()).await;
    let replaced = local.replace("7", STAGING, b"copied by a successor", "late".into()).await;
    for failure in [late.unwrap_err(), created.unwrap_err(), replaced.unwrap_err()] {
        assert_eq!(failure.kind, crate::failure::FailureKind::Blocked, "{failure:?}");
    }
    assert_eq!(fs::read(folder.path().join("7")).unwrap(), b"copied by a successor");
    let names: Vec<_> =
        children(&Disk::default(), folder.path()).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 2, "no folder was made for it: {names:?}");
    assert!(children(&Disk::default(), &folder.path().join("_copyseg")).unwrap().is_empty());
}

#[tokio::test]
async fn a_write_that_is_given_up_leaves_nothing_that_could_be_put_in_place_later() {
    let (folder, local) = folder();
    // The rest is asked for once the first half is written, and never comes.
    let half_written = std::sync::Arc::new(tokio::sync::Notify::new());
    let tell = half_written.clone();
    let rest = stream::once(async move {
        tell.notify_one();
        std::future::pending().await
    });
    let content = stream::once(async { Ok(Bytes::from("half")) }).chain(rest);
    tokio::select! {
        written = local.write("file", STAGING, 8, Content::Stream(content.boxed())) => panic!("{written:?}"),
        () = half_written.notified() => {}
    }
    assert!(children(&Disk::default(), &folder.path().join(STAGING)).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_still_being_filled_is_removed_for_good() {
    let (folder, local) = folder();
    let local = std::sync::Arc::new(local);
    let fillers: Vec<_> = (0..4)
        .map(|_| {
            let local = local.clone();
            tokio::spawn(async move {
                let mut written = 0;
                loop {
                    let content = Content::of("content");
                    if local.write(&format!("{written}"), STAGING, 7, content).await.is_err() {
                        return written;
                    }
                    written += 1;
                }
            })
        })
        .collect();
    while children(&Disk::default(), folder.path()).unwrap().len() < 20 {
        tokio::task::yield_now().await;
    }
    local.sweep("_copyseg/staging", STAGING).await.unwrap();
    for filler in fillers {
        filler.await.unwrap();
    }
    assert!(!folder.path().join("_copyseg/staging").exists());
}

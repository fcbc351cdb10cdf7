//! A write whose future is dropped while its thread hangs: whatever the thread does once it goes on, nothing appears.

use std::sync::mpsc;

use tokio::sync::oneshot;

use super::*;

/// Content of three chunks that hangs before the chunk `number`, with what says that it hangs, what wakes it, and the
/// chunks it was asked for by the end.
fn hanging_content(
    number: usize,
) -> (Content, oneshot::Receiver<()>, mpsc::Sender<()>, oneshot::Receiver<usize>) {
    let (tell, hangs) = oneshot::channel();
    let (wake, woken) = mpsc::channel();
    let (asked, ended) = oneshot::channel();
    let (mut tell, mut asked) = (Some(tell), Asked { count: 0, tell: Some(asked) });
    let content = move |chunk: &mut Vec<u8>| {
        let asked = &mut asked;
        if asked.count == number {
            tell.take().unwrap().send(()).unwrap();
            woken.recv().unwrap();
        }
        asked.count += 1;
        *chunk = b"chunk".to_vec();
        Ok(asked.count < 3)
    };
    (Content::Blocking(Box::new(content)), hangs, wake, ended)
}

/// Tells how often there was asked when the thread is done with the content, which it drops last.
struct Asked {
    count: usize,
    tell: Option<oneshot::Sender<usize>>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        let _ = self.tell.take().unwrap().send(self.count);
    }
}

#[rstest::rstest]
#[case::before_there_is_a_file(0)]
#[case::half_way(1)]
#[case::before_the_end(2)]
#[tokio::test]
async fn a_source_that_hangs_is_asked_for_nothing_more_once_the_write_is_given_up(#[case] number: usize) {
    let (folder, local) = folder();
    let staging = folder.path().join(STAGING);
    let (content, hangs, wake, ended) = hanging_content(number);
    tokio::select! {
        written = local.write("7/file", STAGING, 15, content) => panic!("{written:?}"),
        hung = hangs => hung.unwrap(),
    }
    assert!(children(&Disk::default(), &staging).unwrap().is_empty(), "removed at once");
    wake.send(()).unwrap();
    assert_eq!(ended.await.unwrap(), number + 1);
    assert!(children(&Disk::default(), &staging).unwrap().is_empty(), "and not made again");
    assert!(!folder.path().join("7").exists());
}

#[rstest::rstest]
#[case::a_check(true)]
#[case::the_syncing_of_folders(false)]
#[tokio::test]
async fn what_is_given_up_goes_no_further(#[case] is_check: bool) {
    let (folder, local) = folder();
    fs::File::create(folder.path().join("large")).unwrap().set_len(100 * CHUNK_BYTES).unwrap();
    let folders: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    folders.iter().for_each(|name| fs::create_dir(folder.path().join(name)).unwrap());
    let (tell, hangs) = oneshot::channel();
    let (wake, woken) = mpsc::channel();
    let (asked, ended) = oneshot::channel();
    let asked = parking_lot::Mutex::new((Some(tell), Asked { count: 0, tell: Some(asked) }));
    let heard = move || {
        let (tell, asked) = &mut *asked.lock();
        asked.count += 1;
        if let Some(tell) = tell.take() {
            tell.send(()).unwrap();
            woken.recv().unwrap();
        }
    };
    let work = async {
        match is_check {
            true => local.checksum("large", Box::new(heard)).await.map(drop),
            false => local.settle(folders, Box::new(heard)).await,
        }
    };
    tokio::select! {
        done = work => panic!("{done:?}"),
        hung = hangs => hung.unwrap(),
    }
    wake.send(()).unwrap();
    assert_eq!(ended.await.unwrap(), 1);
}

/// Writes a file with a thread that hangs at the `number`th moment before or after a call to the file system, and gives
/// up there; answers the call and whether it was done, or nothing if there are not so many.
#[cfg(feature = "faults")]
async fn given_up_at(number: usize, is_stream: bool) -> Option<(&'static str, bool)> {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    let (folder, mut local) = folder();
    let (tell, mut hangs) = tokio::sync::mpsc::unbounded_channel();
    let (wake, woken) = mpsc::channel();
    let (moments, woken) = (AtomicUsize::new(0), parking_lot::Mutex::new(woken));
    let hook = move |call: &disk::DiskCall<'_>, done: bool| {
        if moments.fetch_add(1, Ordering::SeqCst) == number {
            tell.send((call.operation, done)).unwrap();
            woken.lock().recv().unwrap();
        }
        Ok(())
    };
    local.disk.hook = Some(Arc::new(hook));
    let (content, _, _, ended) = hanging_content(usize::MAX);
    let content = if is_stream { Content::Stream(content.into_stream()) } else { content };
    let hung = tokio::select! {
        biased;
        hung = hangs.recv() => hung.unwrap(),
        written = local.write("7/file", STAGING, 15, content) => {
            written.unwrap();
            assert_eq!(fs::read(folder.path().join("7/file")).unwrap(), b"chunkchunkchunk");
            return None;
        }
    };
    wake.send(()).unwrap();
    let _ = ended.await;
    // The last that refers to the hook is the thread: then it is done with the file as well.
    let hook = Arc::downgrade(&local.disk.hook.take().unwrap());
    while hook.strong_count() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert!(children(&Disk::default(), &folder.path().join(STAGING)).unwrap().is_empty(), "{hung:?}");
    assert_eq!(folder.path().join("7/file").exists(), hung == ("rename", true), "{hung:?}");
    Some(hung)
}

#[cfg(feature = "faults")]
#[rstest::rstest]
#[tokio::test]
async fn a_write_that_is_given_up_at_any_call_puts_nothing_in_place_later(
    #[values(false, true)] is_stream: bool,
) {
    let mut hung = Vec::new();
    while let Some(call) = given_up_at(hung.len(), is_stream).await {
        hung.push(call);
    }
    let calls: Vec<_> = hung.iter().filter(|(_, done)| !done).map(|(operation, _)| *operation).collect();
    let expected = [
        "create",
        "write",
        "write",
        "write",
        "sync",
        "metadata",
        "rename",
        "metadata",
        "create folders",
        "metadata",
        "rename",
    ];
    assert_eq!(calls, expected);
}

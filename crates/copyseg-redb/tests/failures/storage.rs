//! A disk in memory that keeps what was synced apart from what was only written, and fails when told to.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use redb::StorageBackend;

/// One step that reached the disk.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Write(u64, Vec<u8>),
    SetLength(u64),
    Sync,
}

/// Clones are handles on the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Storage(Arc<(Mutex<Disk>, Condvar)>);

#[derive(Debug)]
struct Disk {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    steps: Vec<Step>,
    /// How the next sync fails, and whether what it was for reaches the disk all the same.
    failing_sync: Option<(io::ErrorKind, bool)>,
    refuses_opening: bool,
    hangs: bool,
    length_max: u64,
    open: u32,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            synced: Vec::new(),
            steps: Vec::new(),
            failing_sync: None,
            refuses_opening: false,
            hangs: false,
            length_max: u64::MAX,
            open: 0,
        }
    }
}

impl Storage {
    /// A disk that holds `bytes`.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        let storage = Self::default();
        storage.with(|disk| {
            disk.synced.clone_from(&bytes);
            disk.bytes = bytes;
        });
        storage
    }

    pub(crate) fn opener(self) -> impl Fn() -> io::Result<Self> + Send + 'static {
        move || {
            self.with(|disk| {
                if disk.refuses_opening {
                    return Err(io::Error::other("the disk is not there"));
                }
                disk.open += 1;
                Ok(())
            })?;
            Ok(self.clone())
        }
    }

    pub(crate) fn fail_sync(&self, reaches_the_disk: bool) {
        self.with(|disk| disk.failing_sync = Some((io::ErrorKind::Other, reaches_the_disk)));
    }

    pub(crate) fn be_full_at_next_sync(&self) {
        self.with(|disk| disk.failing_sync = Some((io::ErrorKind::StorageFull, false)));
    }

    pub(crate) fn refuse_opening(&self, refuses: bool) {
        self.with(|disk| disk.refuses_opening = refuses);
    }

    pub(crate) fn limit(&self, length_max: u64) {
        self.with(|disk| disk.length_max = length_max);
    }

    /// While it hangs, a sync waits.
    pub(crate) fn hang_sync(&self, hangs: bool) {
        self.with(|disk| disk.hangs = hangs);
        self.0.1.notify_all();
    }

    pub(crate) fn wait_until_closed(&self) {
        let disk = self.0.0.lock().unwrap();
        let (_disk, waited) = self.0.1.wait_timeout_while(disk, PATIENCE, |disk| disk.open > 0).unwrap();
        assert!(!waited.timed_out(), "the storage is never let go of");
    }

    /// Every step so far, in order.
    pub(crate) fn steps(&self) -> Vec<Step> {
        self.with(|disk| disk.steps.clone())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Disk) -> T) -> T {
        work(&mut self.0.0.lock().unwrap())
    }
}

/// After this long a hanging disk fails, so that a test that waits for it in vain ends.
const PATIENCE: Duration = Duration::from_secs(300);

/// Does to `bytes` what `step` did to the disk.
pub(crate) fn replay(bytes: &mut Vec<u8>, step: &Step) {
    match step {
        Step::Write(offset, data) => {
            let (start, end) = (*offset as usize, *offset as usize + data.len());
            bytes.resize(bytes.len().max(end), 0);
            bytes[start..end].copy_from_slice(data);
        }
        Step::SetLength(length) => bytes.resize(*length as usize, 0),
        Step::Sync => {}
    }
}

impl StorageBackend for Storage {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|disk| disk.bytes.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|disk| {
            let start = offset as usize;
            let bytes = disk.bytes.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.with(|disk| disk.apply(Step::SetLength(length)))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|disk| disk.apply(Step::Write(offset, data.to_vec())))
    }

    fn sync_data(&self) -> io::Result<()> {
        let disk = self.0.0.lock().unwrap();
        let (mut disk, waited) = self.0.1.wait_timeout_while(disk, PATIENCE, |disk| disk.hangs).unwrap();
        assert!(!waited.timed_out(), "nobody lets the disk go on");
        match disk.failing_sync.take() {
            None => {
                disk.steps.push(Step::Sync);
                disk.synced = disk.bytes.clone();
                Ok(())
            }
            Some((kind, reaches_the_disk)) => {
                if !reaches_the_disk {
                    disk.bytes = disk.synced.clone();
                }
                Err(io::Error::new(kind, "the disk failed to sync"))
            }
        }
    }

    fn close(&self) -> io::Result<()> {
        self.with(|disk| disk.open -= 1);
        self.0.1.notify_all();
        Ok(())
    }
}

impl Disk {
    fn apply(&mut self, step: Step) -> io::Result<()> {
        let end = match &step {
            Step::Write(offset, data) => offset + data.len() as u64,
            Step::SetLength(length) => *length,
            Step::Sync => 0,
        };
        if end > self.length_max {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is full"));
        }
        replay(&mut self.bytes, &step);
        self.steps.push(step);
        Ok(())
    }
}

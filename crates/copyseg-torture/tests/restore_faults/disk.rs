//! A file system that fails at one of its calls, or whose process dies there.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use copyseg_restore::{DiskCall, DiskHook};
use tokio::sync::Notify;

/// What becomes of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiskFault {
    /// It fails, and has no effect.
    Before,
    /// It has its effect, and fails all the same.
    After,
    /// The disk is full.
    Full,
    /// The process is killed before it.
    Kill,
}

impl DiskFault {
    pub(crate) const ALL: [Self; 4] = [Self::Before, Self::After, Self::Full, Self::Kill];
}

/// Counts the calls, and lets one of them fail.
pub(crate) struct FaultyDisk {
    call: u64,
    fault: DiskFault,
    calls: AtomicU64,
    reached: AtomicBool,
    killed: AtomicBool,
    /// Told when the process is killed.
    pub(crate) kill: Notify,
}

impl FaultyDisk {
    pub(crate) fn new(call: u64, fault: DiskFault) -> Arc<Self> {
        let (calls, reached, killed) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { call, fault, calls, reached, killed, kill: Notify::new() })
    }

    pub(crate) fn reached(&self) -> bool {
        self.reached.load(Ordering::SeqCst)
    }

    pub(crate) fn hook(self: &Arc<Self>) -> Arc<DiskHook> {
        let disk = Arc::clone(self);
        Arc::new(move |call: &DiskCall<'_>, done| disk.decide(call, done))
    }

    fn decide(&self, call: &DiskCall<'_>, done: bool) -> io::Result<()> {
        if self.killed.load(Ordering::SeqCst) {
            return Err(io::Error::other("the process was killed"));
        }
        let number = if done {
            self.calls.load(Ordering::SeqCst)
        } else {
            self.calls.fetch_add(1, Ordering::SeqCst) + 1
        };
        let is_due = number == self.call + 1 && done == (self.fault == DiskFault::After);
        if !is_due || self.reached.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        match self.fault {
            DiskFault::Before | DiskFault::After => Err(io::Error::other(format!(
                "{} of {} failed on purpose",
                call.operation,
                call.path.display()
            ))),
            DiskFault::Full => Err(io::Error::from(io::ErrorKind::StorageFull)),
            DiskFault::Kill => {
                self.killed.store(true, Ordering::SeqCst);
                self.kill.notify_one();
                Err(io::Error::other("the process was killed"))
            }
        }
    }
}

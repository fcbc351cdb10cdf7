//! Wakes a flush that sled forgot.
//!
//! When a write on one of sled's threads fails, sled notes the error, and on one of two paths (`exit_reservation` in
//! its `logger.rs`) does not wake who waits for the write, who then waits for ever. Any flush that begins after the
//! error was noted fails at once, and wakes the others first.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use copyseg_core::{Error, ErrorKind, Result};
use sled::{Config, Db};

/// How long a forgotten flush waits.
const INTERVAL: Duration = Duration::from_secs(1);

/// A thread that looks for forgotten flushes, until this is dropped.
pub(crate) struct Wake(Option<(Sender<()>, JoinHandle<()>)>);

impl Wake {
    /// `config` is the one that `database` was opened with.
    pub(crate) fn start(config: Config, database: Db) -> Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let run = move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if config.global_error().is_err() {
                    // It fails, which is the point.
                    let _ = database.flush();
                }
            }
        };
        let thread = thread::Builder::new().name("copyseg-sled-wake".into()).spawn(run).map_err(|error| {
            let message = "cannot open the catalog: no thread could be started for it, try again";
            Error::with_source(ErrorKind::Unavailable, message, error)
        })?;
        Ok(Self(Some((stop, thread))))
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            // Its handle on the database goes with it, or the folder would stay locked.
            let _ = thread.join();
        }
    }
}

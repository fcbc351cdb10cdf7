//! A disk that remembers every step, so that its power can be cut afterwards at each of them.

use std::io;
use std::sync::Arc;

use fastrand::Rng;
use parking_lot::Mutex;
use redb::StorageBackend;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A file on a disk. Clones are handles on the same one.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<Log>>);

#[derive(Debug, Default)]
struct Log {
    bytes: Vec<u8>,
    steps: Vec<Step>,
    ignores_syncs: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize, Vec<u8>),
    SetLength(usize),
    Sync,
}

/// What a power cut leaves of the steps after the last sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remains {
    /// Nothing.
    Nothing,
    /// All but some sectors of the last write.
    AllButATornWrite,
    /// Each step whole, in some of its sectors, or not at all.
    Some,
}

impl Remains {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::Nothing, Self::AllButATornWrite, Self::Some];
}

impl Disk {
    /// A disk that holds `bytes`.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Log { bytes, ..Log::default() })))
    }

    /// An empty disk that says that it has synced, and has not.
    pub fn that_ignores_syncs() -> Self {
        Self(Arc::new(Mutex::new(Log { ignores_syncs: true, ..Log::default() })))
    }

    /// How many steps there were so far.
    pub fn steps(&self) -> usize {
        self.0.lock().steps.len()
    }

    /// Notes that a file which somebody else writes holds `content` when it is about to be synced. What was written to it
    /// since the last time are the sectors that differ.
    pub fn sync_of(&self, content: &[u8]) {
        let mut log = self.0.lock();
        if log.bytes.len() != content.len() {
            log.apply(Step::SetLength(content.len()));
        }
        let writes: Vec<_> = log
            .bytes
            .chunks(SECTOR)
            .zip(content.chunks(SECTOR))
            .enumerate()
            .filter(|(_, (before, now))| before != now)
            .map(|(sector, (_, now))| Step::Write(sector * SECTOR, now.to_vec()))
            .collect();
        writes.into_iter().for_each(|step| log.apply(step));
        log.apply(Step::Sync);
    }

    /// Its cuts from the step of this number on.
    pub fn cuts_from(&self, first: usize) -> Cuts {
        let steps = self.0.lock().steps.clone();
        let mut cuts = Cuts { steps, at: 0, synced: Vec::new(), pending: 0 };
        while cuts.at < first {
            cuts.advance();
        }
        cuts
    }
}

impl Log {
    fn apply(&mut self, step: Step) {
        replay(&mut self.bytes, &step);
        self.steps.push(step);
    }
}

/// A walk along the steps of a disk, cutting its power after each.
#[derive(Debug)]
pub struct Cuts {
    steps: Vec<Step>,
    at: usize,
    synced: Vec<u8>,
    /// The first step after the last sync.
    pending: usize,
}

impl Cuts {
    /// How many steps were done before this cut.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Whether it is the last moment before a sync.
    pub fn is_before_a_sync(&self) -> bool {
        matches!(self.steps.get(self.at), Some(Step::Sync))
    }

    /// Whether there are no more steps.
    pub fn is_at_the_end(&self) -> bool {
        self.at == self.steps.len()
    }

    /// Goes on to the next cut, unless this is the last.
    pub fn advance(&mut self) -> bool {
        let Some(step) = self.steps.get(self.at) else { return false };
        self.at += 1;
        if matches!(step, Step::Sync) {
            self.steps[self.pending..self.at].iter().for_each(|step| replay(&mut self.synced, step));
            self.pending = self.at;
        }
        true
    }

    /// What the disk holds after this cut.
    pub fn disk(&self, remains: Remains, random: &mut Rng) -> Vec<u8> {
        let mut disk = self.synced.clone();
        let pending = &self.steps[self.pending..self.at];
        for (index, step) in pending.iter().enumerate() {
            let is_last = index + 1 == pending.len();
            match (remains, step) {
                (Remains::Nothing, _) => {}
                (Remains::AllButATornWrite, step) if is_last => tear(&mut disk, step, random),
                (Remains::AllButATornWrite, step) => replay(&mut disk, step),
                (Remains::Some, step) => match random.u32(0..3) {
                    0 => {}
                    1 => tear(&mut disk, step, random),
                    _ => replay(&mut disk, step),
                },
            }
        }
        disk
    }
}

/// Does some sectors of a step.
fn tear(disk: &mut Vec<u8>, step: &Step, random: &mut Rng) {
    match step {
        Step::Write(offset, data) => {
            for (sector, data) in data.chunks(SECTOR).enumerate() {
                if random.bool() {
                    replay(disk, &Step::Write(offset + sector * SECTOR, data.to_vec()));
                }
            }
        }
        step => replay(disk, step),
    }
}

fn replay(disk: &mut Vec<u8>, step: &Step) {
    match step {
        Step::Write(offset, data) => {
            let end = offset + data.len();
            if disk.len() < end {
                disk.resize(end, 0);
            }
            disk[*offset..end].copy_from_slice(data);
        }
        Step::SetLength(length) => disk.resize(*length, 0),
        Step::Sync => {}
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = offset as usize;
        let log = self.0.lock();
        out.copy_from_slice(log.bytes.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.lock().apply(Step::SetLength(length as usize));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.lock().apply(Step::Write(offset as usize, data.to_vec()));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut log = self.0.lock();
        if !log.ignores_syncs {
            log.apply(Step::Sync);
        }
        Ok(())
    }
}

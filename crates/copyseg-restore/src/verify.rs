//! Whether a copy is what was read.

use futures::TryStreamExt;

use crate::failure::{Failure, FailureKind};
use crate::request::Verify;
use crate::storage::{File, Storage};
use crate::worker::Assignment;

/// What is kept of the bytes that went by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Checksum {
    pub(crate) bytes: u64,
    crc32c: u32,
}

impl Checksum {
    pub(crate) fn add(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, chunk);
    }
}

/// Compares the copy `name` in `target` with what was read from the source.
///
/// # Errors
/// A transient failure if it differs: copying it again may help.
pub(crate) async fn check(
    target: &dyn Storage,
    name: &str,
    expected: Checksum,
    verify: Verify,
    assignment: &Assignment,
) -> Result<(), Failure> {
    let differs = |how: String| {
        Failure::transient(format!("the copy {} differs from its source: {how}", target.describe(name)))
    };
    let Some(copy) = target.find(name).await? else {
        return Err(differs("it is not there".to_owned()));
    };
    if copy.bytes != expected.bytes {
        return Err(differs(format!("it has {} bytes instead of {}", copy.bytes, expected.bytes)));
    }
    if verify == Verify::Size {
        return Ok(());
    }
    let found = read_back(target, &copy, assignment).await.map_err(|failure| match failure.kind {
        // Another attempt wrote it meanwhile; no reason to give up.
        FailureKind::Permanent => Failure { kind: FailureKind::Transient, ..failure },
        _ => failure,
    })?;
    if found != expected {
        let (is, should) = (found.crc32c, expected.crc32c);
        return Err(differs(format!("its crc32c is {is:08x} instead of {should:08x}")));
    }
    Ok(())
}

async fn read_back(target: &dyn Storage, copy: &File, assignment: &Assignment) -> Result<Checksum, Failure> {
    let mut found = Checksum::default();
    let mut content = target.open(copy).await?;
    while let Some(chunk) = content.try_next().await? {
        found.add(&chunk);
        assignment.beat();
    }
    Ok(found)
}

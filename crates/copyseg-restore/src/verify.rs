//! Whether a copy is what was read.

use crate::failure::{Failure, FailureKind};
use crate::request::Verify;
use crate::storage::Storage;
use crate::storage::content::Checksum;
use crate::worker::Assignment;

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
    let found = match verify {
        // As far as it is looked at, it is what it should be.
        Verify::Size => target.find(name).await?.map(|copy| Checksum { bytes: copy.bytes, ..expected }),
        Verify::Content => {
            let reporter = assignment.reporter();
            let read = target.checksum(name, Box::new(move || reporter.beat())).await;
            read.map_err(|failure| match failure.kind {
                // Another attempt wrote it meanwhile; no reason to give up.
                FailureKind::Permanent => Failure { kind: FailureKind::Transient, ..failure },
                _ => failure,
            })?
        }
    };
    let how = match found {
        Some(found) if found == expected => return Ok(()),
        None => "it is not there".to_owned(),
        Some(found) if found.bytes != expected.bytes => {
            format!("it has {} bytes instead of {}", found.bytes, expected.bytes)
        }
        Some(found) => {
            format!("its crc32c is {:08x} instead of {:08x}", found.crc32c, expected.crc32c)
        }
    };
    Err(Failure::transient(format!("the copy {} differs from its source: {how}", target.describe(name))))
}

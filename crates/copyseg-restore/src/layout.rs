//! The names of things in a target, and of segment folders anywhere.
//!
//! ```text
//! <target>/<target segment id>/<the files of the source segment>
//! <target>/_copyseg/owner      whose target this is
//! <target>/_copyseg/outcome    the manifest, or the marker of an aborted restore
//! <target>/_copyseg/plan-<restore>             the planned files by name, while the restore is unfinished
//! <target>/_copyseg/staging/<restore>/<run>/   unfinished files and notes of unfinished uploads
//! ```

use copyseg_core::SegmentId;

/// The folder of the restore's own files.
pub(crate) const RECORDS: &str = "_copyseg";
/// Names the restore that owns the target. Created before anything is copied.
pub const OWNER: &str = "_copyseg/owner";
/// Decides how the restore ended. Created once; only the mark of an earlier restore is ever replaced.
pub const OUTCOME: &str = "_copyseg/outcome";
/// The folder of the staging folders.
pub(crate) const STAGING: &str = "_copyseg/staging";

/// The folder of the staging folders of the restore with this random name, one for each of its runs.
pub(crate) fn staging(restore: &str) -> String {
    format!("{STAGING}/{restore}")
}

/// The planned files of the restore with this random name, so that one that changed or went can be named. It is there
/// only if the restore has owned the target and nobody has taken it over since.
pub(crate) fn plan(restore: &str) -> String {
    format!("{RECORDS}/plan-{restore}")
}

/// The file of a target segment that is copied from `name`, which begins with the folder of its source segment.
pub(crate) fn copied(name: &str, segment: SegmentId) -> String {
    let file = name.split_once('/').map_or(name, |(_, file)| file);
    format!("{segment}/{file}")
}

/// The segment whose folder has this name: its id as it would be written, so neither `007` nor `+7`.
pub(crate) fn segment_of_folder(name: &str) -> Option<SegmentId> {
    let id: i64 = name.parse().ok()?;
    (id.to_string() == name).then_some(SegmentId(id))
}

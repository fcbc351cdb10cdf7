//! What can be chosen when a catalog is opened.

/// What can be chosen when a catalog is opened; the default suits every size measured.
///
/// ```
/// let options = copyseg_redb::RedbOptions { create: false, ..Default::default() };
/// assert_eq!(options.cache_size_bytes, 64 << 20);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedbOptions {
    /// Memory that redb may use for pages of the file, read and yet to be written. Default 64 MiB: copyseg keeps
    /// its own copy of every record, and writes measured the same with 64 MiB as with 1 GiB.
    pub cache_size_bytes: usize,
    /// Whether to create the file, and missing folders above it, if it is not there. Default yes.
    pub create: bool,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self { cache_size_bytes: 64 << 20, create: true }
    }
}

//! What can be chosen when a catalog is opened.

/// What can be chosen when a catalog is opened; the default suits every size measured.
///
/// ```
/// let options = copyseg_sled::SledOptions { create: false, ..Default::default() };
/// assert_eq!(options.cache_size_bytes, 64 << 20);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SledOptions {
    /// Memory that sled may use for its pages; it takes up to twice as much. Default 64 MiB: copyseg keeps its own
    /// copy of every record.
    pub cache_size_bytes: usize,
    /// Whether to create the folder, and missing folders above it, if it is not there. Default yes.
    pub create: bool,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self { cache_size_bytes: 64 << 20, create: true }
    }
}

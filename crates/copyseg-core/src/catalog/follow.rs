//! Reading a store beside its live writer.

use std::fmt;

use async_trait::async_trait;
use futures::stream::BoxStream;

use super::{Batch, Head, Loaded};
use crate::error::Result;

/// What one commit did, as a follower sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The head that it wrote.
    pub head: Head,
    /// The records it changed, all of them; empty if the store only changed hands.
    pub batch: Batch,
}

/// A store at one point in time, and everything that was committed after it.
pub struct Following {
    /// The records to start from.
    pub loaded: Loaded,
    /// The commits after `loaded.head`, in order and without a gap. An error ends it: the follower has to begin
    /// anew, as after a lost connection or once the backend no longer keeps the history.
    pub commits: BoxStream<'static, Result<Committed>>,
}

/// A store that can be read beside its live writer.
#[async_trait]
pub trait Follow: fmt::Debug + Send + Sync {
    /// Reads every record at one point in time, and all that is committed after it.
    ///
    /// # Errors
    /// Those of [`Catalog::load`](super::Catalog::load).
    async fn follow(&self) -> Result<Following>;
}

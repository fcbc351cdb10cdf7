//! The content of a file on its way from one storage to another.

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};

use super::local::blocking;
use crate::failure::Failure;

/// The content of a file, in chunks of bounded size.
pub(crate) enum Content {
    /// Chunks that arrive by themselves.
    Stream(BoxStream<'static, Result<Bytes, Failure>>),
    /// Chunks that a thread which may block fetches: one thread all of them, if the target is written by one too.
    Blocking(Box<dyn Chunks>),
}

/// Fetches content on a thread that may block.
pub(crate) trait Chunks: Send {
    /// Puts the next bytes into `chunk`, in place of what it holds. False if no more follow.
    fn next(&mut self, chunk: &mut Vec<u8>) -> Result<bool, Failure>;

    /// The mode of the file that they come from, once the first is there, where files have one.
    fn mode(&self) -> Option<u32> {
        None
    }
}

#[cfg(test)]
impl<F: FnMut(&mut Vec<u8>) -> Result<bool, Failure> + Send> Chunks for F {
    fn next(&mut self, chunk: &mut Vec<u8>) -> Result<bool, Failure> {
        self(chunk)
    }
}

/// Chunks that are shown to somebody on their way.
struct Inspected<F> {
    chunks: Box<dyn Chunks>,
    observe: F,
}

impl<F: FnMut(&[u8]) + Send> Chunks for Inspected<F> {
    fn next(&mut self, chunk: &mut Vec<u8>) -> Result<bool, Failure> {
        let more = self.chunks.next(chunk)?;
        (self.observe)(chunk);
        Ok(more)
    }

    fn mode(&self) -> Option<u32> {
        self.chunks.mode()
    }
}

impl Content {
    pub(crate) fn of(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::Stream(stream::once(async { Ok(bytes) }).boxed())
    }

    /// Shows every chunk to `observe` on its way, on whichever thread it is then.
    pub(crate) fn inspect(self, mut observe: impl FnMut(&[u8]) + Send + 'static) -> Self {
        match self {
            Self::Stream(stream) => Self::Stream(stream.inspect_ok(move |chunk| observe(chunk)).boxed()),
            Self::Blocking(chunks) => Self::Blocking(Box::new(Inspected { chunks, observe })),
        }
    }

    /// The same for a target that takes what arrives.
    pub(crate) fn into_stream(self) -> BoxStream<'static, Result<Bytes, Failure>> {
        let chunks = match self {
            Self::Stream(stream) => return stream,
            Self::Blocking(chunks) => chunks,
        };
        stream::try_unfold(Some(chunks), |rest| async {
            let Some(mut chunks) = rest else { return Ok(None) };
            blocking(move || {
                let mut chunk = Vec::new();
                let more = chunks.next(&mut chunk)?;
                Ok(Some((chunk.into(), more.then_some(chunks))))
            })
            .await
        })
        .boxed()
    }
}

/// What is kept of the bytes that went by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Checksum {
    pub(crate) bytes: u64,
    pub(crate) crc32c: u32,
}

impl Checksum {
    pub(crate) fn add(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, chunk);
    }
}

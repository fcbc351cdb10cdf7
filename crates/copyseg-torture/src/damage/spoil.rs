//! One piece of damage to a file.

use std::fmt;

/// One piece of damage to the bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoil {
    /// The byte at this place has these bits turned over.
    Flip(usize, u8),
    /// The byte at this place is this one.
    Put(usize, u8),
    /// The file ends here.
    Cut(usize),
}

impl Spoil {
    /// Damages `bytes`; `false` if that changed nothing.
    pub fn apply(self, bytes: &mut Vec<u8>) -> bool {
        match self {
            Self::Flip(at, bits) => bytes.get_mut(at).is_some_and(|byte| {
                *byte ^= bits;
                bits != 0
            }),
            Self::Put(at, new) => bytes.get_mut(at).is_some_and(|byte| std::mem::replace(byte, new) != new),
            Self::Cut(length) => {
                let is_shorter = length < bytes.len();
                bytes.truncate(length);
                is_shorter
            }
        }
    }
}

impl fmt::Display for Spoil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flip(at, bits) => write!(f, "byte {at} xor {bits:#04x}"),
            Self::Put(at, new) => write!(f, "byte {at} = {new:#04x}"),
            Self::Cut(length) => write!(f, "cut to {length} bytes"),
        }
    }
}

/// The damage of one round to a file of `length` bytes: to every `stride`-th byte, beginning with one that `seed`
/// chooses, so that `stride` rounds with seeds that follow each other damage every byte: one bit of it, all of
/// them, and none of them set; and the file cut before it.
pub fn spoils(length: usize, seed: u64, stride: usize) -> impl Iterator<Item = Spoil> {
    let first = (seed % stride as u64) as usize;
    let bit = 1 << ((seed / stride as u64 + seed) % 8);
    (first..length)
        .step_by(stride)
        .flat_map(move |at| [Spoil::Flip(at, bit), Spoil::Flip(at, 0xFF), Spoil::Put(at, 0), Spoil::Cut(at)])
}

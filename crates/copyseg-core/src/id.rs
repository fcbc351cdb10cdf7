//! Ids: newtypes over `i64`, so that one kind of id can never stand where another belongs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, ErrorKind};

/// A number that names something. Its order is that of its numbers.
pub(crate) trait Id: Copy + Eq + Ord {
    fn number(self) -> i64;

    fn from_number(number: i64) -> Self;

    /// The smallest id behind `after`, or of all; there is none behind the largest.
    fn first_after(after: Option<Self>) -> Option<Self> {
        let number = after.map_or(Some(i64::MIN), |after| after.number().checked_add(1));
        number.map(Self::from_number)
    }
}

impl Id for i64 {
    fn number(self) -> i64 {
        self
    }

    fn from_number(number: i64) -> Self {
        number
    }
}

macro_rules! id {
    ($(#[doc = $doc:literal] $name:ident),+ $(,)?) => {$(
        #[doc = $doc]
        ///
        /// Written as a string in JSON, because a 64-bit id does not survive the floating-point numbers of
        /// most JSON readers.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub i64);

        impl Id for $name {
            fn number(self) -> i64 {
                self.0
            }

            fn from_number(number: i64) -> Self {
                Self(number)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                text.parse().map($name).map_err(|error| {
                    let what = stringify!($name).trim_end_matches("Id").to_lowercase();
                    let message = format!("`{text}` is not a {what} id: expected a 64-bit integer");
                    Error::with_source(ErrorKind::InvalidArgument, message, error)
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

id! {
    #[doc = "Names a job: one restore of one snapshot."]
    JobId,
    #[doc = "Names a task: the part of a job that one worker carries out."]
    TaskId,
    #[doc = "Names a database, the namespace of collections."]
    DatabaseId,
    #[doc = "Names the collection that a job restores into."]
    CollectionId,
    #[doc = "Names a partition of the target collection."]
    PartitionId,
    #[doc = "Names a segment, in the snapshot or in the target."]
    SegmentId,
    #[doc = "Names a worker (a data node) for the time between its start and its end."]
    NodeId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_id_is_refused_in_words() {
        let error = "abc".parse::<CollectionId>().unwrap_err();
        assert_eq!(error.to_string(), "`abc` is not a collection id: expected a 64-bit integer");
    }
}

//! `copyseg backends`: the kinds of catalogs that this build opens.

use serde::Serialize;

use crate::exit::Failure;
use crate::output::{Cell, Output, Page};

/// A kind of catalog.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Backend {
    scheme: &'static str,
    url: &'static str,
    purpose: &'static str,
}

/// Every kind that some build opens.
const BACKENDS: [Backend; 4] = [
    Backend { scheme: "memory", url: "memory:", purpose: "tests; gone with the process" },
    Backend {
        scheme: "redb",
        url: "redb:restores.redb",
        purpose: "one local file, open in one process at a time",
    },
    Backend {
        scheme: "sled",
        url: "sled:restores.sled",
        purpose: "one local folder, open in one process at a time",
    },
    Backend {
        scheme: "etcd",
        url: "etcd://host:2379,host2:2379/restores",
        purpose: "an etcd cluster; a standby takes over, and it is read beside its leader",
    },
];

/// Lists them.
pub(crate) fn run(output: Output) -> Result<(), Failure> {
    let page: Page<&Backend> = Page::whole(built_in().collect());
    Ok(output.list(&page, &["BACKEND", "CATALOG", "FOR"], |it| {
        vec![Cell::new(it.scheme), Cell::new(it.url), Cell::new(it.purpose)]
    })?)
}

fn built_in() -> impl Iterator<Item = &'static Backend> {
    BACKENDS.iter().filter(|backend| copyseg::schemes().contains(&backend.scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_of_this_build_is_listed_with_a_url_that_it_opens() {
        assert_eq!(built_in().map(|backend| backend.scheme).collect::<Vec<_>>(), copyseg::schemes());
        for backend in built_in() {
            assert!(copyseg::canonical_url(backend.url).unwrap().starts_with(backend.scheme));
        }
    }
}

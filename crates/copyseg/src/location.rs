//! Catalog URLs: where a store is.

#[cfg(any(feature = "redb", feature = "sled"))]
use std::io;
#[cfg(any(feature = "redb", feature = "sled"))]
use std::path::{Path, PathBuf};

use copyseg_core::{Error, ErrorKind, Result};
#[cfg(feature = "etcd")]
use copyseg_etcd::EtcdOptions;

use crate::open::schemes;

/// Schemes of backends that this build was made without, each also the name of its feature, and what it takes to
/// build it.
const SWITCHED_OFF: &[(&str, &str)] = &[
    #[cfg(not(feature = "redb"))]
    ("redb", ""),
    #[cfg(not(feature = "sled"))]
    ("sled", ""),
    #[cfg(not(feature = "etcd"))]
    ("etcd", ", which needs `protoc` on PATH or named in PROTOC to be built"),
];

/// Where a store is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// In memory.
    Memory,
    /// In a redb file.
    #[cfg(feature = "redb")]
    Redb(PathBuf),
    /// In a sled folder.
    #[cfg(feature = "sled")]
    Sled(PathBuf),
    /// On an etcd cluster.
    #[cfg(feature = "etcd")]
    Etcd(Box<EtcdOptions>),
}

impl Location {
    /// Takes a catalog URL apart.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let Some((scheme, rest)) = url.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
            return Err(without_scheme(url));
        };
        match scheme {
            "memory" if rest.is_empty() => Ok(Self::Memory),
            "memory" => Err(invalid(format!("`{url}` names a place in memory: write `memory:` alone"))),
            #[cfg(feature = "redb")]
            "redb" => path(url, scheme, rest).map(Self::Redb),
            #[cfg(feature = "sled")]
            "sled" => {
                let folder = rest.strip_suffix('/').filter(|folder| !folder.ends_with('/'));
                path(url, scheme, folder.unwrap_or(rest)).map(Self::Sled)
            }
            #[cfg(feature = "etcd")]
            "etcd" => EtcdOptions::from_url(url).map(|options| Self::Etcd(Box::new(options))),
            _ => Err(unsupported(scheme)),
        }
    }

    /// The URL that every name of the same store leads to.
    pub(crate) fn canonical_url(&self) -> Result<String> {
        match self {
            Self::Memory => Ok("memory:".into()),
            #[cfg(feature = "redb")]
            Self::Redb(path) => canonical_url("redb", path),
            #[cfg(feature = "sled")]
            Self::Sled(path) => canonical_url("sled", path),
            #[cfg(feature = "etcd")]
            Self::Etcd(options) => Ok(options.store_url()),
        }
    }
}

#[cfg(any(feature = "redb", feature = "sled"))]
fn canonical_url(scheme: &str, path: &Path) -> Result<String> {
    let path = canonical(path).map_err(|error| {
        let message = format!("cannot resolve the path {}", path.display());
        Error::with_source(ErrorKind::Unavailable, message, error)
    })?;
    if path.parent().is_none() {
        return Err(invalid(format!("the root names no place: write `{scheme}:restores.{scheme}`")));
    }
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    Ok(format!("{scheme}://{path}"))
}

/// The path with links resolved, those above the file alone if there is no file yet.
#[cfg(any(feature = "redb", feature = "sled"))]
fn canonical(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let (Some(folder), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return absolute.canonicalize();
    };
    match (absolute.canonicalize(), folder.canonicalize()) {
        (Ok(path), _) => Ok(path),
        (Err(error), _) if error.kind() != io::ErrorKind::NotFound => Err(error),
        (_, Ok(folder)) => Ok(folder.join(name)),
        (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(absolute),
        (_, Err(error)) => Err(error),
    }
}

/// The path in the `rest` of a URL after its scheme.
#[cfg(any(feature = "redb", feature = "sled"))]
fn path(url: &str, scheme: &str, rest: &str) -> Result<PathBuf> {
    let text = match rest.strip_prefix("//") {
        Some(absolute) if absolute.is_empty() || absolute.starts_with('/') => absolute,
        Some(hosted) => {
            return Err(invalid(format!(
                "`{url}` names a host and not a path: write `{scheme}:{hosted}` for a path from the working \
                 directory, `{scheme}:///{hosted}` for one from the root"
            )));
        }
        None => rest,
    };
    if let Some(mark) = text.find(['?', '#']) {
        return Err(invalid(format!(
            "`{url}` has options, `{}`, and there are none: in a file name write `%3F` for `?` and `%23` for `#`",
            &text[mark..]
        )));
    }
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8().map_err(|error| {
        Error::with_source(ErrorKind::InvalidArgument, format!("the path in `{url}` is not UTF-8"), error)
    })?;
    if decoded.is_empty() || decoded.ends_with('/') || decoded.contains('\0') {
        return Err(invalid(format!("`{url}` names no place: write `{scheme}:restores.{scheme}`")));
    }
    Ok(PathBuf::from(decoded.as_ref()))
}

/// Whether a text before a colon is meant as a scheme; one letter is a Windows drive.
fn is_scheme(text: &str) -> bool {
    text.len() > 1 && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

fn without_scheme(text: &str) -> Error {
    let hint = if text.starts_with('/') { format!("redb://{text}") } else { format!("redb:{text}") };
    invalid(match text {
        "" => format!("the catalog URL is empty: this build opens {}", built_in()),
        text if schemes().contains(&text) => format!("`{text}` is not a catalog URL: write `{text}:`"),
        _ => format!("`{text}` is not a catalog URL: if it is a file, write `{hint}`"),
    })
}

/// The URL itself is not shown: only its backend knows where there may be a secret in it.
fn unsupported(scheme: &str) -> Error {
    let (kind, why) = match SWITCHED_OFF.iter().find(|(switched_off, _)| *switched_off == scheme) {
        Some((_, needs)) => (
            ErrorKind::Unsupported,
            format!("this build was made without the feature `{scheme}` of the crate `copyseg`{needs}"),
        ),
        None => (ErrorKind::InvalidArgument, format!("there is no backend for `{scheme}:`")),
    };
    Error::new(kind, format!("cannot open the `{scheme}:` catalog: {why}; this build opens {}", built_in()))
}

fn built_in() -> String {
    let schemes: Vec<String> = schemes().iter().map(|scheme| format!("`{scheme}:`")).collect();
    schemes.join(" and ")
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn memory_is_always_built_in() {
        assert_eq!(Location::parse("memory:").unwrap(), Location::Memory);
    }

    #[cfg(feature = "redb")]
    #[rstest]
    #[case::relative("redb:a.redb", "a.redb")]
    #[case::relative_in_a_folder("redb:./a/../b.redb", "./a/../b.redb")]
    #[case::absolute("redb:///a/b.redb", "/a/b.redb")]
    #[case::absolute_without_authority("redb:/a/b.redb", "/a/b.redb")]
    #[case::with_spaces("redb:my%20files/a b.redb", "my files/a b.redb")]
    #[case::with_reserved_characters("redb:%3F%23%25%3A.redb", "?#%:.redb")]
    #[case::with_other_letters("redb:h%C3%BCte/üben.redb", "hüte/üben.redb")]
    #[case::with_a_colon("redb:10:30.redb", "10:30.redb")]
    fn a_redb_url_names_a_file(#[case] url: &str, #[case] path: &str) {
        assert_eq!(Location::parse(url).unwrap(), Location::Redb(path.into()));
    }

    #[cfg(feature = "redb")]
    #[rstest]
    #[case::file_as_host(
        "redb://a.redb",
        "write `redb:a.redb` for a path from the working directory, `redb:///a.redb`"
    )]
    #[case::folder_as_host("redb://data/a.redb", "`redb:data/a.redb`")]
    #[case::nothing("redb:", "names no place: write `redb:restores.redb`")]
    #[case::nothing_after_slashes("redb://", "names no place: write `redb:restores.redb`")]
    #[case::the_root("redb:///", "names no place: write `redb:restores.redb`")]
    #[case::a_folder("redb:///var/lib/", "names no place")]
    #[case::a_zero_byte("redb:a%00.redb", "names no place")]
    #[case::an_option("redb:a.redb?cache=1", "`?cache=1`, and there are none")]
    #[case::a_fragment("redb:a#1.redb", "`%23` for `#`")]
    #[case::not_utf8("redb:%FF.redb", "is not UTF-8")]
    fn a_redb_url_without_a_file_is_refused(#[case] url: &str, #[case] hint: &str) {
        assert_refused(url, ErrorKind::InvalidArgument, hint);
    }

    /// Found by the fuzz target `urls`: the canonical URL of the root was one that is refused.
    #[cfg(feature = "redb")]
    #[rstest]
    fn the_root_is_no_store(#[values("redb:/.", "redb:///..", "redb:/tmp/..")] url: &str
    ) {
        let error = Location::parse(url).and_then(|location| location.canonical_url()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
        assert!(error.to_string().contains("names no place"), "{error}");
    }

    #[cfg(feature = "sled")]
    #[rstest]
    #[case::relative("sled:a.sled", "a.sled")]
    #[case::absolute("sled:///a/b", "/a/b")]
    #[case::with_a_slash_after_it("sled:///a/b/", "/a/b")]
    fn a_sled_url_names_a_folder(#[case] url: &str, #[case] path: &str) {
        assert_eq!(Location::parse(url).unwrap(), Location::Sled(path.into()));
    }

    #[cfg(feature = "sled")]
    #[rstest]
    #[case::folder_as_host("sled://a", "write `sled:a` for a path from the working directory")]
    #[case::nothing("sled:", "names no place: write `sled:restores.sled`")]
    #[case::nothing_after_slashes("sled://", "names no place: write `sled:restores.sled`")]
    #[case::the_root("sled:///", "names no place: write `sled:restores.sled`")]
    #[case::two_slashes_after_it("sled:a//", "names no place")]
    #[case::an_option("sled:a?cache=1", "`?cache=1`, and there are none")]
    fn a_sled_url_without_a_folder_is_refused(#[case] url: &str, #[case] hint: &str) {
        assert_refused(url, ErrorKind::InvalidArgument, hint);
    }

    #[rstest]
    #[case::empty("", "the catalog URL is empty: this build opens `memory:`")]
    #[case::scheme_alone("memory", "write `memory:`")]
    #[case::file("a.redb", "if it is a file, write `redb:a.redb`")]
    #[case::absolute_file("/a/b.redb", "if it is a file, write `redb:///a/b.redb`")]
    #[case::file_with_a_colon("./10:30.redb", "write `redb:./10:30.redb`")]
    #[case::windows_drive("C:\\a.redb", "if it is a file")]
    #[case::place_in_memory("memory://a", "write `memory:` alone")]
    fn what_is_no_url_is_refused_with_a_hint(#[case] url: &str, #[case] hint: &str) {
        assert_refused(url, ErrorKind::InvalidArgument, hint);
    }

    #[test]
    fn an_unknown_scheme_is_refused_naming_those_built_in() {
        assert_refused(
            "ftp://host/a",
            ErrorKind::InvalidArgument,
            "no backend for `ftp:`; this build opens `memory:`",
        );
    }

    #[test]
    fn a_scheme_that_is_switched_off_is_refused_naming_its_feature() {
        for (scheme, _) in SWITCHED_OFF {
            let hint = format!("without the feature `{scheme}` of the crate `copyseg`");
            assert_refused(&format!("{scheme}:a"), ErrorKind::Unsupported, &hint);
        }
    }

    #[cfg(not(feature = "etcd"))]
    #[test]
    fn a_build_without_etcd_says_what_etcd_takes_and_shows_no_secret() {
        let url = "etcd://root:secret@host:2379/copyseg";
        assert_refused(
            url,
            ErrorKind::Unsupported,
            "feature `etcd` of the crate `copyseg`, which needs `protoc`",
        );
        assert!(!Location::parse(url).unwrap_err().to_string().contains("secret"));
    }

    #[cfg(feature = "etcd")]
    #[test]
    fn an_etcd_store_has_one_url_whatever_the_order_of_its_members() {
        let url = |url| Location::parse(url).unwrap().canonical_url().unwrap();
        let canonical = "etcd://a:2379,b:2380/copyseg";
        assert_eq!(url("etcd://b:2380,A/?timeout_ms=100&tls=on"), canonical);
        assert_eq!(url(canonical), canonical);
        let odd = "etcd://a:2379/50%25/%40%3F%23%20";
        assert_eq!(url(odd), odd);
    }

    fn assert_refused(url: &str, kind: ErrorKind, hint: &str) {
        let error = Location::parse(url).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(hint), "{error}");
    }
}

//! What may be restored, and from where to where.

use std::path::Path;

use copyseg_core::ErrorKind;
use copyseg_restore::{Location, RestoreRequest};
use rstest::rstest;

use crate::fixture::{Fixture, completed, text, write};

fn file(source: &Path, name: &str) {
    write(&source.join(name), "content");
}

#[rstest]
#[case::a_loose_file("7", |source: &Path| file(source, "7"))]
#[case::a_readme("README.md", |source: &Path| file(source, "README.md"))]
#[case::an_empty_folder("7", |source: &Path| std::fs::create_dir_all(source.join("7")).unwrap())]
#[case::an_empty_folder_in_a_segment("7/logs", |source: &Path| {
    file(source, "7/ids.npy");
    std::fs::create_dir_all(source.join("7/logs")).unwrap();
})]
#[case::a_name_that_object_store_hides("x#1", |source: &Path| file(source, "x#1/ids.npy"))]
#[case::leading_zeros("007", |source: &Path| file(source, "007/ids.npy"))]
#[case::a_plus_sign("+7", |source: &Path| file(source, "+7/ids.npy"))]
#[case::minus_zero("-0", |source: &Path| file(source, "-0/ids.npy"))]
#[case::a_name("seven", |source: &Path| file(source, "seven/ids.npy"))]
#[case::more_than_64_bits("9223372036854775808", |source: &Path| file(source, "9223372036854775808/ids.npy"))]
#[case::the_records_of_a_restore("_copyseg", |source: &Path| file(source, "_copyseg/owner"))]
#[case::a_link_to_a_folder("7", |source: &Path| std::os::unix::fs::symlink(source.join("1"), source.join("7")).unwrap())]
#[case::a_link_to_a_file("1/link", |source: &Path| {
    std::os::unix::fs::symlink(source.join("1/ids.npy"), source.join("1/link")).unwrap();
})]
#[case::a_name_outside_utf8("1/\u{fffd}", |source: &Path| {
    use std::os::unix::ffi::OsStrExt;
    write(&source.join("1").join(std::ffi::OsStr::from_bytes(b"\xff")), "content");
})]
#[tokio::test]
async fn an_entry_that_is_no_segment_is_refused_by_name(#[case] name: &str, #[case] put: impl Fn(&Path)) {
    let fixture = Fixture::new().await;
    put(&fixture.source());
    let error = fixture.restore().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let named = format!("`{}` is", fixture.source().join(name).display());
    assert!(error.to_string().contains(&named), "{error}");
    assert!(error.to_string().contains("nothing was written"), "{error}");
    assert!(!fixture.target().exists());
    assert!(fixture.jobs().is_empty());
}

#[tokio::test]
async fn an_empty_snapshot_and_a_missing_one_are_refused() {
    let fixture = Fixture::empty().await;
    for _ in 0..2 {
        let error = fixture.restore().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().starts_with("there is no snapshot at"), "{error}");
        assert!(!fixture.target().exists());
        std::fs::create_dir_all(fixture.source()).unwrap();
    }
}

#[tokio::test]
async fn a_source_or_target_that_is_a_file_is_refused() {
    let fixture = Fixture::new().await;
    write(&fixture.target(), "a file");
    let error = fixture.restore().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(error.to_string().contains(text(&fixture.target())), "{error}");
    assert!(error.to_string().contains("is not a folder: choose another"), "{error}");

    let below = Location::parse(text(&fixture.target().join("below"))).unwrap_err();
    assert_eq!(below.kind(), ErrorKind::InvalidArgument, "{below}");
    assert!(below.to_string().contains("is not a folder: choose another"), "{below}");

    let fixture = Fixture::empty().await;
    write(&fixture.source(), "a file");
    let error = fixture.restore().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(error.to_string().contains(text(&fixture.source())), "{error}");
    assert!(error.to_string().contains("is not a folder: choose another"), "{error}");
}

#[rstest]
#[case::the_same("nightly", "nightly")]
#[case::target_inside("nightly", "nightly/restored")]
#[case::source_inside("nightly/1", "nightly")]
#[case::through_a_link("nightly", "link/restored")]
#[case::through_a_missing_folder("nightly", "missing/../nightly/restored")]
#[tokio::test]
async fn a_target_that_overlaps_its_source_is_refused(#[case] source: &str, #[case] target: &str) {
    let fixture = Fixture::new().await;
    std::os::unix::fs::symlink(fixture.source(), fixture.path("link")).unwrap();
    let before = crate::fixture::files(&fixture.source());
    let request = RestoreRequest::new(text(&fixture.path(source)), text(&fixture.path(target))).unwrap();
    let error = fixture.restore_request(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("one lies inside the other"), "{error}");
    assert_eq!(crate::fixture::files(&fixture.source()), before);
}

#[tokio::test]
async fn a_target_whose_name_begins_with_the_source_is_fine() {
    let fixture = Fixture::new().await;
    let target = fixture.path("nightly-restored");
    let request = RestoreRequest::new(text(&fixture.source()), text(&target)).unwrap();
    assert!(completed(&fixture.restore_request(&request).await.unwrap()));
}

#[rstest]
#[case::plain("restored")]
#[case::dotted("./restored/")]
#[case::doubled("restored//")]
#[case::back_and_forth("other/../restored")]
#[case::through_a_link("here/restored")]
fn ways_to_write_a_path_mean_one_location(#[case] name: &str) {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("here")).unwrap();
    let location = |name: &str| Location::parse(&format!("{}/{name}", folder.path().display())).unwrap();
    assert_eq!(location(name).as_str(), location("restored").as_str());
    let url = format!("file://{}/{name}", folder.path().display());
    assert_eq!(Location::parse(&url).unwrap().as_str(), location("restored").as_str());
}

#[rstest]
#[case::nothing("", ErrorKind::InvalidArgument)]
#[case::another_scheme("ftp://host/nightly", ErrorKind::InvalidArgument)]
#[case::no_bucket("s3:///nightly", ErrorKind::InvalidArgument)]
#[case::a_password("s3://id:hunter2@bucket/nightly", ErrorKind::InvalidArgument)]
#[case::a_query("s3://bucket/nightly?key=hunter2", ErrorKind::InvalidArgument)]
#[case::a_fragment("gs://bucket/nightly#hunter2", ErrorKind::InvalidArgument)]
#[case::a_remote_file_url("file://host/hunter2", ErrorKind::InvalidArgument)]
fn a_location_that_cannot_be_used_is_refused_without_repeating_secrets(
    #[case] location: &str,
    #[case] kind: ErrorKind,
) {
    let error = Location::parse(location).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(location.starts_with("file:") || !format!("{error:?}").contains("hunter2"), "{error:?}");
}

#[rstest]
#[case::a_fragment("run#2", "run%232")]
#[case::a_query("run?2", "run%3F2")]
#[case::an_empty_query("run?", "run%3F")]
fn a_file_url_never_names_another_path_than_the_one_written(#[case] name: &str, #[case] escaped: &str) {
    let error = Location::parse(&format!("file:///nightly/{name}")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(error.to_string().contains("%3F") && error.to_string().contains("%23"), "{error}");
    let location = Location::parse(&format!("file:///nightly/{escaped}")).unwrap();
    assert_eq!(location.local_path(), Some(Path::new("/nightly").join(name).as_path()));
    assert_eq!(Location::parse(&format!("/nightly/{name}")).unwrap().as_str(), location.as_str());
}

#[rstest]
#[case::one_slash_missing("s3:/bucket/nightly")]
#[case::both_slashes_missing("gs:bucket")]
#[case::in_capitals("AZ:/container")]
#[case::a_relative_path("file:nightly")]
#[case::a_catalog("memory:")]
#[case::a_catalog_file("redb:restored.redb")]
#[case::a_catalog_url("etcd://host:2379/restores")]
fn what_begins_like_a_url_is_no_folder_unless_it_is_written_as_one(#[case] text: &str) {
    let error = Location::parse(text).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(error.to_string().contains("is no place to restore from or to: use a path"), "{error}");
    let folder = Location::parse(&format!("./{text}")).unwrap();
    assert!(folder.local_path().unwrap().ends_with(Path::new(text)));
}

#[rstest]
#[case::capitals("FILE:///nightly")]
#[case::one_slash("file:/nightly")]
fn a_file_url_may_be_written_in_any_way_that_a_url_may(#[case] text: &str) {
    assert_eq!(Location::parse(text).unwrap().as_str(), "file:///nightly");
}

#[rstest]
#[case::a_time("10:30")]
#[case::a_drive("C:/nightly")]
#[case::a_scheme_later("nightly/s3:/bucket")]
#[case::a_path_before_it("nightly/s3://bucket")]
#[case::a_longer_word("s3s:/bucket")]
fn a_colon_alone_makes_no_url(#[case] text: &str) {
    assert!(Location::parse(text).unwrap().local_path().unwrap().ends_with(text));
}

#[cfg(not(feature = "s3"))]
#[test]
fn a_scheme_that_was_not_built_in_names_its_feature() {
    let error = Location::parse("s3://bucket/nightly").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("feature s3"), "{error}");
}

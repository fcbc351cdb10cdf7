//! The list of cases, the case functions and the rules written down for catalogs are the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use copyseg_conformance::CASES;

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a source file can be read")
}

fn listed() -> BTreeSet<(String, String)> {
    CASES.iter().map(|(topic, case)| ((*topic).to_owned(), (*case).to_owned())).collect()
}

#[test]
fn every_case_function_is_in_the_list_and_nothing_else_is() {
    let mut written = BTreeSet::new();
    for entry in fs::read_dir(source("src/cases")).expect("the cases can be listed") {
        let path = entry.expect("the cases can be listed").path();
        let topic = path.file_stem().and_then(|stem| stem.to_str()).expect("a topic").to_owned();
        for line in read(&path).lines() {
            if let Some(function) = line.strip_prefix("pub async fn ") {
                let case = function.split('(').next().expect("a name").to_owned();
                written.insert((topic.clone(), case));
            }
        }
    }
    assert_eq!(written, listed());
}

#[test]
fn every_rule_of_the_contract_is_a_case_and_every_case_a_rule() {
    let catalog = read(&source("../copyseg-core/src/catalog.rs"));
    let rules: Vec<_> = catalog
        .lines()
        .filter_map(|line| line.strip_prefix("/// - `")?.split_once("`:"))
        .map(|(case, _)| case.to_owned())
        .collect();
    let cases: Vec<_> = CASES.iter().map(|(_, case)| (*case).to_owned()).collect();
    assert_eq!(rules, cases, "the rules in the docs of `Catalog`, in the order of the list of cases");
}

#[test]
fn no_name_is_used_twice() {
    let names: BTreeSet<_> = CASES.iter().map(|(_, case)| case).collect();
    assert_eq!(names.len(), CASES.len());
}

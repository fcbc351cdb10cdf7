//! What cargo knows about this workspace.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cargo::cargo_output;

/// A package of the workspace.
pub(crate) struct Member {
    /// Its name.
    pub(crate) name: String,
    /// Its `Cargo.toml`.
    pub(crate) manifest: PathBuf,
    /// Its features, `default` left out.
    pub(crate) features: Vec<String>,
    /// Its dependencies by name, and whether each is needed by tests only.
    pub(crate) dependencies: Vec<(String, bool)>,
    /// Its examples.
    pub(crate) examples: Vec<String>,
}

/// The root of the workspace: the folder above this package.
pub(crate) fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The packages of the workspace, by name.
pub(crate) fn members() -> Result<Vec<Member>, String> {
    let text = cargo_output(&["metadata", "--format-version", "1", "--no-deps"])?;
    let metadata: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let mut members: Vec<Member> = list(&metadata["packages"]).map(member).collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(members)
}

fn member(package: &Value) -> Member {
    let is_example = |target: &&Value| list(&target["kind"]).any(|kind| kind == "example");
    Member {
        name: text(&package["name"]),
        manifest: text(&package["manifest_path"]).into(),
        features: package["features"]
            .as_object()
            .into_iter()
            .flat_map(|features| features.keys())
            .filter(|name| *name != "default")
            .cloned()
            .collect(),
        dependencies: list(&package["dependencies"])
            .map(|dependency| (text(&dependency["name"]), dependency["kind"] == "dev"))
            .collect(),
        examples: list(&package["targets"]).filter(is_example).map(|target| text(&target["name"])).collect(),
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

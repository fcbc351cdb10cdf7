//! Records that cannot be decoded: listed, exported byte by byte, dropped.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use copyseg::{Catalog, Error, ErrorKind, RecordKey, Result, decode_record};
use futures::TryStreamExt;
use serde::Serialize;

use super::reading;
use crate::catalog;
use crate::exit::Failure;
use crate::output::{Cell, Output, Page, Text};

/// A record that cannot be decoded.
#[derive(Debug, Serialize)]
struct Undecodable {
    key: String,
    reason: String,
    /// Its bytes, in hexadecimal.
    bytes: String,
}

/// Lists what was set aside.
pub(super) async fn list(url: &str, output: Output) -> Result<(), Failure> {
    let page = Page::whole(reading(url, undecodable).await?);
    Ok(output.list(&page, &["RECORD", "BYTES", "REASON"], |it| {
        vec![Cell::new(&it.key), Cell::new(it.bytes.len() / 2), Cell::new(&it.reason)]
    })?)
}

/// Writes what was set aside to a new file, or to stdout for `-`, one JSON object a line.
pub(super) async fn export(url: &str, output: Output, file: &Path) -> Result<(), Failure> {
    let records = reading(url, undecodable).await?;
    let lines: Vec<_> =
        records.iter().map(serde_json::to_string).collect::<Result<_, _>>().map_err(io::Error::from)?;
    let text = lines.join("\n");
    if file == Path::new("-") {
        return Ok(output.json(text)?);
    }
    write_new(file, &text)?;
    output.note(&format!("wrote {} records to {}", records.len(), file.display()));
    Ok(())
}

/// Removes a record that was set aside.
pub(super) async fn drop_record(url: &str, output: Output, key: RecordKey) -> Result<(), Failure> {
    let dropped = catalog::write(url, async |manager| Ok(manager.drop_set_aside(key).await?)).await?;
    if !dropped {
        return Err(Failure::NotSetAside(key));
    }
    #[derive(Serialize)]
    struct Dropped {
        dropped: String,
    }
    Ok(output
        .one(&Dropped { dropped: key.to_string() }, |it| Text::line(format!("dropped {}", it.dropped)))?)
}

async fn undecodable(catalog: &dyn Catalog) -> Result<Vec<Undecodable>> {
    let mut pages = catalog.load().await?.pages;
    let mut found = Vec::new();
    while let Some(page) = pages.try_next().await? {
        for record in page {
            if let Some(reason) = reason(decode_record(&record))? {
                let bytes = record.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                found.push(Undecodable { key: record.key.to_string(), reason, bytes });
            }
        }
    }
    Ok(found)
}

/// Why a record was set aside, if it was. A record of a newer version is no damage: it refuses the whole store.
pub(super) fn reason<T>(decoded: Result<T>) -> Result<Option<String>> {
    match decoded {
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(Some(error.chain())),
        Err(error) => Err(error),
    }
}

/// Writes a file that is not there yet, durably, since its content may be dropped from the catalog next. If that fails, it
/// is removed, so that the same command can be run again.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| {
        let (kind, advice) = match error.kind() {
            io::ErrorKind::AlreadyExists => {
                (ErrorKind::AlreadyExists { identical: false }, ": choose another name")
            }
            _ => (ErrorKind::InvalidArgument, ""),
        };
        Error::with_source(kind, format!("cannot create {}{advice}", path.display()), error)
    })?;
    let end = if text.is_empty() { "" } else { "\n" };
    let written = write!(file, "{text}{end}").and_then(|()| file.sync_all());
    if written.is_err() {
        // What it would say is less than why the file could not be written.
        let _ = fs::remove_file(path);
    }
    Ok(written?)
}

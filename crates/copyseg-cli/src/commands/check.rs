//! `copyseg check`: holds the records of a catalog against each other; lists, exports and drops what was set aside.

mod findings;
mod set_aside;

use copyseg::{Catalog, ErrorKind, Result};

use self::findings::Findings;
use crate::args::Check;
use crate::catalog;
use crate::exit::Failure;
use crate::output::{self, Cell, Output, Text};

/// Checks the catalog, or deals with what was set aside.
pub(crate) async fn run(url: &str, output: Output, check: Check) -> Result<(), Failure> {
    match check {
        Check { list: true, .. } => set_aside::list(url, output).await,
        Check { export: Some(file), .. } => set_aside::export(url, output, &file).await,
        Check { drop: Some(key), .. } => set_aside::drop_record(url, output, key).await,
        _ => inspect(url, output).await,
    }
}

async fn inspect(url: &str, output: Output) -> Result<(), Failure> {
    let mut findings = match reading(url, async |catalog| findings::inspect(catalog).await).await {
        Err(error) if error.kind() == ErrorKind::Corrupt => Findings::unreadable(&error),
        findings => findings?,
    };
    findings.add_storage(catalog::check_storage(url).await)?;
    output.one(&findings, text)?;
    match findings.problems.len() {
        0 => Ok(()),
        count => {
            let set_aside = findings.problems.iter().any(|it| it.problem == "set_aside");
            Err(Failure::Problems { count, set_aside })
        }
    }
}

fn text(findings: &Findings) -> Text {
    let mut text =
        vec![Text::line(format!("checked {} records at revision {}", findings.records, findings.revision))];
    if let Some(reason) = &findings.storage_unverified {
        text.push(Text::line(format!("the storage below the records was not verified: {reason}")));
    }
    if findings.orphans > 0 {
        text.push(Text::line(format!(
            "{} tasks belong to no job, left over from an addition or removal that was cut short; the next restore \
             removes them",
            findings.orphans
        )));
    }
    if findings.problems.is_empty() {
        text.push(Text::line("no problems"));
    } else {
        let rows = findings
            .problems
            .iter()
            .map(|it| vec![Cell::new(it.problem), Cell::new(&it.record), Cell::new(&it.detail)]);
        text.extend([Text::line(""), output::columns(&["PROBLEM", "RECORD", "DETAIL"], rows)]);
    }
    text.into_iter().collect()
}

/// Opens a catalog for reading, does `work` and lets go of it.
async fn reading<T>(url: &str, work: impl AsyncFnOnce(&dyn Catalog) -> Result<T>) -> Result<T> {
    let catalog = catalog::open_read_only(url).await?;
    let result = work(&*catalog).await;
    let closed = catalog.close().await;
    let value = result?;
    closed?;
    Ok(value)
}

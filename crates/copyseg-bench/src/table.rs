//! The table that a run prints.

use std::fmt::Write;

/// One line: a workload, its contenders, and whether copyseg reaches what it has to.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// `P1`.
    pub id: &'static str,
    /// What is done.
    pub workload: String,
    /// copyseg's figure.
    pub copyseg: String,
    /// The figure of the design it replaces; empty where that cannot do it.
    pub reference: String,
    /// The figure of the least that has to be done, whoever does it.
    pub limit: String,
    /// copyseg by the reference, and by the limit.
    pub ratios: String,
    /// What has to be reached.
    pub target: String,
    /// Whether it is, as the medians have it; `None` for a line that only informs.
    pub met: Option<bool>,
}

const TITLES: [&str; 8] =
    ["row", "workload", "copyseg", "reference design", "raw limit", "ratios", "to reach", "met"];

/// The rows as a table of Markdown.
pub fn markdown(rows: &[Row]) -> String {
    let mut table = String::new();
    let mut line = |cells: [&str; TITLES.len()]| {
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| {} |", cells.join(" | "));
    };
    line(TITLES);
    line(["---"; TITLES.len()]);
    for row in rows {
        let met = match row.met {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        let cells = [&row.workload, &row.copyseg, &row.reference, &row.limit, &row.ratios, &row.target];
        let [workload, copyseg, reference, limit, ratios, target] = cells.map(String::as_str);
        line([row.id, workload, copyseg, reference, limit, ratios, target, met]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_misses_is_seen() {
        let row = Row { id: "P1", met: Some(false), ..Row::default() };
        assert!(markdown(&[row]).ends_with("| P1 |  |  |  |  |  |  | **no** |\n"));
    }
}

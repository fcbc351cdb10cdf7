//! How cost grows: with tasks, writers, segments in a job and tasks in a transaction. Curves and their numbers.

mod plot;
mod tasks;
mod changes;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::Result;
use crate::measure::Unit;
use crate::rows::Context;

/// One picture: how `what` grows.
pub struct Curve {
    /// The name of its file.
    pub name: &'static str,
    /// What is measured.
    pub what: &'static str,
    /// What grows.
    pub by: &'static str,
    /// What the figures are.
    pub unit: Unit,
    /// A line for each contender.
    pub lines: Vec<Line>,
    /// Why it looks as it does.
    pub why: &'static str,
}

/// A contender: its name, and a figure for each size.
pub type Line = (&'static str, Vec<(f64, f64)>);

/// What measures a curve.
type Measured = fn(&Context) -> Result<Curve>;

const CURVES: [Measured; 8] = [
    tasks::read,
    tasks::update,
    tasks::recovery,
    tasks::memory,
    changes::writers,
    changes::transactions,
    changes::segments,
    changes::written,
];

/// Measures every curve and writes pictures and numbers into `folder`.
///
/// # Errors
/// Those of the measurements, and of writing.
pub fn write(context: &Context, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut text = String::from(
        "# How cost grows\n\nWritten by `cargo xtask bench --growth`; medians of 5 unless said otherwise.\n",
    );
    for measure in CURVES {
        let curve = measure(context)?;
        let file = format!("{}.svg", curve.name);
        plot::draw(&curve, &folder.join(&file))?;
        write!(text, "\n## {}, by {}\n\n![{}]({file})\n\n", curve.what, curve.by, curve.what)?;
        text.push_str(&numbers(&curve));
        write!(text, "\n{}\n", curve.why)?;
        eprintln!("{} is drawn", curve.name);
        fs::write(folder.join("growth.md"), &text)?;
    }
    Ok(())
}

/// The figures as a table: a line for each size, a column for each contender.
fn numbers(curve: &Curve) -> String {
    let names: Vec<&str> = curve.lines.iter().map(|(name, _)| *name).collect();
    let mut table =
        format!("| {} | {} |\n|{}\n", curve.by, names.join(" | "), "---|".repeat(names.len() + 1));
    let mut sizes: Vec<f64> =
        curve.lines.iter().flat_map(|(_, line)| line.iter().map(|point| point.0)).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    for size in sizes {
        let figure = |line: &Vec<(f64, f64)>| {
            let point = line.iter().find(|point| point.0 == size);
            point.map_or_else(String::new, |point| curve.unit.show(point.1))
        };
        let figures: Vec<String> = curve.lines.iter().map(|(_, line)| figure(line)).collect();
        table.push_str(&format!("| {size} | {} |\n", figures.join(" | ")));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_drawn_and_its_numbers_are_listed() {
        let lines = vec![("copyseg", vec![(1.0, 10.0), (10.0, 20.0)]), ("reference", vec![(10.0, 400.0)])];
        let curve = Curve { name: "a", what: "A read", by: "tasks", unit: Unit::Nanos, lines, why: "" };
        let folder = tempfile::tempdir().unwrap();
        plot::draw(&curve, &folder.path().join("a.svg")).unwrap();
        assert!(fs::read_to_string(folder.path().join("a.svg")).unwrap().contains("copyseg"));
        assert!(numbers(&curve).ends_with("| 1 | 10 ns |  |\n| 10 | 20 ns | 400 ns |\n"));
    }
}

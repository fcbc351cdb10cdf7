//! How cost grows: with tasks, writers, segments in a job and tasks in a transaction. Curves and their numbers.

mod plot;
mod tasks;
mod changes;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use crate::Result;
use crate::measure::Unit;
use crate::rows::Context;

/// One picture: how `what` grows.
pub struct Curve {
    /// What is measured.
    pub what: &'static str,
    /// What grows.
    pub by: &'static str,
    /// What the figures are.
    pub unit: Unit,
    /// A line for each contender.
    pub lines: Vec<Line>,
    /// How often each figure was measured.
    pub turns: usize,
    /// Why it looks as it does.
    pub why: &'static str,
}

/// A contender: its name, and a figure for each size.
pub type Line = (&'static str, Vec<(f64, f64)>);

/// A curve: the name of its file, and what measures it.
type Measured = (&'static str, fn(&Context) -> Result<Curve>);

/// Every curve, in the order of the document.
const CURVES: [Measured; 9] = [
    ("read", tasks::read),
    ("update", tasks::update),
    ("recovery", tasks::recovery),
    ("memory", tasks::memory),
    ("held", tasks::held),
    ("writers", changes::writers),
    ("transactions", changes::transactions),
    ("segments", changes::segments),
    ("written", changes::written),
];

/// The names of all curves.
pub fn names() -> impl Iterator<Item = &'static str> {
    CURVES.into_iter().map(|(name, _)| name)
}

/// Measures the curves in `only`, or every one if there are none, and writes pictures and numbers into `folder`, with
/// what `machine` says of where and when. What is there of other curves stays.
///
/// # Errors
/// Those of the measurements, and of writing.
pub fn write(context: &Context, folder: &Path, only: &BTreeSet<String>, machine: &str) -> Result<()> {
    fs::create_dir_all(folder)?;
    let document = folder.join("growth.md");
    for (name, measure) in CURVES {
        if !only.is_empty() && !only.contains(name) {
            continue;
        }
        let start = Instant::now();
        let curve = measure(context)?;
        let seconds = start.elapsed().as_secs_f64();
        plot::draw(&curve, &folder.join(format!("{name}.svg")))?;
        let written = fs::read_to_string(&document).unwrap_or_default();
        let section =
            section(name, &curve, &format!("{machine} Turns: {}; {seconds:.0} s in all.", curve.turns));
        fs::write(&document, with_section(&written, name, &section))?;
        writeln!(std::io::stderr(), "{name}: {seconds:.0} s")?;
    }
    Ok(())
}

fn section(name: &str, curve: &Curve, measured: &str) -> String {
    let title = format!("{}, by {}", curve.what, curve.by);
    format!("## {title}\n\n![{title}]({name}.svg)\n\n{}\n{}\n\n{measured}\n", numbers(curve), curve.why)
}

const TITLE: &str = "# How cost grows\n\nWritten by `cargo xtask bench --growth`; medians over the turns named, unless said otherwise.\n";

/// The document with this section in the place of the curve's last one, and all sections in the order of the curves.
fn with_section(document: &str, name: &str, section: &str) -> String {
    let mark = |name: &str| format!("\n<!-- {name} -->\n\n");
    let mut text = String::from(TITLE);
    for other in names() {
        let old =
            document.split_once(&mark(other)).map(|(_, rest)| rest.split("\n<!-- ").next().unwrap_or(rest));
        let kept = if other == name { Some(section) } else { old };
        if let Some(kept) = kept {
            text.push_str(&mark(other));
            text.push_str(kept);
        }
    }
    text
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
        let curve = Curve { what: "A read", by: "tasks", unit: Unit::Nanos, lines, turns: 1, why: "" };
        let folder = tempfile::tempdir().unwrap();
        plot::draw(&curve, &folder.path().join("a.svg")).unwrap();
        assert!(fs::read_to_string(folder.path().join("a.svg")).unwrap().contains("copyseg"));
        assert!(numbers(&curve).ends_with("| 1 | 10 ns |  |\n| 10 | 20 ns | 400 ns |\n"));
    }

    #[test]
    fn a_curve_that_is_measured_again_leaves_the_others_as_they_are() {
        let both = with_section(&with_section("", "update", "two\n"), "read", "one\n");
        assert_eq!(both, format!("{TITLE}\n<!-- read -->\n\none\n\n<!-- update -->\n\ntwo\n"));
        assert_eq!(with_section(&both, "read", "new\n"), both.replace("one", "new"));
    }
}

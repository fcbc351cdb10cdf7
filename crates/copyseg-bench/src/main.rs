//! `copyseg-bench [--only P1,P6] [--growth FOLDER [--machine TEXT]] [--turns N] [--etcd HOST:PORT,…] [--scratch FOLDER]`:
//! prints the table, or draws how cost grows; `copyseg-bench recover copyseg|decoding|reference FILE`: times one recovery, for
//! the process that starts it. `cargo xtask bench` builds it, starts etcd and runs it.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use copyseg_bench::measure::set_turns;
use copyseg_bench::rows::{Context, ROWS, Recovery};
use copyseg_bench::table::markdown;
use copyseg_bench::{Result, growth};

/// For every contender. With that of glibc, whoever drops an old state gets in the way of those who prepare new ones.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the command line asks for.
struct Asked {
    only: BTreeSet<String>,
    growth: Option<PathBuf>,
    machine: String,
    etcd: Option<String>,
    scratch: PathBuf,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, what, path] = arguments.as_slice()
        && command == "recover"
    {
        let nanos = Recovery::named(what)?.time(Path::new(path))?;
        return Ok(writeln!(std::io::stdout(), "{nanos}")?);
    }
    let asked = asked(arguments.into_iter())?;
    let context = Context::new(&asked.scratch, asked.etcd)?;
    if let Some(folder) = &asked.growth {
        return growth::write(&context, folder, &asked.only, &asked.machine);
    }
    let mut rows = Vec::new();
    for (id, measure) in ROWS {
        if !asked.only.is_empty() && !asked.only.contains(id) {
            continue;
        }
        let start = Instant::now();
        let measured = measure(&context).map_err(|error| format!("{id}: {error}"))?;
        writeln!(std::io::stderr(), "{id}: {:.0} s", start.elapsed().as_secs_f64())?;
        for row in &measured {
            writeln!(
                std::io::stderr(),
                "    {} | {} | {} | {}",
                row.copyseg,
                row.reference,
                row.limit,
                row.ratios
            )?;
        }
        rows.extend(measured);
    }
    Ok(write!(std::io::stdout(), "{}", markdown(&rows))?)
}

fn asked(mut arguments: impl Iterator<Item = String>) -> Result<Asked> {
    let mut asked = Asked {
        only: BTreeSet::new(),
        growth: None,
        machine: String::new(),
        etcd: None,
        scratch: std::env::temp_dir(),
    };
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("`{argument}` needs a value"))?;
        match argument.as_str() {
            "--only" => asked.only.extend(value.split(',').map(str::to_owned)),
            "--growth" => asked.growth = Some(value.into()),
            "--machine" => asked.machine = value,
            "--turns" => set_turns(value.parse()?),
            "--etcd" => asked.etcd = Some(value),
            "--scratch" => asked.scratch = value.into(),
            _ => return Err(format!("`{argument}` is not an option").into()),
        }
    }
    let known: BTreeSet<&str> = match asked.growth {
        Some(_) => growth::names().collect(),
        None => ROWS.iter().map(|(id, _)| *id).collect(),
    };
    match asked.only.iter().find(|only| !known.contains(only.as_str())) {
        Some(unknown) => Err(format!("there is no `{unknown}`, but {known:?}").into()),
        None => Ok(asked),
    }
}

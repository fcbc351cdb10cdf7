//! A run: steps drawn at random.

use std::fmt;

use copyseg_conformance::Fault;
use copyseg_core::{JobId, JobState, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;

use super::change::{Change, add_job, change, job};
use super::queries::{Queries, queries};

/// When every run begins.
pub(super) const START: Timestamp = Timestamp::from_millis(1_760_000_000_000);

/// A run, and what is asked after each of its steps.
#[derive(Debug, Clone)]
pub struct Program {
    pub(super) steps: Vec<Step>,
    pub(super) queries: Queries,
}

/// One step of a run.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Makes a change.
    Do(Change),
    /// Claims this many tasks of a job and completes them; tries to publish it then, or to complete it.
    Work(JobId, usize, Vec<JobState>),
    /// Makes several in one transaction.
    Transact(Vec<Change>, Ending),
    /// A worker says that it lives, with the claim counted back from the last.
    Beat(usize, bool),
    /// Asks which workers were not heard of for so many seconds.
    Silent(u64),
    /// Lets so many seconds pass.
    Advance(u64),
    /// Steps the wall clock by so many seconds, in either direction.
    JumpClock(i64),
    /// Makes a change of which a call to storage fails.
    Fail(u64, Fault, Change),
    /// Makes a change under which the process dies.
    Crash(u64, Change),
    /// Opens the store again.
    Reopen(Reopening),
    /// Damages one record of those that are there, while nobody has the store open.
    Damage(prop::sample::Index),
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With `Ok`.
    Commit,
    /// With an error of the caller.
    GiveUp,
    /// With a panic.
    Panic,
}

/// How one life of a manager follows another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reopening {
    /// It is closed first.
    Closed,
    /// It dies.
    Killed,
    /// The new one takes over while it lives, where that is possible.
    TakenOver,
}

impl Program {
    /// How many steps it has.
    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }
}

/// A step on each line, and then the queries.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "  {step:?}"))?;
        write!(f, "{:?}", self.queries)
    }
}

/// Any run of up to so many steps.
pub fn program(steps_max: usize) -> impl Strategy<Value = Program> {
    // Most changes need a job to be about.
    let jobs = vec(add_job().prop_map(Step::Do), 0..4);
    (jobs, vec(step(), 1..steps_max), queries(START)).prop_map(|(jobs, steps, queries)| Program {
        steps: jobs.into_iter().chain(steps).collect(),
        queries,
    })
}

/// Any run in which the wall clock steps by up to so many hours, back or forth, before each step.
pub fn program_of_jumps(steps_max: usize, hours: i64) -> impl Strategy<Value = Program> {
    let jumps = vec(-3_600 * hours..3_600 * hours, steps_max + 4);
    (program(steps_max), jumps).prop_map(|(program, jumps)| {
        let steps = program.steps.into_iter().zip(jumps);
        let steps = steps.flat_map(|(step, seconds)| [Step::JumpClock(seconds), step]).collect();
        Program { steps, ..program }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let ending = prop_oneof![4 => Just(Ending::Commit), 1 => Just(Ending::GiveUp), 1 => Just(Ending::Panic)];
    let then = prop::sample::select(vec![
        vec![],
        vec![JobState::Publishing],
        vec![JobState::Completed],
        vec![JobState::Publishing, JobState::Completed],
    ]);
    let fault = prop::sample::select(Fault::ALL.to_vec());
    let reopening = prop::sample::select(vec![Reopening::Closed, Reopening::Killed, Reopening::TakenOver]);
    prop_oneof![
        30 => change().prop_map(Step::Do),
        8 => (job(), 1_usize..9, then).prop_map(|(job, tasks, then)| Step::Work(job, tasks, then)),
        8 => (vec(change(), 1..6), ending).prop_map(|(changes, ending)| Step::Transact(changes, ending)),
        2 => (0_usize..5, proptest::bool::weighted(0.1)).prop_map(|(back, forged)| Step::Beat(back, forged)),
        2 => (0_u64..100).prop_map(Step::Silent),
        2 => (0_u64..60).prop_map(Step::Advance),
        1 => (-10_000_i64..10_000).prop_map(Step::JumpClock),
        5 => (0_u64..4, fault, change()).prop_map(|(calls, fault, change)| Step::Fail(calls, fault, change)),
        2 => (0_u64..4, change()).prop_map(|(calls, change)| Step::Crash(calls, change)),
        2 => reopening.prop_map(Step::Reopen),
        1 => any::<prop::sample::Index>().prop_map(Step::Damage),
    ]
}

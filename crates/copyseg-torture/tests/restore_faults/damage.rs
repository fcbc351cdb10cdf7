//! The restore's own files in the target of an unfinished one: whose it is, what was planned, how an earlier one ended.

use std::fs;

use copyseg_core::{Error, ErrorKind};
use copyseg_torture::damage::{Spoil, spoils};
use copyseg_torture::{Round, Trial, run};

use crate::scene::{Scene, Step, completed};

/// In the short form a round damages one byte in so many; so many rounds damage every byte.
const STRIDE: usize = 97;

/// How far the restore had come.
#[derive(Debug, Clone, Copy)]
struct Standing {
    step: Step,
    /// Whether the run that this step is about has begun, and was stopped when it had copied a segment.
    begun: bool,
}

const STANDINGS: [Standing; 5] = [
    Standing { step: Step::GoOn, begun: false },
    Standing { step: Step::GoOnAfterKill, begun: false },
    Standing { step: Step::StartOver, begun: false },
    Standing { step: Step::StartOver, begun: true },
    Standing { step: Step::TakeOver, begun: true },
];

impl Standing {
    async fn scene(self) -> Scene {
        let scene = Scene::at(self.step).await;
        if self.begun {
            scene.begin().await;
        }
        scene
    }

    /// Whether the damaged owner is the restore's that is run again.
    fn owns(self) -> bool {
        self.begun || matches!(self.step, Step::GoOn | Step::GoOnAfterKill)
    }
}

#[test]
fn an_unfinished_restore_with_a_damaged_record_goes_on_or_says_what_is_broken() {
    let name = "an_unfinished_restore_with_a_damaged_record_goes_on_or_says_what_is_broken";
    let mut trial = Trial::new(name, 1);
    while let Some(mut round) = trial.round() {
        for standing in STANDINGS {
            let lengths = run(true, async {
                let scene = standing.scene().await;
                scene.records().iter().map(|path| fs::read(path).unwrap().len()).collect::<Vec<_>>()
            });
            assert_eq!(lengths.len(), if standing.begun { 3 } else { 2 }, "{standing:?}");
            for (record, length) in lengths.into_iter().enumerate() {
                for spoil in spoils(length, round.seed(), STRIDE) {
                    run(true, damage(&mut round, standing, record, spoil));
                }
            }
        }
    }
}

async fn damage(round: &mut Round<'_>, standing: Standing, record: usize, spoil: Spoil) {
    let scene = standing.scene().await;
    let path = scene.records().swap_remove(record);
    let name = path.file_name().unwrap().to_str().unwrap();
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    if !spoil.apply(&mut damaged) {
        return;
    }
    fs::write(&path, &damaged).unwrap();
    let outcome = scene.run(scene.storage(), None).await;
    match &outcome {
        outcome if completed(outcome) => round.count("completed", 1),
        Err(error) if says(error, name) => {
            // As the error advises, or from a copy.
            match name == "owner" && standing.owns() && round.seed() % 2 == 0 {
                true => fs::remove_file(&path).unwrap(),
                false => fs::write(&path, whole).unwrap(),
            }
            round.count("refused", 1);
        }
        outcome => panic!("{standing:?}, {name}, {spoil}: {outcome:?}"),
    }
    scene.complete(scene.storage()).await;
}

fn says(error: &Error, name: &str) -> bool {
    use ErrorKind::{Corrupt, InvalidArgument, Unsupported};
    matches!(error.kind(), Corrupt | InvalidArgument | Unsupported) && error.to_string().contains(name)
}

//! The bodies of the fuzz targets without their fuzzer: on the corpus, on bytes drawn at random, and on the corpus with
//! random changes. It finds less, and needs no nightly toolchain.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::fs;
use std::path::Path;

use copyseg_torture::{Trial, fuzz};
use fastrand::Rng;

#[test]
fn decoding_survives_any_bytes() {
    mutate("decoding_survives_any_bytes", "decode", 100_000);
}

#[test]
fn urls_are_refused_or_canonical_whatever_they_are() {
    mutate("urls_are_refused_or_canonical_whatever_they_are", "urls", 5_000);
}

#[test]
fn manifests_are_read_or_refused_whatever_they_are() {
    mutate("manifests_are_read_or_refused_whatever_they_are", "manifest", 5_000);
}

#[test]
fn any_bytes_make_a_run_that_the_manager_survives() {
    mutate("any_bytes_make_a_run_that_the_manager_survives", "sequences", 60);
}

/// Runs the body on its whole corpus, and then on so many changed inputs a round.
fn mutate(name: &'static str, target: &str, inputs: usize) {
    let (_, body) = fuzz::BODIES.into_iter().find(|(known, _)| *known == target).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut corpus: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    corpus.sort();
    let corpus: Vec<Vec<u8>> = corpus.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(!corpus.is_empty(), "{}", folder.display());
    let mut trial = Trial::new(name, 1);
    while let Some(mut round) = trial.round() {
        corpus.iter().for_each(|input| body(input));
        let mut random = Rng::with_seed(round.seed());
        for _ in 0..inputs {
            let mut input = corpus[random.usize(..corpus.len())].clone();
            change(&mut input, &mut random);
            body(&input);
        }
        round.count("inputs", (corpus.len() + inputs) as u64);
    }
}

/// One to four changes of the kinds that libFuzzer makes.
fn change(input: &mut Vec<u8>, random: &mut Rng) {
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(..=input.len());
        match random.u8(..6) {
            0 => input.truncate(at),
            1 => input.insert(at, random.u8(..)),
            2 => input
                .splice(at..at, (0..random.usize(..64)).map(|_| random.u8(..)).collect::<Vec<_>>())
                .for_each(drop),
            3 => drop(input.drain(at..(at + random.usize(..8)).min(input.len()))),
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.u32(..8);
                }
            }
        }
    }
}

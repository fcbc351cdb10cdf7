//! `cargo +nightly fuzz run urls`: see `copyseg_torture::fuzz::urls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| copyseg_torture::fuzz::urls(data));

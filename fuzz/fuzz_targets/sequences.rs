//! `cargo +nightly fuzz run sequences`: see `copyseg_torture::fuzz::sequences`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| copyseg_torture::fuzz::sequences(data));

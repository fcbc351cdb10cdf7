//! `cargo +nightly fuzz run manifest`: see `copyseg_torture::fuzz::manifest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| copyseg_torture::fuzz::manifest(data));

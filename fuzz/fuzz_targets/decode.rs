//! `cargo +nightly fuzz run decode`: see `copyseg_torture::fuzz::decode`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| copyseg_torture::fuzz::decode(data));

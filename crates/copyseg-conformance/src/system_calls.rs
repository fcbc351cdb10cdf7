//! System calls that fail on purpose, on the real system and without special rights.
//!
//! A filter of the kernel (seccomp) makes a call fail in the threads that it is put on, and in those that they start.
//! It cannot be taken off again, so each test puts it on a process or a thread of its own.

use std::env::consts::ARCH;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// The disk failed.
pub const EIO: u32 = 5;
/// The disk is full.
pub const ENOSPC: u32 = 28;
/// The file system is read-only.
pub const EROFS: u32 = 30;

/// What a file system refuses once it is read-only, as one becomes whose disk failed, with files open to be written.
pub const WRITES: [&str; 5] = ["pwrite64", "ftruncate", "fsync", "fdatasync", "writable openat"];

/// Makes each of `calls` fail with the number of an error from now on, in this thread and in those that it starts.
///
/// # Panics
/// If a call is not known here, or the system takes no filter.
pub fn fail_in_this_thread(calls: &[&str], error: u32) {
    seccompiler::apply_filter(&filter(calls, error)).expect("the system takes a filter");
}

/// Makes each of `calls` fail with the number of an error from now on, in every thread of this process.
///
/// # Panics
/// If a call is not known here, or the system takes no filter.
pub fn fail_in_all_threads(calls: &[&str], error: u32) {
    seccompiler::apply_filter_all_threads(&filter(calls, error)).expect("the system takes a filter");
}

fn filter(calls: &[&str], error: u32) -> BpfProgram {
    let rules = calls.iter().map(|call| match *call {
        "small pwrite64" => (number("pwrite64"), vec![of_few_bytes()]),
        "writable openat" => (number("openat"), vec![to_be_written()]),
        call => (number(call), vec![]),
    });
    let arch = ARCH.try_into().expect("filters can be made for this processor");
    let (allow, fail) = (SeccompAction::Allow, SeccompAction::Errno(error));
    let filter = SeccompFilter::new(rules.collect(), allow, fail, arch).expect("the filter is valid");
    filter.try_into().expect("the filter is small enough")
}

/// A call whose third argument, the number of bytes, is small.
fn of_few_bytes() -> SeccompRule {
    let small = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Lt, 100);
    SeccompRule::new(vec![small.expect("a call has a third argument")]).expect("the rule has a condition")
}

/// A call whose third argument says that a file is opened to be read and written.
fn to_be_written() -> SeccompRule {
    const ACCESS_MODE: u64 = 3;
    const READ_WRITE: u64 = 2;
    let mode = SeccompCmpOp::MaskedEq(ACCESS_MODE);
    let writable = SeccompCondition::new(2, SeccompCmpArgLen::Dword, mode, READ_WRITE);
    SeccompRule::new(vec![writable.expect("a call has a third argument")]).expect("the rule has a condition")
}

/// The number of a call, as Linux has it.
fn number(call: &str) -> i64 {
    match (ARCH, call) {
        ("x86_64", "pwrite64") => 18,
        ("x86_64", "fsync") => 74,
        ("x86_64", "fdatasync") => 75,
        ("x86_64", "ftruncate") => 77,
        ("x86_64", "openat") => 257,
        ("x86_64", "sync_file_range") => 277,
        ("aarch64", "ftruncate") => 46,
        ("aarch64", "openat") => 56,
        ("aarch64", "pwrite64") => 68,
        ("aarch64", "fsync") => 82,
        ("aarch64", "fdatasync") => 83,
        ("aarch64", "sync_file_range") => 84,
        _ => panic!("the number of {call} on {ARCH} is to be added here"),
    }
}

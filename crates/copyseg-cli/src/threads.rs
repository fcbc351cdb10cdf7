//! Threads that the system does not let the command start.

use std::panic;
use std::process;

use crate::exit::Failure;
use crate::output::Format;

/// How the panics of tokio and of the standard library begin where a thread cannot be started.
const NOT_STARTED: [&str; 2] = ["OS can't spawn worker thread", "failed to spawn thread"];

/// From now on, a thread that cannot be started ends the process at once, as a kill would, with a failure that says so.
/// The libraries panic then, and unwinding may wait for ever for the threads that they have started.
pub(crate) fn end_process_without(format: Format) {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| match panic.payload_as_str() {
        Some(text) if NOT_STARTED.iter().any(|begin| text.starts_with(begin)) => {
            let failure = Failure::no_thread(text);
            failure.report(format);
            process::exit(failure.exit() as i32)
        }
        _ => usual(panic),
    }));
}

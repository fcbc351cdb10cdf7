//! SIGINT and SIGTERM: the first asks to stop, the second ends the process at once. What comes within [`SAME_SIGNAL`] of
//! the first counts as that one: `timeout` and service managers signal a process and then its group, which has it too.

use std::pin::pin;
use std::process;
use std::time::Duration;

use copyseg_restore::CancellationToken;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout, timeout_at};

use crate::exit::{Exit, Failure};

/// How long a command may take to stop after a signal. What a restore has not released by then, the next run takes
/// back.
pub(crate) const STOP_TIME: Duration = Duration::from_secs(5);

/// How long after the first signal another one is taken for the same request. No person sends a second one so soon.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

/// A request to stop that came from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// SIGINT, from Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Stop {
    /// The exit code of a command that it stopped.
    pub(crate) fn exit(self) -> Exit {
        match self {
            Self::Interrupt => Exit::Interrupted,
            Self::Terminate => Exit::Terminated,
        }
    }

    /// The name of the signal.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }
}

/// The signals that ask this process to stop, from the moment this was made.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes the signals over from the operating system, which would end the process.
    pub(crate) fn new() -> Result<Self, Failure> {
        let take = |kind| signal(kind).map_err(Failure::not_started);
        Ok(Self { interrupt: take(SignalKind::interrupt())?, terminate: take(SignalKind::terminate())? })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Stop {
        tokio::select! {
            Some(()) = self.interrupt.recv() => Stop::Interrupt,
            Some(()) = self.terminate.recv() => Stop::Terminate,
            else => std::future::pending().await,
        }
    }

    /// After the first one: the second one ends the process at once.
    pub(crate) fn end_process_at_next(mut self) {
        let first = Instant::now();
        tokio::spawn(async move { process::exit(self.second(first).await.exit() as i32) });
    }

    async fn second(&mut self, first: Instant) -> Stop {
        while timeout_at(first + SAME_SIGNAL, self.next()).await.is_ok() {}
        self.next().await
    }
}

/// Runs `work`, which changes nothing, to its end. A signal asks it to stop, by the token, when it has put away what it
/// has in hand.
pub(crate) async fn until_stopped(
    work: impl AsyncFnOnce(CancellationToken) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let stop = CancellationToken::new();
    let mut work = pin!(work(stop.clone()));
    let signal = tokio::select! {
        ended = &mut work => return ended,
        signal = signals.next() => signal,
    };
    signals.end_process_at_next();
    stop.cancel();
    match timeout(STOP_TIME, work).await {
        Ok(Ok(())) => Ok(()),
        _ => {
            let message = format!("stopped by {}; no job is affected", signal.name());
            Err(Failure::Stopped(Some(signal), message))
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};
    use tokio::time::sleep;

    use super::*;

    #[tokio::test]
    async fn a_signal_right_after_the_first_is_no_second_one_and_a_later_one_is() {
        let send = |signal| kill_process(getpid(), signal).unwrap();
        let mut signals = Signals::new().unwrap();
        send(Signal::TERM);
        assert_eq!(signals.next().await, Stop::Terminate);
        let first = Instant::now();
        send(Signal::TERM);
        let second = tokio::spawn(async move { signals.second(first).await });
        sleep(2 * SAME_SIGNAL).await;
        assert!(!second.is_finished());
        send(Signal::INT);
        assert_eq!(second.await.unwrap(), Stop::Interrupt);
    }
}

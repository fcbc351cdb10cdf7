//! SIGINT and SIGTERM: the first asks to stop, the second ends the process at once.

use std::pin::pin;
use std::process;
use std::time::Duration;

use copyseg_restore::CancellationToken;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use crate::exit::{Exit, Failure};

/// How long a command may take to stop after a signal. What a restore has not released by then, the next run takes
/// back.
pub(crate) const STOP_TIME: Duration = Duration::from_secs(5);

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

    /// From now on, the next one ends the process at once.
    pub(crate) fn end_process_at_next(mut self) {
        tokio::spawn(async move { process::exit(self.next().await.exit() as i32) });
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

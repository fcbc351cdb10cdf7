//! The progress bar: how far, how fast and how long still; on terminals only.

use std::time::Duration;

use copyseg_restore::{Phase, RestoreProgress};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{log, output};

const COPYING: &str = "{msg} {bar:30} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  ETA {eta}";
const OTHERWISE: &str = "{spinner} {msg}";
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);

/// A bar on stderr, removed when dropped. Where stderr is no terminal, nothing is shown.
#[derive(Debug)]
pub(super) struct Bar {
    bar: ProgressBar,
    phase: Option<Phase>,
}

impl Bar {
    /// A bar of which nothing is known yet.
    pub(super) fn new() -> Self {
        let bar = log::bars().add(ProgressBar::no_length());
        bar.set_style(style(OTHERWISE));
        bar.set_message("opening the catalog");
        bar.enable_steady_tick(REDRAW_INTERVAL);
        Self { bar, phase: None }
    }

    /// Shows how far the restore is.
    pub(super) fn show(&mut self, progress: &RestoreProgress) {
        if self.phase != Some(progress.phase) {
            self.enter(progress);
        }
        self.bar.set_position(progress.bytes_copied);
        self.bar.set_message(message(progress));
    }

    fn enter(&mut self, progress: &RestoreProgress) {
        self.phase = Some(progress.phase);
        if progress.phase == Phase::Copying {
            self.bar.set_style(style(COPYING));
            self.bar.set_length(progress.bytes);
            // What earlier runs copied took this one no time, and must not make it look fast.
            self.bar.set_position(progress.bytes_before);
            self.bar.reset_eta();
        } else {
            self.bar.set_style(style(OTHERWISE));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn message(progress: &RestoreProgress) -> String {
    let RestoreProgress { segments, segments_copied, waiting, .. } = progress;
    match progress.phase {
        Phase::Planning => "reading the snapshot".into(),
        Phase::Copying if waiting.is_empty() => format!("{segments_copied}/{segments} segments"),
        Phase::Copying => {
            format!("{segments_copied}/{segments} segments (retrying: {})", output::printable(waiting))
        }
        Phase::Publishing => "making the segments visible".into(),
        _ => "closing the catalog".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_of_the_bar_can_be_read() {
        for template in [COPYING, OTHERWISE] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}

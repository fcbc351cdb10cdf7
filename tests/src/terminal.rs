//! A terminal for the command to write to, as a person has it.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::Command;

/// Runs the command with stdout and stderr on a terminal of 200 columns, and gives its exit code and what the
/// terminal showed.
///
/// # Panics
/// If there is no terminal to be had.
pub fn on_a_terminal(command: Command) -> (i32, String) {
    on_terminal(command, "xterm-256color", 200)
}

/// Runs the command as [`on_a_terminal`] does, on one of this kind, as `TERM` names it, that says it has so many columns.
///
/// # Panics
/// If there is no terminal to be had.
pub fn on_terminal(command: Command, kind: &str, columns: u16) -> (i32, String) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal can be opened");
    grantpt(&ours).expect("the terminal can be used");
    unlockpt(&ours).expect("the terminal can be used");
    let name = ptsname(&ours, Vec::new()).expect("the terminal has a name");
    let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let theirs: OwnedFd = rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())
        .expect("the terminal can be opened");
    let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&ours, size).expect("the terminal has a size");

    let shown = thread::spawn(move || {
        let (mut ours, mut shown, mut buffer) = (File::from(ours), Vec::new(), [0; 4096]);
        // Reading fails once nobody has the other end open any more.
        while let Ok(count @ 1..) = ours.read(&mut buffer) {
            shown.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8_lossy(&shown).into_owned()
    });
    let copy = theirs.try_clone().expect("the terminal can be shared");
    let running = command.env("TERM", kind).stdout(theirs).stderr(copy).start();
    let finished = running.finish();
    (finished.code, shown.join().expect("the terminal can be read"))
}

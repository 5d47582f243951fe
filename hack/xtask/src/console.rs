//! How steps are shown while they run: plain lines, coloured only on a terminal.
//!
//! Runs nothing itself.

use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Announces a step; `done` or `broken` finishes the line.
pub fn begin(what: &str) {
    print!("{what:<44} ");
    flush();
}

/// Finishes the line of a step that went well.
pub fn done(took: Duration) {
    println!("{} {:6.1} s", paint("32", "ok    "), took.as_secs_f64());
}

/// Finishes the line of a step that did not, with what it had to say below.
pub fn broken(took: Duration, said: &str) {
    println!("{} {:6.1} s", paint("31", "FAILED"), took.as_secs_f64());
    for line in said.trim_end().lines() {
        println!("    {line}");
    }
}

/// A heading over a part that prints many lines of its own.
pub fn heading(what: &str) {
    println!("\n{}", paint("1", &format!("== {what}")));
    flush();
}

fn paint(code: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

fn flush() {
    // A closed stdout shows itself at the next println.
    let _ = std::io::stdout().flush();
}

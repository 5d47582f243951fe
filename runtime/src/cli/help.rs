//! Help texts, made from the tables. It knows no flag by name.

use std::fmt::Write;

use super::flag::{Doc, Takes};
use super::tables::{COMMANDS, Entry, global_docs};

/// Where explanations begin.
const MARGIN: usize = 28;
/// How wide a text is: what fits a terminal of 80 columns and is no strain to read.
const WIDTH: usize = 80;

/// `rt --help`.
pub fn overview() -> String {
    let mut text = String::from(
        "rt runs containers: an OCI runtime for people and for podman, containerd, docker and CRI-O.\n\n\
         Usage: rt [OPTION…] COMMAND …\n\n\
         A bundle is a directory with a config.json and a root file system:\n\n    \
         rt spec -b bundle        writes a config.json to start from\n    \
         rt run ./bundle          runs it\n\nCommands:\n",
    );
    for Entry { name, summary, .. } in COMMANDS {
        row(&mut text, &format!("  {name}"), summary, 14);
    }
    text.push_str("\nOptions, before the command:\n");
    for doc in global_docs() {
        option(&mut text, doc);
    }
    row(&mut text, "  -v, --version", "print the version", MARGIN);
    row(&mut text, "  -h, --help", "print this, or after a command what it does", MARGIN);
    text
}

/// `rt COMMAND --help`.
pub fn page(entry: &Entry) -> String {
    let Entry { name, summary, arguments, details, docs, .. } = entry;
    let docs: Vec<&Doc> = docs().into_iter().filter(|doc| !doc.text.is_empty()).collect();
    let options = if docs.is_empty() { "" } else { " [OPTION…]" };
    let mut text = format!("rt {name}: {summary}\n\n");
    for (at, form) in arguments.split(" | ").enumerate() {
        let head = if at == 0 { "Usage:" } else { "   or:" };
        let space = if form.is_empty() { "" } else { " " };
        let _ = writeln!(text, "{head} rt {name}{options}{space}{form}");
    }
    for paragraph in details.lines() {
        text.push('\n');
        row(&mut text, "", paragraph, 0);
    }
    if !docs.is_empty() {
        text.push_str("\nOptions:\n");
        for doc in docs {
            option(&mut text, doc);
        }
    }
    text
}

fn option(text: &mut String, doc: &Doc) {
    let short = doc.short.map_or("    ".to_owned(), |short| format!("-{short}, "));
    let long = doc.long;
    let label = match doc.takes {
        Takes::Nothing => format!("  {short}--{long}"),
        Takes::Value(what) => format!("  {short}--{long} {what}"),
        Takes::MaybeValue(what) => format!("  {short}--{long}[={what}]"),
    };
    row(text, &label, doc.text, MARGIN);
}

/// A label, and an explanation that begins at `margin` on each of its lines; under the label, if that is too long.
fn row(text: &mut String, label: &str, explanation: &str, margin: usize) {
    let mut column = label.chars().count();
    text.push_str(label);
    if column + 2 > margin && column > 0 {
        text.push('\n');
        column = 0;
    }
    let _ = write!(text, "{:1$}", "", margin - column);
    column = margin;
    for (at, word) in explanation.split_whitespace().enumerate() {
        let letters = word.chars().count();
        if at > 0 && column + 1 + letters > WIDTH {
            let _ = write!(text, "\n{:margin$}", "");
            column = margin;
        } else if at > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += letters;
    }
    text.push('\n');
}

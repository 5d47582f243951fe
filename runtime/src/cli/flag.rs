//! Flags as rows of a table: how one is written, what it means, and what it sets. Parsing and help both read the same row.
//!
//! It knows no command: the rows are in [`super::tables`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use lexopt::{Arg, Parser};

use super::nearest::nearest;
use crate::error::{Error, Result};

/// One flag of a command whose options are `O`.
pub struct Flag<O> {
    /// How it is written, for people.
    pub doc: Doc,
    /// What it does.
    pub set: fn(&mut O, Given) -> Result<()>,
}

/// How a flag is written and what it is for.
#[derive(Debug)]
pub struct Doc {
    /// Without the dashes.
    pub long: &'static str,
    /// Without the dash.
    pub short: Option<char>,
    /// What follows it.
    pub takes: Takes,
    /// What it is for, without a full stop. Empty: obsolete or for programs, and not shown.
    pub text: &'static str,
}

/// What follows a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing; `=true` and `=false` are understood, as Go programs do.
    Nothing,
    /// A value, called so.
    Value(&'static str),
    /// A value only if it is attached with `=`.
    MaybeValue(&'static str),
}

/// A flag as it stands on the command line.
pub struct Given {
    doc: &'static Doc,
    value: Option<OsString>,
}

impl<O> Flag<O> {
    /// A row of a table.
    pub const fn new(
        long: &'static str,
        takes: Takes,
        text: &'static str,
        set: fn(&mut O, Given) -> Result<()>,
    ) -> Self {
        Self { doc: Doc { long, short: None, takes, text }, set }
    }

    /// A row of a table, with a short form.
    pub const fn with_short(
        short: char,
        long: &'static str,
        takes: Takes,
        text: &'static str,
        set: fn(&mut O, Given) -> Result<()>,
    ) -> Self {
        Self { doc: Doc { long, short: Some(short), takes, text }, set }
    }
}

impl Given {
    /// The value as text.
    pub fn text(self) -> Result<String> {
        let name = self.doc.long;
        self.value.unwrap_or_default().into_string().map_err(|value| {
            Error::invalid(format!("option --{name} needs text, not the bytes {}", value.display()))
        })
    }

    /// The value as text, and `None` if it is empty: Go programs write `--x ""` for "not given".
    pub fn filled(self) -> Result<Option<String>> {
        self.text().map(|text| (!text.is_empty()).then_some(text))
    }

    /// The value as an absolute path, `None` if it is empty.
    pub fn path(self) -> Result<Option<PathBuf>> {
        match self.value {
            Some(value) if !value.is_empty() => super::absolute(value.as_ref()).map(Some),
            _ => Ok(None),
        }
    }

    /// The value as a number; `None` if it is empty.
    pub fn number<N: FromStr>(self) -> Result<Option<N>> {
        let Doc { long, .. } = *self.doc;
        let Some(text) = self.filled()? else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Error::invalid(format!("option --{long} needs a number, not {text:?}"))),
        }
    }

    /// One of the words of a table.
    pub fn choice<T: Copy>(self, choices: &[(&str, T)]) -> Result<T> {
        let Doc { long, .. } = *self.doc;
        let text = self.text()?;
        choices.iter().find(|(word, _)| *word == text).map(|&(_, meaning)| meaning).ok_or_else(|| {
            let words: Vec<&str> =
                choices.iter().map(|&(word, _)| word).filter(|word| !word.is_empty()).collect();
            Error::invalid(format!("option --{long} must be {}, not {text:?}", words.join(" or ")))
        })
    }

    /// Whether a flag without a value is on.
    pub fn on(self) -> Result<bool> {
        match self.value.as_deref().map(|value| value.to_string_lossy()) {
            None => Ok(true),
            Some(word) if matches!(&*word, "true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
            Some(word) if matches!(&*word, "false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
            Some(word) => Err(Error::invalid(format!(
                "option --{} takes no value but true or false, not {word:?}",
                self.doc.long
            ))),
        }
    }

    /// The attached value, if there is one.
    pub fn attached(self) -> Result<Option<String>> {
        if self.value.is_none() { Ok(None) } else { self.filled() }
    }
}

/// Where options end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionsEnd {
    /// Nowhere: they may stand before and after other arguments.
    Never,
    /// At the first other argument: what follows is another program's.
    AtFirstArgument,
}

/// What reading a command line gives.
pub enum Read<O> {
    /// Options and the other arguments.
    Options(O, Vec<OsString>),
    /// `--help` was among them.
    Help,
}

/// Reads what is left of the command line by the command's tables. `command` is for messages: `rt create`.
pub fn read<O: Default + 'static>(
    parser: &mut Parser,
    command: &str,
    tables: &[&'static [Flag<O>]],
    end: OptionsEnd,
) -> Result<Read<O>> {
    let mut options = O::default();
    let mut arguments = Vec::new();
    while let Some(arg) = parser.next().map_err(|e| broken(&e))? {
        let flag = match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(Read::Help),
            Arg::Long(name) => {
                find(tables, |doc| doc.long == name).ok_or_else(|| unknown(name, command, tables))?
            }
            Arg::Short(short) => find(tables, |doc| doc.short == Some(short)).ok_or_else(|| {
                Error::invalid(format!("unknown option -{short} of {command}")).cure(help(command))
            })?,
            Arg::Value(value) => {
                arguments.push(value);
                if end == OptionsEnd::AtFirstArgument {
                    arguments.extend(parser.raw_args().map_err(|e| broken(&e))?);
                }
                continue;
            }
        };
        set(parser, &mut options, flag, command)?;
    }
    Ok(Read::Options(options, arguments))
}

/// Reads the value of a flag that has just been read, by name: for options that stand before a command.
pub fn set_one<O>(
    parser: &mut Parser,
    options: &mut O,
    (command, name): (&str, &str),
    tables: &[&'static [Flag<O>]],
) -> Result<()> {
    let flag = find(tables, |doc| doc.long == name).ok_or_else(|| unknown(name, command, tables))?;
    set(parser, options, flag, command)
}

fn set<O>(parser: &mut Parser, options: &mut O, flag: &'static Flag<O>, command: &str) -> Result<()> {
    let value = match flag.doc.takes {
        Takes::Nothing | Takes::MaybeValue(_) => parser.optional_value(),
        Takes::Value(what) => Some(parser.value().map_err(|_| {
            Error::invalid(format!("option --{} needs a value: {what}", flag.doc.long)).cure(help(command))
        })?),
    };
    (flag.set)(options, Given { doc: &flag.doc, value })
}

fn find<O>(tables: &[&'static [Flag<O>]], is: impl Fn(&Doc) -> bool) -> Option<&'static Flag<O>> {
    tables.iter().copied().flatten().find(|flag| is(&flag.doc))
}

fn unknown<O>(name: &str, command: &str, tables: &[&'static [Flag<O>]]) -> Error {
    let error = Error::invalid(format!("unknown option --{name} of {command}"));
    let known =
        tables.iter().copied().flatten().filter(|flag| !flag.doc.text.is_empty()).map(|flag| flag.doc.long);
    match nearest(name, known) {
        Some(near) => error.cure(format!("did you mean --{near}?")),
        None if command != "rt" && super::tables::global_docs().iter().any(|doc| doc.long == name) => {
            error.cure(format!("it belongs before the command: rt --{name} …"))
        }
        None => error.cure(help(command)),
    }
}

/// A cure.
fn help(command: &str) -> String {
    format!("see `{command} --help`")
}

/// What lexopt itself finds wrong; its texts are fit for people.
pub fn broken(error: &lexopt::Error) -> Error {
    Error::invalid(format!("read the command line: {error}"))
}

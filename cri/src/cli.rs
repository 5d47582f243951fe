//! The command line: `rt-cri [serve|config|check|fsck|images]`. It prints errors, once, and chooses exit codes.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::filter::{FilterExt, FilterFn, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{self, Config};
use crate::error::{Context, Error, Result};
use crate::traces::{self, Traces};

/// Bytes of what is not kept when it is free: windows of decompressors. Answers of a thousand containers have less, and would take 2 ms
/// instead of 0.4 if their memory were new each time.
const LARGE: usize = 2 << 20;
use crate::{fsck, preflight, server};

/// The Kubernetes CRI server.
#[derive(Debug, Parser)]
#[command(name = "rt-cri", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve CRI on a socket (what happens without a command too).
    Serve(Options),
    /// Print the configuration that is in force: each key with what it means, its unit and its default.
    Config {
        /// The default configuration instead, commented out: a file to start from.
        #[arg(long)]
        default: bool,
        #[command(flatten)]
        options: Options,
    },
    /// Say what this host has of what pods need, and the cure for what it lacks.
    Check(Options),
    /// Look for what no pod has: records, directories, mounts, network, cgroups, images. The server must not run; pods may.
    Fsck {
        /// Remove it.
        #[arg(long)]
        repair: bool,
        #[command(flatten)]
        options: Options,
    },
    /// Pull, list, remove, unpack images, through the server or without it.
    Images(crate::image::command::Options),
}

#[derive(Debug, Clone, Args)]
struct Options {
    /// Serve at this address.
    #[arg(long, value_name = "unix://PATH")]
    listen: Option<String>,
    /// Images and records, which survive a reboot.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Sockets and mounts, which don't.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The configuration; without it, /etc/rt/cri.toml if that exists.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// error, warn, info, debug, trace, or a filter of tracing-subscriber's.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => serve(&cli.serve),
        Some(Command::Serve(options)) => serve(&options),
        Some(Command::Config { default: true, .. }) => print_config(Config::default_text()),
        Some(Command::Config { options, .. }) => {
            print_config(configured(&options).and_then(|config| config.text()))
        }
        Some(Command::Check(options)) => check(&options),
        Some(Command::Fsck { repair, options }) => fsck(&options, repair),
        Some(Command::Images(options)) => crate::image::command::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rt-cri: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Options) -> Result<()> {
    let config = configured(options)?;
    let traces = log(&options.log_level, &config.tracing)?;
    let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4);
    runtime::sys::memory::at_most_arenas(workers);
    runtime::sys::memory::give_back_from(LARGE);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(workers).max_blocking_threads(64).enable_all().build();
    let runtime = runtime.what(|| "start the server's threads")?;
    let result = runtime.block_on(server::serve(config));
    // What still waits for a stalled disk does not hold the end up.
    runtime.shutdown_background();
    drop(traces);
    result
}

fn print_config(text: Result<String>) -> Result<()> {
    print!("{}", text?);
    Ok(())
}

fn fsck(options: &Options, repair: bool) -> Result<()> {
    let config = configured(options)?;
    let found = fsck::look(&config)?;
    for finding in &found {
        println!("{finding}");
    }
    match (found.len(), repair) {
        (0, _) => Ok(()),
        (count, false) => {
            Err(Error::invalid(format!("{count} things are there that no pod has, or are broken"))
                .cure("--repair removes them"))
        }
        (_, true) => fsck::repair(&config, &found),
    }
}

fn check(options: &Options) -> Result<()> {
    let (report, is_fit) = preflight::report(&configured(options)?)?;
    print!("{report}");
    if is_fit { Ok(()) } else { Err(Error::unsupported("run pods on this host: see LACKING above")) }
}

fn configured(options: &Options) -> Result<Config> {
    let mut config = match &options.config {
        Some(path) => Config::read(path)?,
        None if Path::new(config::FILE).exists() => Config::read(Path::new(config::FILE))?,
        None => Config::default(),
    };
    if let Some(root) = &options.root {
        config.root.clone_from(root);
    }
    if let Some(state) = &options.state {
        config.state.clone_from(state);
    }
    config.listen = match &options.listen {
        Some(listen) => listen.clone(),
        // A server with its own state has its socket there, unless the file says where.
        None if options.state.is_some() && config.listen == Config::default().listen => {
            format!("unix://{}", config.state.join("cri.sock").display())
        }
        None => config.listen,
    };
    for path in [&mut config.root, &mut config.state] {
        *path = std::path::absolute(&path).what(|| format!("look at {}", path.display()))?;
    }
    Ok(config)
}

/// For people on a terminal, else JSON; and traces, where they are configured.
fn log(level: &str, tracing: &traces::Config) -> Result<Traces> {
    let filter = EnvFilter::try_new(level)
        .map_err(|error| Error::invalid(format!("--log-level {level:?}: {error}")))?;
    let lines = tracing_subscriber::fmt::layer().with_target(false).with_writer(std::io::stderr);
    let lines = if std::io::stderr().is_terminal() {
        lines.boxed()
    } else {
        lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
    };
    // A line has the id of its request, not the stage that it is in.
    let others =
        FilterFn::new(|about| about.target() != traces::ONLY).with_max_level_hint(LevelFilter::TRACE);
    traces::start(tracing, tracing_subscriber::registry().with(lines.with_filter(filter.and(others))))
}

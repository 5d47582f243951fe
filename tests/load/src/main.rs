//! `cri-load`: times what two CRI servers do, in turn, and prints a table with the targets.
//!
//! It builds and starts nothing: `hack/benches/cri` brings the servers.

mod api;
mod cri;
mod crowd;
mod plugins;
mod report;
mod rounds;
mod streams;

use cri::{Result, Server};
use plugins::Plugins;
use report::{Report, Side};
use rounds::Limit;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

const USAGE: &str = "cri-load --ours SOCKET --ours-cni SOCKET --ours-pid PID --theirs SOCKET --theirs-pid PID --logs DIR \
    --cni-bin DIR --conflist FILE --crictl FILE [--parts WORD,…] [--quick] [--head WORDS] [--json FILE]";

/// The parts of the benchmark, in order; the last one only when it is named.
const PARTS: [&str; 7] = ["serial", "networks", "four", "many", "streams", "crowd", "their-crowd"];

fn main() -> std::process::ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(run()));
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("cri-load: {message}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// What the command line says.
struct Options(BTreeMap<String, String>);

impl Options {
    fn parse() -> Result<Self> {
        let mut args = std::env::args().skip(1);
        let mut found = BTreeMap::new();
        while let Some(name) = args.next() {
            let known = USAGE.split_whitespace().any(|word| word.trim_matches(['[', ']']) == name);
            let value = if name == "--quick" { Some(String::new()) } else { args.next() };
            let value = value.filter(|_| known && name.starts_with("--")).ok_or(USAGE)?;
            found.insert(name, value);
        }
        Ok(Self(found))
    }

    fn text(&self, name: &str) -> Result<&str> {
        self.0.get(name).map(String::as_str).ok_or_else(|| format!("{name} is missing; {USAGE}"))
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    fn pid(&self, name: &str) -> Result<u32> {
        self.text(name)?.parse().map_err(|_| format!("{name}: not a number"))
    }

    /// Whether this part is wanted: unless some are named, all but the last.
    fn wants(&self, part: &str) -> bool {
        match self.0.get("--parts") {
            Some(parts) => parts.split(',').any(|wanted| wanted == part),
            None => PARTS.last() != Some(&part),
        }
    }

    fn check_parts(&self) -> Result<()> {
        let parts = self.0.get("--parts").map_or("", String::as_str);
        match parts.split(',').find(|part| !part.is_empty() && !PARTS.contains(part)) {
            Some(part) => Err(format!("--parts {part}: there are {}", PARTS.join(", "))),
            None => Ok(()),
        }
    }
}

async fn run() -> Result<()> {
    let options = Options::parse()?;
    options.check_parts()?;
    let logs = options.path("--logs")?;
    let ours = Server::connect(&options.path("--ours")?, &logs).await?;
    let ours_cni = Server::connect(&options.path("--ours-cni")?, &logs).await?;
    let theirs = Server::connect(&options.path("--theirs")?, &logs).await?;
    for server in [&ours, &ours_cni, &theirs] {
        server.pull().await?;
    }
    let mut report = Report::default();
    let sides = format!("{} and {}", ours.version().await?, theirs.version().await?);
    report.head.push(format!("{sides}; sides in turn, one mount namespace, one disk."));
    report.head.extend(options.0.get("--head").cloned());
    measure(&options, (&ours_cni, &ours, &theirs), &mut report).await?;
    if let Some(file) = options.0.get("--json") {
        std::fs::write(file, format!("{:#}\n", report.json())).map_err(|e| format!("write {file}: {e}"))?;
    }
    print!("{}", report.markdown());
    Ok(())
}

async fn measure(
    options: &Options,
    (ours_cni, ours, theirs): (&Server, &Server, &Server),
    report: &mut Report,
) -> Result<()> {
    let sides = [(Side::Ours, ours), (Side::Theirs, theirs)];
    let part = if options.0.contains_key("--quick") { 4 } else { 1 };
    let limit =
        |rounds: usize, seconds| Limit { rounds: rounds.div_ceil(part), time: Duration::from_secs(seconds) };
    if options.wants("serial") {
        rounds::serial(sides, report, limit(40, 50)).await?;
    }
    if options.wants("networks") {
        let plugins = Plugins::read(&options.path("--cni-bin")?, &options.path("--conflist")?)?;
        rounds::networks((ours_cni, ours, theirs), &plugins, report, limit(25, 40)).await?;
    }
    if options.wants("four") {
        rounds::parallel(sides, (4, 4), &rounds::FOUR, report, limit(3, 30)).await?;
    }
    if options.wants("many") {
        rounds::parallel(sides, (32, 1), &rounds::THIRTY_TWO, report, limit(3, 40)).await?;
    }
    if options.wants("streams") {
        let sockets = [(Side::Ours, options.path("--ours")?), (Side::Theirs, options.path("--theirs")?)];
        streams::measure(sides, &sockets, &options.path("--crictl")?, report, limit(20, 30)).await?;
    }
    if options.wants("crowd") {
        crowd::ours(ours, options.pid("--ours-pid")?, report).await?;
    }
    if options.wants("their-crowd") {
        crowd::theirs(theirs, options.pid("--theirs-pid")?, report).await?;
    }
    Ok(())
}

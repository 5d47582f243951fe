//! Input that nobody meant: configs, command lines and messages on the link, mutated from good ones. Nothing may panic, hang, or be
//! understood differently the second time.
//!
//! `cargo test -p runtime --test fuzz` tries each target for a second with the same inputs at each run; `hack/fuzz` for longer, from
//! another seed each time. A failure prints the seed that brings it back: `RT_FUZZ_SEED=N hack/fuzz TARGET`.
//! Filters have their own generator, in the test `seccomp`.

mod mutate;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::{Duration, Instant};

use mutate::Mutator;
use runtime::link::Message;
use runtime::plan::Plan;
use runtime::plan::cgroup::Driver;
use runtime::spec::{Process, Resources, Spec};

macro_rules! data {
    ($path:literal) => {
        include_str!(concat!("../../../tests/data/", $path))
    };
}

const CONFIGS: [&str; 5] = [
    data!("bundles/docker.json"),
    data!("bundles/podman.json"),
    data!("bundles/cri-sandbox.json"),
    data!("bundles/cri-container.json"),
    data!("bundles/cri-container-shared-pid.json"),
];

/// What the configs leave open (`tests/data/bundles/README.md`), but for their profiles.
const OPEN: [(&str, &str); 7] = [
    ("@BUNDLE@", "/bundle"),
    ("@ID@", "fuzz"),
    ("@CGROUP@", "/fuzz"),
    ("@NETNS@", "/run/netns/fuzz"),
    ("@PAUSE ID@", "pause"),
    ("@PAUSE@", "7"),
    ("@PROBE@", "/probe"),
];

/// A small profile, so that other fields are altered as often.
const PROFILE: &str = data!("seccomp/deny.json");

/// The configs as an engine writes them: each of them becomes a plan.
fn configs() -> Vec<String> {
    let fill = |text: &&str| {
        let text = OPEN.iter().fold((*text).to_owned(), |text, (name, value)| text.replace(name, value));
        let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        config["linux"]["seccomp"] = serde_json::from_str(PROFILE).expect("JSON");
        let text = config.to_string();
        assert!(!text.contains('@'), "something is open still: {text}");
        let spec = serde_json::from_str(&text).expect("a spec");
        assert_eq!(plan(&spec, Driver::Cgroupfs).err(), None, "{text}");
        text
    };
    CONFIGS.iter().map(fill).collect()
}

/// One input may take this long, in a build without optimisation on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tries inputs for as long as asked; each has a seed of its own.
fn fuzz(mut one: impl FnMut(&mut Mutator)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let end = Instant::now() + Duration::from_secs(number("RT_FUZZ_SECONDS").unwrap_or(1));
    let first = number("RT_FUZZ_SEED").unwrap_or(1);
    let mut seed = first;
    while Instant::now() < end || seed < first + 200 {
        let begin = Instant::now();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one(&mut Mutator::new(seed))));
        assert!(outcome.is_ok(), "seed {seed}: it panicked, see above");
        assert!(begin.elapsed() < PATIENCE, "seed {seed}: it took {:?}", begin.elapsed());
        seed += 1;
    }
    println!("{} inputs, from seed {first}", seed - first);
}

fn plan(spec: &Spec, driver: Driver) -> Result<String, String> {
    let plan =
        Plan::new("fuzz", Path::new("/bundle"), spec, Some(driver)).map_err(|error| error.to_string())?;
    serde_json::to_string(&plan).map_err(|error| panic!("a plan is no JSON: {error}"))
}

#[test]
fn config() {
    let (mut planned, configs) = (0, configs());
    fuzz(|random| {
        let at = random.below(configs.len());
        let text = random.json(&configs[at]);
        let Ok(spec) = serde_json::from_slice::<Spec>(&text) else { return };
        let driver = random.pick(&[Driver::Cgroupfs, Driver::Systemd]);
        let made = plan(&spec, driver);
        assert_eq!(made, plan(&spec, driver), "the same spec, another plan");
        planned += usize::from(made.is_ok());
    });
    assert!(planned > 0, "no input came as far as a plan: nothing was tried");
}

#[test]
fn parts() {
    let configs: Vec<serde_json::Value> =
        configs().iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
    fuzz(|random| {
        let config = &configs[random.below(configs.len())];
        let process = random.json(&config["process"].to_string());
        if let Ok(process) = serde_json::from_slice::<Process>(&process) {
            let written = serde_json::to_vec(&process).expect("a process as JSON");
            let read: Process = serde_json::from_slice(&written).expect("what was written");
            assert_eq!(written, serde_json::to_vec(&read).expect("JSON"), "the record changes a process");
        }
        let resources = random.json(&config["linux"]["resources"].to_string());
        if let Ok(resources) = serde_json::from_slice::<Resources>(&resources) {
            let written = serde_json::to_vec(&resources).expect("resources as JSON");
            let read: Resources = serde_json::from_slice(&written).expect("what was written");
            assert_eq!(written, serde_json::to_vec(&read).expect("JSON"), "the record changes resources");
        }
    });
}

#[test]
fn cli() {
    const LINES: [&str; 8] = [
        "rt run --bundle /b --detach --pid-file p id",
        "rt --root /r --log l --log-format json create --console-socket s --no-pivot id -b b",
        "rt exec --process p.json --tty -d id sh -c x",
        "rt exec -u 1:2 -e A=B --cap CAP_SYS_ADMIN --cwd / id ls",
        "rt kill --all id SIGRTMIN+3",
        "rt update --memory 1 --cpu-quota=-1 --pids-limit 5 -r - id",
        "rt delete -f id",
        "rt run --overlay=/a:/b --overlay-upper d --share x=net,pid ./b --id=y",
    ];
    fuzz(|random| {
        let line = random.pick(&LINES);
        let words: Vec<OsString> = random.words(line).into_iter().map(OsString::from_vec).collect();
        let said = |words: &[OsString]| format!("{:?}", runtime::cli::parse(words.iter().cloned()).request);
        assert_eq!(said(&words), said(&words), "{words:?}");
    });
}

#[test]
fn link() {
    fuzz(|random| {
        let error = runtime::Error::os(libc::EPERM, "mount proc").cure("be root").during("make mounts");
        let seeds = [Message::Go, Message::Committed, Message::Born(7), Message::Failed(3, error)];
        let bytes = seeds[random.below(seeds.len())].encode();
        let bytes = random.bytes(bytes);
        if let Ok(message) = Message::decode(&bytes, Vec::new(), None) {
            let again = Message::decode(&message.encode(), Vec::new(), None).expect("what was encoded");
            assert_eq!(format!("{message:?}"), format!("{again:?}"), "{bytes:?}");
        }
    });
}

//! The cgroup on a real host: made, limited, refused, changed, removed. Each test has a mount namespace of its own, so that both
//! kinds of host are here: cgroup2 at /sys/fs/cgroup, and cgroup v1 there with cgroup2 elsewhere.
//!
//! A test that needs what this host lacks prints `SKIP name: reason`.

#![allow(clippy::unwrap_used, reason = "the functions of a test may panic too")]

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use runtime::parent::cgroup::{Cgroup, Site, remove};
use runtime::parent::occupants::Occupants;
use runtime::plan::cgroup::{CgroupPlan, Driver, Purpose, Request, plan};
use runtime::spec::Resources;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(10);

macro_rules! skip {
    ($name:expr, $($reason:tt)*) => {{
        println!("SKIP {}: {}", $name, format!($($reason)*));
        return;
    }};
}

/// A cgroup2 tree at /sys/fs/cgroup, for this thread only. `None` without the right to.
struct Host {
    name: String,
}

impl Host {
    fn unified() -> Option<Self> {
        let host = Self::private()?;
        mount(Some("none"), "/sys/fs/cgroup", Some("cgroup2"), MsFlags::empty(), None::<&str>).ok()?;
        Some(host)
    }

    /// The host's own mounts, as a copy.
    fn private() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        unshare(CloneFlags::CLONE_NEWNS).ok()?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>).ok()?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Some(Self { name: format!("rt-cgroup-test-{}-{count}", std::process::id()) })
    }

    fn plan(&self, below: &str, resources: Value) -> CgroupPlan {
        planned(&format!("/{}{below}", self.name), resources, Purpose::Create)
    }

    fn path(&self, below: &str) -> PathBuf {
        Path::new("/sys/fs/cgroup").join(format!("{}{below}", self.name))
    }
}

fn planned(path: &str, resources: Value, purpose: Purpose<'_>) -> CgroupPlan {
    let resources: Resources = serde_json::from_value(resources).unwrap();
    plan(&Request {
        id: "test",
        cgroups_path: Some(path),
        resources: Some(&resources),
        annotations: None,
        driver: Driver::Cgroupfs,
        purpose,
    })
    .unwrap()
}

fn create(plan: &CgroupPlan) -> Cgroup {
    let cgroup = Site::find(plan).unwrap().create(plan).unwrap();
    cgroup.apply(plan).unwrap();
    cgroup
}

fn refusal(plan: &CgroupPlan) -> String {
    let made = Site::find(plan).and_then(|site| site.create(plan));
    let made = made.and_then(|cgroup| cgroup.apply(plan).map(|_| cgroup));
    made.expect_err("a refusal").to_string()
}

/// A shell that waits for a line, in the cgroup; then it does what it was told.
struct Shell(Child);

impl Shell {
    fn inside(cgroup: &Cgroup, script: &str) -> Self {
        let shell = Self::outside(script);
        cgroup.attach(shell.0.id().cast_signed()).unwrap();
        shell
    }

    fn outside(script: &str) -> Self {
        let script = format!("read go; {script}");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn says(mut self) -> String {
        self.0.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        text.trim().replace('\n', " ")
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const TRY: &str = "for d in null zero kmsg; do if head -c0 <>/dev/$d; then echo $d; fi; done";

fn offered(controller: &str) -> bool {
    let text = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    text.split_whitespace().any(|name| name == controller)
}

/// The controller gets enabled at the root, for all: one test at a time, and as it was afterwards.
struct Hugetlb {
    _one: std::sync::MutexGuard<'static, ()>,
    was_enabled: bool,
}

impl Hugetlb {
    fn lock() -> Self {
        static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let enabled = std::fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control").unwrap_or_default();
        Self { _one: one, was_enabled: enabled.split_whitespace().any(|name| name == "hugetlb") }
    }
}

impl Drop for Hugetlb {
    fn drop(&mut self) {
        if !self.was_enabled {
            // Refused while another's cgroup needs it.
            let _ = std::fs::write("/sys/fs/cgroup/cgroup.subtree_control", "-hugetlb");
        }
    }
}

#[test]
fn it_is_made_with_what_lies_above_and_removed_with_that() {
    let Some(host) = Host::unified() else { skip!("made", "needs root") };
    let plan = host.plan("/a/b/c", json!({}));
    let site = Site::find(&plan).unwrap();
    let record = site.record(None);
    assert_eq!(record.path, host.path("/a/b/c"));
    let cgroup = site.create(&plan).unwrap();
    assert_eq!(cgroup.apply(&plan).unwrap(), [""; 0]);
    cgroup.keep();
    // What the container made, and somebody who is still in there.
    std::fs::create_dir_all(host.path("/a/b/c/x/y")).unwrap();
    let shell = Shell::outside("");
    std::fs::write(host.path("/a/b/c/x/cgroup.procs"), shell.0.id().to_string()).unwrap();
    remove(&record, PATIENCE).unwrap();
    assert!(!host.path("").exists());
    remove(&record, PATIENCE).unwrap();
}

#[test]
fn what_others_made_above_stays() {
    let Some(host) = Host::unified() else { skip!("others", "needs root") };
    std::fs::create_dir(host.path("")).unwrap();
    let plan = host.plan("/a/b", json!({}));
    let second = host.plan("/a/c", json!({}));
    let (one, two) = (create(&plan), create(&second));
    drop(one);
    assert!(host.path("/a/c").exists());
    drop(two);
    assert!(!host.path("/a").exists() && host.path("").exists());
    std::fs::remove_dir(host.path("")).unwrap();
}

#[test]
fn one_that_is_given_up_takes_its_processes_along() {
    let Some(host) = Host::unified() else { skip!("given-up", "needs root") };
    let cgroup = create(&host.plan("/a", json!({})));
    let mut shell = Shell::inside(&cgroup, "echo alive");
    drop(cgroup);
    assert!(!host.path("").exists());
    assert!(!shell.0.wait().unwrap().success());
}

#[test]
fn a_host_with_controllers_of_v1_is_used_as_it_is() {
    let Some(host) = Host::private() else { skip!("hybrid", "needs root") };
    if !Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists() {
        skip!("hybrid", "cgroup2 is not at /sys/fs/cgroup/unified here");
    }
    let plan = host.plan("/a", json!({}));
    let cgroup = create(&plan);
    let shell = Shell::inside(&cgroup, TRY);
    let own = format!("/sys/fs/cgroup/unified/{}/a", host.name);
    assert_eq!(
        std::fs::read_to_string(format!("{own}/cgroup.procs")).unwrap().trim(),
        shell.0.id().to_string()
    );
    assert_eq!(shell.says(), "null zero");
    drop(cgroup);
    assert!(!Path::new(&own).exists());
}

#[test]
fn a_host_without_cgroup2_is_told_the_cure() {
    let Some(host) = Host::private() else { skip!("none", "needs root") };
    while umount2("/sys/fs/cgroup/unified", MntFlags::MNT_DETACH).is_ok() {}
    mount(Some("none"), "/sys/fs/cgroup", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    let error = Site::find(&host.plan("", json!({}))).unwrap_err().to_string();
    assert_eq!(
        error,
        "find a cgroup2 file system: none is mounted (mount one: `mount -t cgroup2 none /sys/fs/cgroup`, or boot with systemd.unified_cgroup_hierarchy=1)"
    );
}

#[test]
fn one_in_use_is_refused_and_left_alone() {
    let Some(host) = Host::unified() else { skip!("in-use", "needs root") };
    let cgroup = create(&host.plan("", json!({})));
    let mut shell = Shell::inside(&cgroup, "echo alive");
    let error = refusal(&host.plan("", json!({})));
    assert!(error.contains("it is there and has processes (another container uses it"), "{error}");
    assert!(shell.0.try_wait().unwrap().is_none());
    drop(shell);
    let occupants = Occupants::of(&host.path("")).unwrap().unwrap();
    occupants.wait_empty(PATIENCE).unwrap();
    occupants.freeze(PATIENCE).unwrap();
    let error = refusal(&host.plan("", json!({})));
    assert!(error.contains("it is there and frozen"), "{error}");
    occupants.thaw(PATIENCE).unwrap();
    // Empty and thawed it may be used, and when that is given up it stays.
    drop(create(&host.plan("", json!({}))));
    assert!(host.path("").exists());
    drop(cgroup);
    assert!(!host.path("").exists());
}

#[test]
fn only_devices_that_are_allowed_can_be_opened() {
    let Some(host) = Host::unified() else { skip!("devices", "needs root") };
    let kmsg = json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw" });
    for (rules, expected) in [
        (json!([]), "null zero"),
        (json!([kmsg]), "null zero kmsg"),
        (json!([{ "allow": true }]), "null zero kmsg"),
        (json!([{ "allow": true }, { "allow": false, "type": "c", "major": 1, "access": "w" }]), "null zero"),
    ] {
        let cgroup = create(&host.plan("", json!({ "devices": rules })));
        assert_eq!(Shell::inside(&cgroup, TRY).says(), expected, "{rules}");
    }
}

/// The kernel refuses what can't be reached and what it can't follow.
#[test]
fn the_kernel_takes_every_program() {
    let Some(_host) = Host::unified() else { skip!("verifier", "needs root") };
    let mut seed = 1u64;
    let mut pick = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % n
    };
    for _ in 0..200 {
        let rules: Vec<Value> = (0..pick(9))
            .map(|_| {
                let kind = ["a", "b", "c"][pick(3) as usize];
                let access = ["r", "w", "rw", "rwm"][pick(4) as usize];
                let number = |n: u64| [-1, -1, 1, 3, 5, 229][n as usize];
                let (major, minor) = (number(pick(6)), number(pick(6)));
                json!({ "allow": pick(2) == 0, "type": kind, "major": major, "minor": minor, "access": access })
            })
            .collect();
        let plan = planned("/x", json!({ "devices": rules }), Purpose::Create);
        let program = plan.devices.unwrap();
        let loaded = runtime::sys::bpf::load_device_program(program.instructions(), c"test");
        assert!(loaded.is_ok(), "{loaded:?}: {rules:?}");
    }
}

#[test]
fn an_update_replaces_the_device_rules() {
    let Some(host) = Host::unified() else { skip!("devices-update", "needs root") };
    let cgroup = create(&host.plan("", json!({})));
    let again = Cgroup::open(&cgroup.record(None)).unwrap().unwrap();
    let update = |resources| {
        let plan = planned(&format!("/{}", host.name), resources, Purpose::Update(None));
        again.update(&plan).unwrap();
        Shell::inside(&cgroup, TRY).says()
    };
    let kmsg = json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw" });
    assert_eq!(update(json!({})), "null zero");
    assert_eq!(update(json!({ "devices": [kmsg] })), "null zero kmsg");
    assert_eq!(update(json!({ "devices": [{ "allow": false }] })), "null zero");
    assert_eq!(update(json!({ "devices": [{ "allow": true }] })), "null zero kmsg");
    assert_eq!(update(json!({ "devices": [{ "allow": false }] })), "null zero");
}

#[test]
fn a_limit_without_its_controller_is_an_error_with_the_cure() {
    let Some(host) = Host::unified() else { skip!("missing", "needs root") };
    for (controller, v1, resources, limit) in [
        ("memory", "memory", json!({ "memory": { "limit": 1 << 26 } }), "memory.limit"),
        ("cpu", "cpu", json!({ "cpu": { "quota": 50000 } }), "cpu.quota"),
        ("pids", "pids", json!({ "pids": { "limit": 5 } }), "pids.limit"),
        ("cpuset", "cpuset", json!({ "cpu": { "cpus": "0" } }), "cpu.cpus"),
        (
            "io",
            "blkio",
            json!({ "blockIO": { "throttleReadBpsDevice": [{ "major": 8, "minor": 0, "rate": 1 }] } }),
            "blockIO.throttleReadBpsDevice",
        ),
    ] {
        if offered(controller) {
            println!("SKIP missing {controller}: cgroup2 has it here");
            continue;
        }
        let error = refusal(&host.plan("", resources));
        assert_eq!(
            error,
            format!(
                "limit linux.resources.{limit}: the {controller} controller is used by cgroup v1 on this host, so it is missing at /sys/fs/cgroup (boot with systemd.unified_cgroup_hierarchy=1 cgroup_no_v1={v1})"
            )
        );
        assert!(!host.path("").exists());
    }
}

#[test]
fn what_only_weighs_or_lifts_does_without_its_controller() {
    let Some(host) = Host::unified() else { skip!("weights", "needs root") };
    if ["cpu", "io", "memory", "pids"].into_iter().any(offered) {
        skip!("weights", "cgroup2 has the controllers here");
    }
    let plan = host.plan(
        "",
        json!({
            "cpu": { "shares": 512, "quota": -1 },
            "blockIO": { "weight": 100 },
            "memory": { "limit": -1 },
            "pids": { "limit": -1 },
            "unified": { "memory.oom.group": "1" },
        }),
    );
    let cgroup = Site::find(&plan).unwrap().create(&plan).unwrap();
    let warnings = cgroup.apply(&plan).unwrap();
    let limits: Vec<_> = warnings.iter().map(|text| text.split(':').next().unwrap()).collect();
    assert_eq!(
        limits,
        [
            "limit linux.resources.blockIO.weight",
            "limit linux.resources.cpu.shares",
            "limit linux.resources.unified.memory.oom.group"
        ],
        "{warnings:?}"
    );
}

#[test]
fn huge_pages_are_limited_on_every_level() {
    let Some(host) = Host::unified() else { skip!("hugetlb", "needs root") };
    let _restored = Hugetlb::lock();
    if !offered("hugetlb") {
        skip!("hugetlb", "cgroup2 has no hugetlb controller here");
    }
    let limits = json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": 4194304 }] });
    let cgroup = create(&host.plan("/a/b", limits.clone()));
    let max = |below: &str| std::fs::read_to_string(host.path(below).join("hugetlb.2MB.max")).unwrap();
    assert_eq!(max("/a/b").trim(), "4194304");
    // An update may need what nobody needed before.
    let plain = create(&host.plan("/c/d", json!({})));
    let update = planned(&format!("/{}/c/d", host.name), limits.clone(), Purpose::Update(None));
    plain.update(&update).unwrap();
    assert_eq!(max("/c/d").trim(), "4194304");
    drop(plain);
    // A process on the way is in the way.
    let above = create(&host.plan("/e", json!({})));
    let _shell = Shell::inside(&above, "");
    let error = refusal(&host.plan("/e/f", limits));
    let place = host.path("/e");
    assert_eq!(
        error,
        format!(
            "limit linux.resources.hugepageLimits: the hugetlb controller can't be enabled below {}, which has processes of its own (move them to a cgroup below it, or name another linux.cgroupsPath)",
            place.display()
        )
    );
    assert!(!place.join("f").exists());
    drop((above, cgroup));
    assert!(!host.path("").exists());
}

#[test]
fn a_page_size_that_the_kernel_lacks_is_an_error() {
    let Some(host) = Host::unified() else { skip!("page-size", "needs root") };
    let _restored = Hugetlb::lock();
    if !offered("hugetlb") {
        skip!("page-size", "cgroup2 has no hugetlb controller here");
    }
    let limit = json!({ "hugepageLimits": [{ "pageSize": "4MB", "limit": 1 }] });
    let error = refusal(&host.plan("", limit));
    assert!(error.contains("hugetlb.4MB.max, though the hugetlb controller is there"), "{error}");
}

#[test]
fn a_delegated_one_belongs_to_the_container_but_not_its_limits() {
    let Some(host) = Host::unified() else { skip!("delegate", "needs root") };
    let cgroup = create(&host.plan("", json!({})));
    cgroup.delegate(1234).unwrap();
    let owner = |file: &str| std::fs::metadata(host.path("").join(file)).unwrap().uid();
    assert_eq!(["", "cgroup.procs", "cgroup.subtree_control"].map(owner), [1234; 3]);
    assert_eq!(["cgroup.freeze", "cgroup.max.depth", "cgroup.kill"].map(owner), [0; 3]);
}

#[test]
fn one_that_is_gone_is_not_opened() {
    let Some(host) = Host::unified() else { skip!("gone", "needs root") };
    let plan = host.plan("", json!({}));
    let record = Site::find(&plan).unwrap().record(None);
    assert!(Cgroup::open(&record).unwrap().is_none());
    let cgroup = create(&plan);
    assert_eq!(Cgroup::open(&record).unwrap().unwrap().oom_kills(), 0);
    drop(cgroup);
}

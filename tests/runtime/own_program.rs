//! The runtime's own executable, out of a container's reach: no process that a container can look at runs or maps the file of the host, so
//! that nobody inside can write to it, nor hold up by a lease whoever opens it.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};
use tests::*;

/// What an attacker names to be run as the runtime: in a script, in a chain of them, as a loader, directly.
fn ourselves(bundle: &mut Bundle) -> Vec<String> {
    let script = |bundle: &mut Bundle, path: &str, line: &str| {
        bundle.file(path, &format!("#!{line}\n")).mode(path, 0o755);
        path.to_owned()
    };
    bundle.link("/self", "/proc/self/exe");
    vec![
        script(bundle, "/script", "/proc/self/exe --log=/fifo"),
        script(bundle, "/thread", "/proc/thread-self/exe --log=/fifo"),
        script(bundle, "/one", "/proc/1/exe --log=/fifo"),
        script(bundle, "/chain", "/script"),
        script(bundle, "/linked", "/self --log=/fifo"),
        "/proc/self/exe".to_owned(),
        "/self".to_owned(),
        "/proc/self/task/1/exe".to_owned(),
    ]
}

/// A container's root filesystem with a FIFO that nobody reads.
fn with_fifo(case: &Case) -> Bundle {
    let bundle = case.bundle();
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    nix::unistd::mkfifo(&bundle.host_path("/fifo"), mode).expect("make a FIFO");
    bundle
}

/// An ELF program with one header, that of its loader; laid out for 64 bits, whatever its class byte says.
fn with_loader(class: u8, loader: &str) -> Vec<u8> {
    let mut bytes = vec![0x7f, b'E', b'L', b'F', class, 1, 1];
    bytes.resize(16, 0);
    // ET_DYN, the machine of the probe, version.
    bytes.extend(3_u16.to_le_bytes());
    bytes.extend(std::fs::read(probe()).expect("read the probe")[18..20].iter());
    bytes.extend(1_u32.to_le_bytes());
    // Entry, program headers, section headers; flags; sizes and numbers.
    bytes.extend([0_u64, 64, 0].iter().flat_map(|number| number.to_le_bytes()));
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend([64_u16, 56, 1, 0, 0, 0].iter().flat_map(|number| number.to_le_bytes()));
    // PT_INTERP, readable; where, and how long.
    bytes.extend([3_u32, 4].iter().flat_map(|number| number.to_le_bytes()));
    let length = loader.len() as u64 + 1;
    bytes.extend([120, 0, 0, length, length, 1].iter().flat_map(|number: &u64| number.to_le_bytes()));
    bytes.extend(loader.as_bytes());
    bytes.push(0);
    bytes
}

#[test]
fn the_loader_of_a_program_is_not_the_runtime() {
    unless!("crun", "it looks at no loader");
    unless!("runc", "it looks at no loader");
    let case = case!();
    let victim = Victim::new(&case);
    let mut bundle = with_fifo(&case);
    ourselves(&mut bundle);
    let mut names = Vec::new();
    for (at, loader) in ["/proc/self/exe", "/proc/thread-self/exe", "/proc/1/exe", "/self"].iter().enumerate()
    {
        for class in [1, 2] {
            let name = format!("/program{at}{class}");
            std::fs::write(bundle.host_path(&name), with_loader(class, loader)).expect("write");
            bundle.mode(&name, 0o755);
            names.push(name);
        }
    }
    bundle.file("/indirect", "#!/program02\n").mode("/indirect", 0o755);
    names.push("/indirect".to_owned());
    names.extend(["/script", "/thread", "/one", "/chain", "/linked"].map(str::to_owned));
    bundle.args(["/probe", "sleep"]);
    let container = victim.start(&bundle);
    for name in &names {
        // Seen from where it is looked for, /proc/self is not there.
        let output = victim.exec(&container, &[], &[name, "--version"]).run().exits(255);
        let why = ["permission denied", "loader, is missing"];
        assert!(why.iter().any(|why| output.stderr.contains(why)), "{output}");
    }
    for name in &names {
        let mut second = with_fifo(&case);
        ourselves(&mut second);
        std::fs::copy(bundle.host_path("/program02"), second.host_path("/program02")).expect("copy");
        std::fs::copy(bundle.host_path(name), second.host_path(name)).expect("copy");
        second.args([name.as_str(), "--version"]);
        victim.run(&second).fails(&["permission denied"]);
    }
    // A loader that is a file is the kernel's business.
    std::fs::write(bundle.host_path("/usual"), with_loader(2, "/probe")).expect("write");
    bundle.mode("/usual", 0o755);
    let usual = victim.exec(&container, &[], &["/usual", "exit", "0"]).run();
    assert!(!usual.stderr.contains("permission denied"), "{usual}");
    victim.is_unharmed();
}

/// Whether a process runs or maps the victim's file, by whatever mount.
fn shows(pid: i32, victim: &Victim<'_>) -> Option<String> {
    let identity = victim.identity();
    let exe = std::fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    if format!("{}:{}", exe.dev(), exe.ino()) == identity {
        return Some(format!("/proc/{pid}/exe is the runtime's file"));
    }
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let (_, inode) = identity.split_once(':')?;
    let mapped = maps.lines().find(|line| {
        line.split_whitespace().nth(4) == Some(inode) && line.contains(&*victim.runtime().to_string_lossy())
    });
    mapped.map(|line| format!("/proc/{pid}/maps: {line}"))
}

fn children(pid: i32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

#[test]
fn a_container_that_runs_the_runtime_does_not_run_its_file() {
    let case = case!();
    let victim = Victim::new(&case);
    let mut hits = Vec::new();
    let names = ourselves(&mut with_fifo(&case));
    for name in names {
        let mut bundle = with_fifo(&case);
        ourselves(&mut bundle);
        bundle.args([name.as_str(), "--log=/fifo", "list"]);
        bundle.write();
        let create = victim.call(["create", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).run();
        if create.code() != 0 {
            continue;
        }
        let container = Running::new(&case, bundle.id(), victim.call(["state", bundle.id()]));
        // Created, it can be looked at by whoever is let in.
        hits.extend(shows(container.pid(), &victim).map(|how| format!("{name}, created: {how}")));
        let _ = victim.call(["start", bundle.id()]).run();
        // It hangs at the FIFO, or has ended.
        hits.extend(shows(container.pid(), &victim).map(|how| format!("{name}, started: {how}")));
    }
    victim.is_unharmed();
    assert!(hits.is_empty(), "{}", hits.join("\n"));
}

#[test]
fn an_exec_that_runs_the_runtime_does_not_run_its_file() {
    let case = case!();
    let victim = Victim::new(&case);
    let mut bundle = with_fifo(&case);
    let names = ourselves(&mut bundle);
    bundle.args(["/probe", "sleep"]);
    let container = victim.start(&bundle);
    let mut hits = Vec::new();
    for name in names {
        let call = victim.exec(&container, &[], &[&name, "--log=/fifo", "list"]);
        let mut exec = call.spawn();
        // Until it has come to the FIFO or to its end.
        let end = Instant::now() + Duration::from_millis(300);
        while !exec.ended() && Instant::now() < end {
            for child in children(exec.pid()) {
                hits.extend(shows(child, &victim).map(|how| format!("{name}: {how}")));
            }
        }
        for child in children(exec.pid()) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL);
        }
        exec.end(nix::sys::signal::Signal::SIGTERM);
    }
    hits.sort();
    hits.dedup();
    victim.is_unharmed();
    assert!(hits.is_empty(), "{}", hits.join("\n"));
}

/// The attack on PID 1, by an exec that nobody waits for; what it said.
fn usurp(case: &Case, victim: &Victim<'_>, container: &Running<'_>) -> String {
    let file = case.dir().join("pid");
    let options = ["--detach", "--pid-file", &file.to_string_lossy()];
    let mut exec = victim.exec(container, &options, &["/probe", "usurp", "2", "1"]).spawn();
    until("the exec is made", || exec.ended().then_some(()));
    let pid = std::fs::read_to_string(&file).expect("the pid file").parse().expect("a pid");
    container.wait_exit(pid);
    format!("{}{}", exec.stdout(), exec.stderr())
}

// CVE-2019-5736 by way of an interpreter: PID 1 is the runtime, whom a process of the same user may trace.
#[test]
fn a_container_that_runs_the_runtime_can_not_overwrite_it() {
    let case = case!();
    if !cfg!(target_arch = "x86_64") {
        skip!("the attack is written for x86-64");
    }
    let victim = Victim::new(&case);
    for name in ["/script", "/chain", "/linked"] {
        let mut bundle = with_fifo(&case);
        ourselves(&mut bundle);
        bundle.args([name]);
        bundle.write();
        let create = victim.call(["create", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).run();
        if create.code() != 0 {
            continue;
        }
        let container = Running::new(&case, bundle.id(), victim.call(["state", bundle.id()]));
        let started = victim.call(["start", bundle.id()]).run();
        if started.code() == 0 {
            let said = usurp(&case, &victim, &container);
            assert!(!said.contains("wrote: Ok"), "{name}: {said}");
            assert!(said.contains("not opened") || said.contains("wrote: Err"), "{name}: {said}");
        }
        container.delete();
    }
    victim.is_unharmed();
}

/// While somebody inside does `verb` with every executable that he gets to see, the runtime is called; gives how long its calls took at most.
#[track_caller]
fn besieged(case: &Case, victim: &Victim<'_>, verb: &str, capabilities: &[&str]) -> (Duration, String) {
    let time = seconds(4).to_string();
    let mut bundle = with_fifo(case);
    let all: Vec<&str> = config::DEFAULT_CAPABILITIES.iter().chain(capabilities).copied().collect();
    bundle.capabilities(&all).args(["/probe", verb, &time]);
    let names = ourselves(&mut bundle);
    let container = victim.start(&bundle);
    container.wait_for_output("looking");
    let mut slowest = Duration::ZERO;
    let mut round = 0;
    while !container.stdout().contains(" seen") {
        // One that hangs at the FIFO, so that there is time to look at it.
        let name = &names[round % names.len()];
        round += 1;
        let mut exec = victim.exec(&container, &[], &[name, "--log=/fifo", "list"]).spawn();
        within(Duration::from_millis(50), || exec.ended().then_some(()));
        for child in children(exec.pid()) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL);
        }
        let _ = exec.end(nix::sys::signal::Signal::SIGTERM);
        let begin = Instant::now();
        victim.call(["state", bundle.id()]).deadline(Duration::from_secs(60)).run();
        slowest = slowest.max(begin.elapsed());
    }
    (slowest, container.stdout())
}

#[test]
fn leases_of_a_container_hold_up_no_call_of_the_runtime() {
    let case = case!();
    let victim = Victim::new(&case);
    for capabilities in [&[][..], &["CAP_SYS_PTRACE"], &["CAP_SYS_PTRACE", "CAP_LEASE"]] {
        let (slowest, said) = besieged(&case, &victim, "lease", capabilities);
        let leased = format!("leased {}", victim.identity());
        assert!(!said.contains(&leased), "with {capabilities:?}: a lease on the host's file: {said}");
        assert!(slowest < Duration::from_secs(3), "with {capabilities:?}: a call took {slowest:?}: {said}");
    }
    victim.is_unharmed();
}

#[test]
fn executables_that_a_container_sees_can_not_be_written() {
    let case = case!();
    let victim = Victim::new(&case);
    for capabilities in [&[][..], &["CAP_SYS_PTRACE"]] {
        let (_, said) = besieged(&case, &victim, "overwrite", capabilities);
        assert!(!said.contains("Ok("), "with {capabilities:?}: {said}");
    }
    victim.is_unharmed();
}

/// A tmpfs that is gone with the value.
struct Tmpfs(std::path::PathBuf);

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

// Who calls the runtime may say what he likes in its environment: words by which it once knew its own copy.
#[test]
fn runtime_on_a_read_only_filesystem_is_copied_whatever_its_environment_says() {
    let case = case!();
    for whole in [true, false] {
        let room = Tmpfs(case.dir().join(format!("room-{whole}")));
        std::fs::create_dir(&room.0).expect("make a directory");
        let mount = |flags: nix::mount::MsFlags| {
            nix::mount::mount(Some("room"), &room.0, Some("tmpfs"), flags, None::<&str>)
                .expect("mount a tmpfs");
        };
        mount(nix::mount::MsFlags::empty());
        let runtime = room.0.join("rt");
        copy_program(Runtime::under_test().path(), &runtime);
        // The filesystem, or but the mount.
        let bind = if whole { nix::mount::MsFlags::empty() } else { nix::mount::MsFlags::MS_BIND };
        mount(nix::mount::MsFlags::MS_REMOUNT | nix::mount::MsFlags::MS_RDONLY | bind);
        let file = std::fs::metadata(&runtime).expect("the runtime");
        let identity = format!("{}:{}", file.dev(), file.ino());
        for (at, mark) in ["", "1", &identity].iter().enumerate() {
            let call = |args: &[&str]| {
                let call = case.program(&runtime).arg("--root").arg(case.state_root()).args(args);
                if mark.is_empty() { call } else { call.env("_RT_SEALED", mark) }
            };
            let mut bundle = case.bundle();
            bundle.args(["/probe", "sleep"]).write();
            let create = call(&["create", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
            let container = Running::new(&case, bundle.id(), create);
            let exe = std::fs::metadata(format!("/proc/{}/exe", container.pid())).expect("its executable");
            assert_ne!(
                format!("{}:{}", exe.dev(), exe.ino()),
                identity,
                "{whole}, {at}: the file of the host"
            );
            assert_eq!(exe.nlink(), 0, "{whole}, {at}: it has a name");
            call(&["start", bundle.id()]).run().ok();
            let mapped = format!("/proc/{}/environ", container.pid());
            assert!(!String::from_utf8_lossy(&std::fs::read(mapped).expect("read")).contains("_RT_SEALED"));
            container.delete();
        }
    }
}

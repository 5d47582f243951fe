//! Working directories, programs, interpreters and hooks by way of magic links: `/proc/self/fd/N` and its kin, `/proc/self/exe`.
//!
//! The rule: none is followed on behalf of a container, and where the kernel follows one (`#!`, ELF interpreters) it leads to nothing of the
//! host. Which descriptors a caller has differs, so each number from 3 to 80 is tried.

use tests::*;

/// Ways to a descriptor of one's own.
const KIN: [&str; 6] = [
    "/proc/self/fd/{}",
    "/proc/thread-self/fd/{}",
    "/proc/1/fd/{}",
    "/dev/fd/{}",
    "/proc/self/root/proc/self/fd/{}",
    "/proc/self/cwd/proc/self/fd/{}",
];

/// Ways that need no number.
const PLAIN: [&str; 8] = [
    "/proc/self/cwd",
    "/proc/self/root",
    "/proc/self/root/..",
    "/proc/1/root",
    "/proc/1/cwd",
    "/proc/thread-self/cwd",
    "/proc/self/map_files",
    "/proc/self/task",
];

fn number(way: &str, fd: i32) -> String {
    way.replace("{}", &fd.to_string())
}

/// All numbers for the first of these ways, every second one for its kin.
fn ways() -> impl Iterator<Item = String> {
    let all = (3..=80).map(|fd| number(KIN[0], fd));
    let kin = (3..=80).step_by(2).map(|fd| number(KIN[fd as usize % KIN.len()], fd));
    all.chain(kin).chain(PLAIN.map(str::to_owned))
}

/// Ways up from there to the top of wherever that is.
const UP: &str = "/../../../../../../../../../../..";

/// Says which of many attempts got through.
#[derive(Default)]
struct Attempts {
    made: usize,
    hits: Vec<String>,
}

impl Attempts {
    /// What `probe reach` or `probe hit` said inside.
    fn judge(&mut self, way: &str, output: &Output) {
        self.made += 1;
        let said = output.stdout.lines().filter(|line| line.starts_with("hit"));
        self.hits.extend(said.map(|line| format!("{way}: {line}")));
        if output.code() == 42 {
            self.hits.push(format!("{way}: a program of the host ran"));
        }
    }

    /// The same where nothing may even start.
    fn refuse(&mut self, way: &str, output: &Output) {
        self.judge(way, output);
        if output.code() == 0 && Runtime::under_test().is("rt") {
            self.hits.push(format!("{way}: not refused"));
        }
    }

    #[track_caller]
    fn none_got_through(&self) {
        assert!(self.made > 0, "nothing was tried");
        assert!(self.hits.is_empty(), "{} attempts, hits:\n{}", self.made, self.hits.join("\n"));
    }
}

/// A bundle whose image has /dev/fd, as images and engines have it.
fn bundle(case: &Case) -> Bundle {
    let mut bundle = case.bundle();
    bundle.directory("/work");
    bundle
}

#[test]
fn working_directory_of_a_container_is_on_no_magic_link() {
    let case = case!();
    let victim = Victim::new(&case);
    let mut attempts = Attempts::default();
    for way in ways() {
        let mut bundle = bundle(&case);
        bundle.config["process"]["cwd"] = json!(way);
        bundle.args(["/probe", "reach", &victim.marker()]);
        let output = victim.run(&bundle);
        if way.contains("/fd/") { attempts.refuse(&way, &output) } else { attempts.judge(&way, &output) }
    }
    victim.is_unharmed();
    attempts.none_got_through();
}

#[test]
fn working_directory_behind_a_link_of_the_image_is_on_no_magic_link() {
    let case = case!();
    let victim = Victim::new(&case);
    let mut attempts = Attempts::default();
    for fd in 3..=80 {
        let mut bundle = bundle(&case);
        bundle.link("/way", &number(KIN[0], fd));
        // Half of them start later, by another process.
        bundle.config["process"]["cwd"] = json!(if fd % 3 == 0 { "/way/.." } else { "/way" });
        bundle.args(["/probe", "reach", &victim.marker()]);
        if fd % 2 == 0 {
            attempts.judge(&format!("/way to {fd}"), &victim.run(&bundle));
            continue;
        }
        bundle.write();
        let create = victim.call(["create", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).run();
        attempts.made += 1;
        if create.code() == 0 {
            let container = Running::new(&case, bundle.id(), victim.call(["state", bundle.id()]));
            let _ = victim.call(["start", bundle.id()]).run();
            container.wait_exit(container.pid());
            attempts.judge(&format!("/way to {fd}"), &create);
        }
    }
    victim.is_unharmed();
    attempts.none_got_through();
}

#[test]
fn working_directory_of_an_exec_is_on_no_magic_link() {
    let case = case!();
    let victim = Victim::new(&case);
    let mut bundle = bundle(&case);
    for fd in 3..=80 {
        bundle.link(&format!("/way{fd}"), &number(KIN[0], fd));
    }
    bundle.args(["/probe", "sleep"]);
    let container = victim.start(&bundle);
    let mut attempts = Attempts::default();
    let reach = ["/probe", "reach", &victim.marker()];
    for way in ways().chain((3..=80).map(|fd| format!("/way{fd}"))) {
        let output = victim.exec(&container, &["--cwd", &way], &reach).run();
        if way.contains("/fd/") { attempts.refuse(&way, &output) } else { attempts.judge(&way, &output) }
    }
    victim.is_unharmed();
    attempts.none_got_through();
}

/// The victim's program by way of descriptor `fd`: `what` is a path up to there.
fn through(victim: &Victim<'_>, what: &str) -> String {
    format!("{what}{UP}{}", victim.program())
}

#[test]
fn program_of_a_container_is_no_program_of_the_host() {
    let case = case!();
    let victim = Victim::new(&case);
    let mut attempts = Attempts::default();
    for way in ways() {
        let mut bundle = bundle(&case);
        bundle.args([through(&victim, &way).as_str(), "hit"]);
        attempts.refuse(&way, &victim.run(&bundle));
    }
    victim.is_unharmed();
    attempts.none_got_through();
}

#[test]
fn program_that_is_exchanged_before_the_start_is_no_program_of_the_host() {
    let case = case!();
    let victim = Victim::new(&case);
    let mut attempts = Attempts::default();
    for fd in 3..=40 {
        let mut bundle = bundle(&case);
        bundle.with_busybox().link("/program", "/bin/true").args(["/program", "hit"]);
        let container = victim.create(&bundle);
        bundle.link("/program", &through(&victim, &number(KIN[0], fd)));
        let start = victim.call(["start", bundle.id()]).run();
        attempts.made += 1;
        if container.wait_exit(container.pid()) == 42 {
            attempts.hits.push(format!("/program to {fd}: {start}"));
        }
    }
    victim.is_unharmed();
    attempts.none_got_through();
}

/// Files of an image that lead to a program of the host, and how each is called: arguments, and PATH where that is the way.
fn programs(victim: &Victim<'_>, bundle: &mut Bundle, fd: i32) -> Vec<(Vec<String>, Option<String>)> {
    let way = through(victim, &number(KIN[fd as usize % 4], fd));
    let dir = format!("{}{UP}{}", number(KIN[0], fd), victim.outside().display());
    bundle.link(&format!("/link{fd}"), &way);
    let mut call = |name: &str, line: &str| {
        let path = format!("/{name}{fd}");
        bundle.file(&path, &format!("#!{line}\n")).mode(&path, 0o755);
        vec![path]
    };
    let script = call("script", &format!("{way} hit"));
    let chain = call("chain", &format!("/script{fd}"));
    let linked = call("linked", &format!("/link{fd} hit"));
    let file = write_elf(bundle, &format!("/elf{fd}"), &way);
    let direct = vec![way, "hit".to_owned()];
    let named = vec!["program".to_owned(), "hit".to_owned()];
    let by_link = vec![format!("/link{fd}"), "hit".to_owned()];
    let plain = [direct, by_link, script, chain, linked, vec![file, "hit".to_owned()]];
    plain.into_iter().map(|args| (args, None)).chain([(named, Some(dir))]).collect()
}

/// A program whose dynamic loader is `loader`; where that exists, the kernel runs it.
fn write_elf(bundle: &Bundle, path: &str, loader: &str) -> String {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let machine: u16 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
    let (headers, start) = (64_u64, 64 + 2 * 56_u64);
    let length = loader.len() as u64 + 1;
    file.extend(3_u16.to_le_bytes()); // ET_DYN
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    file.extend([0_u64, headers, 0].map(u64::to_le_bytes).concat()); // entry, program headers, sections
    file.extend(0_u32.to_le_bytes());
    file.extend([64_u16, 56, 2, 64, 0, 0].map(u16::to_le_bytes).concat());
    // PT_INTERP, then a PT_LOAD of all that there is.
    for (kind, flags, offset, size) in [(3_u32, 4_u32, start, length), (1, 5, 0, start + length)] {
        file.extend(kind.to_le_bytes());
        file.extend(flags.to_le_bytes());
        file.extend([offset, offset, offset, size, size, 0x1000].map(u64::to_le_bytes).concat());
    }
    file.extend(loader.as_bytes());
    file.push(0);
    write_program(&bundle.host_path(path), file);
    path.to_owned()
}

#[test]
fn programs_of_an_exec_are_no_programs_of_the_host() {
    let case = case!();
    let victim = Victim::new(&case);
    let mut bundle = bundle(&case);
    let all: Vec<_> = (3..=20).flat_map(|fd| programs(&victim, &mut bundle, fd)).collect();
    bundle.args(["/probe", "sleep"]);
    let container = victim.start(&bundle);
    let mut attempts = Attempts::default();
    for (args, path) in all {
        let path = path.map(|path| format!("PATH={path}"));
        let options: Vec<&str> = path.iter().flat_map(|path| ["--env", path]).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = victim.exec(&container, &options, &args).run();
        attempts.refuse(&format!("{args:?} {path:?}"), &output);
        // The host's program as a loader dies of what it is given: that it got so far is enough.
        if args[0].starts_with("/elf") && output.code() >= 128 && output.code() < 255 {
            attempts.hits.push(format!("{args:?}: loaded: {output}"));
        }
    }
    victim.is_unharmed();
    attempts.none_got_through();
}

#[test]
fn interpreters_and_paths_of_a_container_are_no_programs_of_the_host() {
    let case = case!();
    let victim = Victim::new(&case);
    let mut attempts = Attempts::default();
    for fd in 3..=20 {
        let mut bundle = bundle(&case);
        let all = programs(&victim, &mut bundle, fd);
        let environment = bundle.config["process"]["env"].clone();
        for (args, path) in all.into_iter().skip(1) {
            bundle.config["process"]["args"] = json!(args);
            bundle.config["process"]["env"] = match &path {
                Some(path) => json!([format!("PATH={path}")]),
                None => environment.clone(),
            };
            let output = victim.run(&bundle);
            attempts.refuse(&format!("{args:?} {path:?}"), &output);
            if args[0].starts_with("/elf") && output.code() >= 128 && output.code() < 255 {
                attempts.hits.push(format!("{args:?}: loaded: {output}"));
            }
            let _ = victim.call(["delete", "--force", bundle.id()]).run();
        }
    }
    victim.is_unharmed();
    attempts.none_got_through();
}

#[test]
fn start_hook_of_a_container_is_no_program_of_the_host() {
    let case = case!();
    let victim = Victim::new(&case);
    let mut attempts = Attempts::default();
    for fd in 3..=40 {
        let mut bundle = bundle(&case);
        let way = through(&victim, &number(KIN[0], fd));
        bundle.file("/hook", &format!("#!{way} hit\n")).mode("/hook", 0o755);
        bundle.config["hooks"] = json!({ "startContainer": [{ "path": "/hook" }] });
        bundle.args(["/probe", "exit", "0"]);
        let output = victim.run(&bundle);
        attempts.made += 1;
        if bundle.host_path("/hit").exists() || output.code() == 0 {
            attempts.hits.push(format!("hook by {fd}: {output}"));
        }
    }
    victim.is_unharmed();
    attempts.none_got_through();
}

// Who is in a mount namespace writes what is at a path there, also where the root of one that joins it should be.
#[test]
fn the_root_in_a_mount_namespace_of_others_is_reached_by_no_link_of_proc() {
    only_rt!("others look the root up where they come from");
    let case = case!();
    let mut refused = 0;
    for number in 3..16 {
        for tail in ["", "/../../../../../../.."] {
            let mut joins = case.bundle();
            let path = joins.dir().join("rootfs");
            let mut lives = case.bundle();
            let namespaces = lives.config["linux"]["namespaces"].as_array_mut().expect("namespaces");
            namespaces.retain(|namespace| namespace["type"] != "pid");
            lives.directory(path.parent().and_then(std::path::Path::to_str).expect("a path"));
            lives.link(path.to_str().expect("a path"), &format!("/proc/self/fd/{number}{tail}"));
            lives.args(["/probe", "sleep"]);
            let lives = case.start(&lives);
            joins.config["mounts"] = json!([]);
            joins.config["linux"]["maskedPaths"] = json!([]);
            joins.config["linux"]["readonlyPaths"] = json!([]);
            joins.config["linux"]["namespaces"] = json!([
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount", "path": format!("/proc/{}/ns/mnt", lives.pid()) },
            ]);
            joins.args(["/bin/sh", "-c", "echo out"]);
            let output = case.run(&joins);
            assert_ne!(output.code(), 0, "by descriptor {number}{tail}: {output}");
            refused += usize::from(output.stderr.contains("symbolic links"));
            lives.delete();
        }
    }
    assert!(refused > 0, "none of these was a descriptor of rt's");
}

//! Files that `rt` writes or reads under a name in a directory that somebody else can write to: nothing of the host is followed to, nothing
//! hangs, and what strangers have stored is not acted upon.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tests::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// A file of the host that must stay as it is.
fn host_file(case: &Case) -> PathBuf {
    let path = case.dir().join("host-file");
    std::fs::write(&path, "host").expect("write");
    path
}

#[track_caller]
fn untouched(path: &Path) {
    assert_eq!(std::fs::read_to_string(path).expect("the host's file"), "host");
}

fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o644)).expect("make a FIFO");
}

/// `/probe exit 0`.
fn short(case: &Case) -> Bundle {
    let mut bundle = case.bundle();
    bundle.args(["/probe", "exit", "0"]);
    bundle.write();
    bundle
}

/// Runs it with these options before the command and after it.
fn run(case: &Case, bundle: &Bundle, global: &[&str], options: &[&str]) -> Output {
    let call = case.call(global).arg("run").args(options).arg("--bundle").arg(bundle.dir()).arg(bundle.id());
    call.deadline(PATIENCE).run()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn log_follows_no_link_and_waits_for_no_fifo() {
    unless!("runc", "it opens what is there");
    unless!("crun", "it opens what is there");
    let case = case!();
    let host = host_file(&case);
    let dir = case.dir().join("logs");
    std::fs::create_dir(&dir).expect("make a directory");
    symlink(&host, dir.join("link")).expect("make a link");
    symlink(case.dir().join("new"), dir.join("dangling")).expect("make a link");
    symlink("/proc/self/fd/1", dir.join("descriptor")).expect("make a link");
    fifo(&dir.join("fifo"));
    let device = nix::sys::stat::makedev(1, 3);
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    nix::sys::stat::mknod(&dir.join("device"), nix::sys::stat::SFlag::S_IFCHR, mode, device).expect("mknod");
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o777)).expect("let others write there");
    for (name, kind) in [
        ("link", "a symbolic link"),
        ("dangling", "a symbolic link"),
        ("descriptor", "a symbolic link"),
        ("fifo", "a FIFO"),
        ("device", "a device"),
        (".", "directory"),
    ] {
        let log = dir.join(name);
        let output = run(&case, &short(&case), &["--log", text(&log), "--debug"], &[]).exits(1);
        output.fails(&["open log", kind]);
    }
    untouched(&host);
    assert!(!case.dir().join("new").exists());
    // Root's alone, and still a container that has it as a volume can have made the node: most may make them, and open none.
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).expect("keep others out");
    let log = dir.join("device");
    run(&case, &short(&case), &["--log", text(&log)], &[]).exits(1).fails(&["open log", "a device"]);
}

/// There the host's root and every other user have one id, nobody's.
#[test]
fn link_of_another_user_is_refused_in_a_user_namespace_too() {
    only_rt!("which links are followed is its own rule");
    let case = case!();
    let (rt, home, open) = (case.dir().join("rt"), case.dir().join("home"), case.dir().join("open"));
    copy_program(Runtime::under_test().path(), &rt);
    std::fs::set_permissions(&rt, PermissionsExt::from_mode(0o755)).expect("chmod");
    for (dir, owner) in [(&home, 5001), (&open, 5002)] {
        std::fs::create_dir(dir).expect("make a directory");
        chown(dir, Some(owner), Some(owner)).expect("chown");
        symlink(&home, dir.join("way")).expect("make a link");
        std::os::unix::fs::lchown(dir.join("way"), Some(owner), Some(owner)).expect("give it away");
    }
    let call = |log: &Path| {
        let user = ["--reuid", "5001", "--regid", "5001", "--clear-groups", "unshare", "-r"];
        let call = case.program(Path::new("/usr/bin/setpriv")).args(user).arg(&rt).args(["--log", text(log)]);
        let call = call.arg("--root").arg(&home).args(["state", "none"]);
        call.env("XDG_RUNTIME_DIR", text(&home)).deadline(PATIENCE).run().exits(1)
    };
    call(&home.join("way/own")).fails(&["does not exist"]);
    call(&open.join("way/log")).fails(&["\"way\"", "others may write"]);
    // A directory for all, as /tmp is, but not that one.
    chown(&open, Some(0), Some(0)).expect("chown");
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o1777)).expect("chmod");
    call(&open.join("way/log")).fails(&["\"way\"", "others may write"]);
    assert!(home.join("own").exists() && !home.join("log").exists());
}

#[test]
fn fifo_with_a_reader_is_no_log_either() {
    only_rt!("what a log may be is its own rule");
    let case = case!();
    let path = case.dir().join("fifo");
    fifo(&path);
    let _reader = std::fs::File::options().read(true).write(true).open(&path).expect("open the FIFO");
    run(&case, &short(&case), &["--log", text(&path)], &[]).exits(1).fails(&["it is a FIFO"]);
}

#[test]
fn log_to_files_devices_and_descriptors_works() {
    let case = case!();
    let bad = |log: &str| {
        let mut call = case.call(["--log", log, "--log-format", "json", "state", "none"]);
        call = call.cwd(case.dir());
        call.deadline(PATIENCE).run().exits(1)
    };
    let new = case.dir().join("deep.log");
    bad(text(&new));
    bad(text(&new));
    let lines = std::fs::read_to_string(&new).expect("a log");
    assert_eq!(lines.lines().count(), 2, "{lines}");
    bad("beside.log");
    assert!(
        std::fs::read_to_string(case.dir().join("beside.log")).expect("a log").contains("does not exist")
    );
    // Links on the way that nobody else can have made, as /var/run is.
    let (real, link) = (case.dir().join("real"), case.dir().join("by-link"));
    std::fs::create_dir(&real).expect("make a directory");
    symlink("real", &link).expect("make a link");
    bad(text(&link.join("log")));
    assert!(real.join("log").exists());
    bad("/dev/null");
    for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1"] {
        assert!(bad(name).stdout.contains("does not exist"), "{name}");
    }
    assert!(bad("/dev/stderr").stderr.contains("does not exist"));
}

#[test]
fn link_on_the_way_that_others_could_make_is_refused() {
    only_rt!("which links are followed is its own rule");
    let case = case!();
    let (open, outside) = (case.dir().join("open"), case.dir().join("outside"));
    for dir in [&open, &outside] {
        std::fs::create_dir(dir).expect("make a directory");
    }
    symlink(&outside, open.join("way")).expect("make a link");
    let way = open.join("way");
    std::os::unix::fs::lchown(&way, Some(4242), Some(4242)).expect("give it away");
    for (mode, owner) in [(0o777, 0), (0o1777, 0), (0o775, 0), (0o755, 4242)] {
        chown(&open, Some(owner), Some(owner)).expect("chown");
        std::fs::set_permissions(&open, PermissionsExt::from_mode(mode)).expect("chmod");
        let log = way.join("log");
        run(&case, &short(&case), &["--log", text(&log)], &[]).fails(&[
            "open log",
            "\"way\"",
            "others may write",
        ]);
        let pid = way.join("pid");
        run(&case, &short(&case), &[], &["--pid-file", text(&pid)]).fails(&["pid file", "others may write"]);
    }
    assert_eq!(std::fs::read_dir(&outside).expect("the directory").count(), 0);
}

#[test]
fn pid_file_is_made_anew_whatever_lies_beside_it() {
    unless!("runc", "its draft's name is known");
    unless!("crun", "it writes to what is there");
    let case = case!();
    let host = host_file(&case);
    let dir = case.dir().join("pids");
    std::fs::create_dir(&dir).expect("make a directory");
    // Wherever the draft might be: a link or a FIFO under each number that init could get.
    let last: i32 =
        std::fs::read_to_string("/proc/sys/kernel/ns_last_pid").map_or(0, |t| t.trim().parse().unwrap_or(0));
    let most = if last > 0 { last + 2000 } else { 4000 };
    for pid in last.max(1)..most {
        let draft = dir.join(format!(".pid.{pid}"));
        if pid % 2 == 0 { symlink(&host, &draft).expect("make a link") } else { fifo(&draft) }
    }
    let pid_file = dir.join("pid");
    for round in 0..4 {
        if round == 2 {
            std::fs::remove_file(&pid_file).expect("remove the pid file");
            symlink(&host, &pid_file).expect("make a link");
        }
        run(&case, &short(&case), &[], &["--pid-file", text(&pid_file)]).ok();
        untouched(&host);
        assert!(pid_file.symlink_metadata().expect("a pid file").is_file());
        let pid = std::fs::read_to_string(&pid_file).expect("a pid file");
        assert!(pid.parse::<i32>().is_ok(), "{pid}");
    }
    let container = case.start_sleeping(&mut case.bundle());
    container
        .call_with("exec", &["--pid-file", text(&pid_file)], &["/probe", "exit", "0"])
        .deadline(PATIENCE)
        .run()
        .ok();
    untouched(&host);
    let drafts = std::fs::read_dir(&dir).expect("the directory").flatten();
    assert!(!drafts.map(|entry| entry.file_name()).any(|name| text(Path::new(&name)).starts_with(".rt-")));
}

#[test]
fn pid_file_takes_the_place_of_nothing_but_files() {
    only_rt!("what a pid file may be is its own rule");
    let case = case!();
    for kind in ["a FIFO", "a device", "a directory", "a socket"] {
        let path = case.dir().join("pid");
        let node = |kind| {
            let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
            nix::sys::stat::mknod(&path, kind, mode, nix::sys::stat::makedev(1, 3)).expect("mknod");
        };
        match kind {
            "a FIFO" => fifo(&path),
            "a device" => node(nix::sys::stat::SFlag::S_IFCHR),
            "a socket" => node(nix::sys::stat::SFlag::S_IFSOCK),
            _ => std::fs::create_dir(&path).expect("make a directory"),
        }
        run(&case, &short(&case), &[], &["--pid-file", text(&path)])
            .exits(1)
            .fails(&["write the pid file", kind]);
        assert!(!path.symlink_metadata().expect("as before").is_file());
        let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path));
    }
}

#[test]
fn terminal_is_sent_to_sockets_alone() {
    only_rt!("its words");
    let case = case!();
    let mut bundle = short(&case);
    bundle.config["process"]["terminal"] = json!(true);
    bundle.write();
    let host = host_file(&case);
    let (pipe, link) = (case.dir().join("fifo"), case.dir().join("link"));
    fifo(&pipe);
    let create = |socket: &Path| {
        let call = case.call(["create", "--console-socket"]).arg(socket).arg("--bundle");
        call.arg(bundle.dir()).arg(bundle.id()).deadline(PATIENCE).run()
    };
    // As long as no sockaddr holds.
    let far = case.dir().join("s".repeat(120));
    std::fs::create_dir(&far).expect("make a directory");
    let dir = std::fs::File::open(&far).expect("open the directory");
    let short_name = format!("/proc/self/fd/{}/socket", std::os::fd::AsRawFd::as_raw_fd(&dir));
    let _listener = std::os::unix::net::UnixListener::bind(&short_name).expect("listen");
    symlink(far.join("socket"), &link).expect("make a link");
    for (path, kind) in [(&host, "a file"), (&pipe, "a FIFO"), (&link, "a symbolic link")] {
        create(path).exits(1).fails(&["console socket", kind]);
    }
    create(&far.join("socket")).ok();
    case.call(["delete", "--force", bundle.id()]).run().ok();
}

/// A poststop hook that leaves a mark.
fn with_hook(case: &Case) -> (Bundle, PathBuf) {
    let mark = case.dir().join("mark");
    let mut bundle = short(case);
    let script = format!("touch {}", mark.display());
    bundle.config["hooks"] = json!({ "poststop": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
    bundle.write();
    (bundle, mark)
}

// His records' hooks would run as whoever asks for them.
#[test]
fn state_that_others_may_write_is_not_acted_upon() {
    only_rt!("whose state is trusted is its own rule");
    let case = case!();
    let (bundle, mark) = with_hook(&case);
    let container = case.create(&bundle);
    let (root, dir) = (case.state_root(), case.state_root().join(bundle.id()));
    let record = dir.join("state.json");
    for path in [&root, &dir, &record] {
        let mode = path.metadata().expect("the state").permissions().mode() & 0o7777;
        let commands = [vec!["state"], vec!["start"], vec!["kill"], vec!["delete", "--force"], vec!["exec"]];
        let refused = |why: &str| {
            for command in &commands {
                let mut call = case.call(command).arg(bundle.id());
                if command[0] == "exec" {
                    call = call.args(["/probe", "exit", "0"]);
                }
                let output = call.deadline(PATIENCE).run();
                assert_ne!(output.code(), 0, "{}: {output}", path.display());
                let whole = command[0] != "delete" || path != &record; // which then goes without its hooks
                assert!(
                    !whole || output.stderr.contains(why) && output.stderr.contains("--root"),
                    "{output}"
                );
            }
        };
        if path == &record {
            continue;
        }
        chown(path, Some(4242), None).expect("chown");
        refused("belongs to user 4242");
        chown(path, Some(0), None).expect("chown");
        for open in [0o777, 0o775, 0o1777] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(open)).expect("chmod");
            refused("others may write to it");
        }
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod");
    }
    chown(&record, Some(4242), None).expect("chown");
    for command in ["state", "start", "kill", "delete"] {
        case.call([command, bundle.id()]).deadline(PATIENCE).run().fails(&["belongs to user 4242"]);
    }
    assert!(!mark.exists());
    chown(&record, Some(0), None).expect("chown");
    container.delete();
    assert!(mark.exists(), "the hook of a record that is ours runs");
}

#[test]
fn no_container_is_made_in_a_state_directory_of_others() {
    only_rt!("whose state is trusted is its own rule");
    let case = case!();
    let bundle = short(&case);
    let theirs = case.dir().join("theirs");
    for (mode, owner, why) in [
        (0o700, 4242, "belongs to user 4242"),
        (0o1777, 0, "others may write"),
        (0o770, 0, "others may write"),
    ] {
        let _ = std::fs::remove_dir_all(&theirs);
        std::fs::create_dir(&theirs).expect("make a directory");
        std::fs::set_permissions(&theirs, PermissionsExt::from_mode(mode)).expect("chmod");
        chown(&theirs, Some(owner), None).expect("chown");
        let rt = case.program(Runtime::under_test().path());
        rt.args(["--root", text(&theirs), "run", "--bundle"])
            .arg(bundle.dir())
            .arg(bundle.id())
            .run()
            .fails(&[why]);
        assert_eq!(std::fs::read_dir(&theirs).expect("the directory").count(), 0);
        let list = case.program(Runtime::under_test().path()).args(["--root", text(&theirs), "list"]).run();
        list.fails(&[why]);
    }
}

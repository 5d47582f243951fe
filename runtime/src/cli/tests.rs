//! Command lines in, typed options or exact messages out.

use super::*;
use crate::log::{Level, LogFormat};
use crate::ops::options::*;

fn request(line: &str) -> Result<(Global, Command)> {
    parse(line.split(' ').filter(|word| !word.is_empty()).map(|word| OsString::from(word.trim_matches('\''))))
        .request
}

fn command(line: &str) -> Command {
    request(line).unwrap_or_else(|error| panic!("{line}: {error}")).1
}

fn message(line: &str) -> String {
    match request(line) {
        Ok(understood) => panic!("{line} was understood: {understood:?}"),
        Err(error) => error.to_string(),
    }
}

fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

fn launch(line: &str) -> Launch {
    match command(line) {
        Command::Create(create) => create.launch,
        Command::Run(run) => run.launch,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn each_flag_of_runc_is_known() {
    // main.go, create.go, run.go … of runc 1.5.2: name, whether it takes a value, aliases.
    let flags = [
        (
            "create a",
            "bundle,b=/b console-socket=/s pidfd-socket=/s pid-file=/p no-pivot no-new-keyring preserve-fds=2",
        ),
        (
            "run a",
            "bundle,b=/b console-socket=/s pidfd-socket=/s detach,d keep pid-file=/p no-subreaper no-pivot \
             no-new-keyring preserve-fds=2",
        ),
        ("kill a", "all,a"),
        ("delete a", "force,f"),
        ("list", "format,f=json quiet,q"),
        ("spec", "bundle,b=/b rootless"),
        ("events a", "interval=5s stats"),
        (
            "update a",
            "resources,r=/r blkio-weight=10 cpu-period=1 cpu-quota=-1 cpu-burst=0 cpu-share=2 cpu-rt-period=1 \
             cpu-rt-runtime=1 cpuset-cpus=0-3 cpuset-mems=0 kernel-memory=1g kernel-memory-tcp=-1 memory=64m cpu-idle=1 \
             memory-reservation=1 memory-swap=-1 pids-limit=-1 l3-cache-schema=x mem-bw-schema=x",
        ),
    ];
    for (before, flags) in flags {
        for flag in flags.split_ascii_whitespace() {
            let (names, value) =
                flag.split_once('=').map_or((flag, None), |(names, value)| (names, Some(value)));
            for name in names.split(',') {
                let dashes = if name.len() == 1 { "-" } else { "--" };
                let (verb, rest) = before.split_once(' ').unwrap_or((before, ""));
                let forms = match value {
                    Some(value) => vec![format!("{dashes}{name}={value}"), format!("{dashes}{name} {value}")],
                    None if name.len() == 1 => vec![format!("-{name}")],
                    None => vec![format!("--{name}"), format!("--{name}=true"), format!("--{name}=false")],
                };
                for form in forms {
                    // Before and after the id.
                    assert_eq!(
                        command(&format!("{verb} {form} {rest}")),
                        command(&format!("{verb} {rest} {form}"))
                    );
                }
            }
        }
    }
    let exec = "console-socket=/s pidfd-socket=/s cwd=/ env=A=1 e=A=1 tty t user=1 u=1:2 additional-gids=5 g=5 detach d \
                pid-file=/p process-label=l apparmor=a no-new-privs cap=CAP_KILL c=CAP_KILL preserve-fds=1 cgroup=sub \
                ignore-paused gate=9";
    for flag in exec.split_ascii_whitespace() {
        let dashes = if flag.split('=').next().is_some_and(|name| name.len() == 1) { "-" } else { "--" };
        command(&format!("exec {dashes}{flag} a true"));
    }
    for flag in ["--process=/p", "--process /p", "-p /p"] {
        let Command::Exec(exec) = command(&format!("exec {flag} a")) else { panic!() };
        assert_eq!(exec.what, ExecWhat::File { path: "/p".into(), tty: false });
    }
    for (flag, want) in [("-f json", Format::Json), ("--format table", Format::Table)] {
        let Command::Ps(ps) = command(&format!("ps {flag} a -o pid")) else { panic!() };
        assert_eq!((ps.format, ps.args), (want, vec!["-o".into(), "pid".into()]));
    }
    for plain in ["start", "state", "pause", "resume"] {
        command(&format!("{plain} a"));
    }
    assert_eq!(command("features"), Command::Features);
}

#[test]
fn global_options_come_first() {
    let line = "--root /r --log /l --log-format json --debug --systemd-cgroup --rootless=false state a";
    let invocation = parse(line.split(' ').map(OsString::from));
    let log = LogOptions { file: Some("/l".into()), format: LogFormat::Json, level: Some(Level::Debug) };
    assert_eq!(invocation.log, log);
    let (global, command) = invocation.request.unwrap();
    let expected = Global {
        root: "/r".into(),
        root_origin: Origin::Given,
        cgroups: CgroupDriver::Systemd,
        rootless: Rootless::No,
    };
    assert_eq!((global, command), (expected, Command::State(id("a"))));

    let (global, _) = request("state a").unwrap();
    let expected = Global {
        root: "/run/rt".into(),
        root_origin: Origin::Default,
        cgroups: CgroupDriver::Cgroupfs,
        rootless: Rootless::Auto,
    };
    assert_eq!(global, expected);
    for (line, driver) in [
        ("--cgroup-manager=disabled state a", CgroupDriver::Disabled),
        ("--systemd-cgroup --cgroup-manager disabled state a", CgroupDriver::Disabled),
        ("--cgroup-manager systemd state a", CgroupDriver::Systemd),
        ("--systemd-cgroup=false state a", CgroupDriver::Cgroupfs),
    ] {
        assert_eq!(request(line).unwrap().0.cgroups, driver, "{line}");
    }
    for (word, rootless) in [
        ("auto", Rootless::Auto),
        ("''", Rootless::Auto),
        ("true", Rootless::Yes),
        ("1", Rootless::Yes),
        ("false", Rootless::No),
        ("0", Rootless::No),
    ] {
        assert_eq!(request(&format!("--rootless {word} state a")).unwrap().0.rootless, rootless, "{word}");
    }
    let here = std::env::current_dir().unwrap();
    assert_eq!(request("--root r state a").unwrap().0.root, here.join("r"));
}

#[test]
fn the_log_is_known_even_if_the_rest_is_wrong() {
    let invocation = parse(["--log", "/l", "--log-format=json", "strat"].map(OsString::from));
    assert_eq!((invocation.log.file, invocation.log.format), (Some("/l".into()), LogFormat::Json));
    assert!(invocation.request.is_err());
}

#[test]
fn what_engines_write_is_understood() {
    let create = "create --bundle /b --pid-file /p --console-socket /s --no-pivot --no-new-keyring abc";
    let expected = Launch {
        bundle: "/b".into(),
        pid_file: Some("/p".into()),
        console_socket: Some("/s".into()),
        no_pivot: true,
        no_new_keyring: true,
        ..Launch::default()
    };
    assert_eq!(launch(create), expected);
    let Command::Exec(exec) =
        command("exec --process /f --console-socket /s --detach --tty --pid-file /p abc")
    else {
        panic!()
    };
    assert_eq!(
        (exec.id, exec.what, exec.detach),
        (id("abc"), ExecWhat::File { path: "/f".into(), tty: true }, true)
    );
    assert_eq!(command("kill --all abc 9"), Command::Kill(Kill { id: id("abc"), signal: 9, all: true }));
    assert_eq!(command("kill abc"), Command::Kill(Kill { id: id("abc"), signal: 15, all: false }));
    assert_eq!(command("delete abc --force"), Command::Delete(Delete { id: id("abc"), force: true }));
    let Command::Update(update) = command("update --resources=- abc") else { panic!() };
    assert_eq!(update.limits, Limits::Stdin);
    let Command::Ps(ps) = command("ps --format json abc") else { panic!() };
    assert_eq!((ps.format, ps.args.len()), (Format::Json, 0));
}

#[test]
fn what_follows_the_id_of_exec_is_the_commands() {
    let Command::Exec(exec) = command("exec -t --env A=1 -e B= a sh -c -t --env") else { panic!() };
    let ExecWhat::Command { args, changes } = exec.what else { panic!() };
    assert_eq!(args, ["sh", "-c", "-t", "--env"]);
    assert_eq!((changes.tty, changes.env), (true, vec!["A=1".to_owned(), "B=".to_owned()]));
    let Command::Exec(exec) = command("exec a -- -x") else { panic!() };
    assert_eq!(
        exec.what,
        ExecWhat::Command { args: vec!["--".into(), "-x".into()], changes: ExecChanges::default() }
    );
}

#[test]
fn update_flags_are_limits_and_nothing_else() {
    let Command::Update(update) =
        command("update a --memory 64m --memory-swap -1 --cpu-quota -1 --pids-limit 0")
    else {
        panic!()
    };
    let Limits::Flags(resources) = update.limits else { panic!() };
    let memory = resources.memory.as_ref().unwrap();
    assert_eq!((memory.limit, memory.swap, memory.reservation), (Some(64 << 20), Some(-1), None));
    assert_eq!(resources.cpu.as_ref().unwrap().quota, Some(-1));
    assert_eq!(resources.pids.as_ref().unwrap().limit, Some(0));
    assert!(resources.block_io.is_none() && resources.devices.is_empty());
}

#[test]
fn our_own_flags_make_overlays_and_shares() {
    let overlay = |line: &str| launch(line).overlay;
    assert_eq!(overlay("create a"), None);
    assert_eq!(overlay("create --overlay a"), Some(Overlay::default()), "the value must be attached");
    let both = Overlay { lowers: vec!["/l".into()], upper: Some("/u".into()) };
    assert_eq!(overlay("create --overlay=/l --overlay-upper /u a"), Some(both.clone()));
    assert_eq!(overlay("create --overlay-upper=/u a --overlay=/l"), Some(both));
    let upper = Overlay { lowers: vec![], upper: Some("/u".into()) };
    assert_eq!(overlay("run --overlay-upper /u --id x -b /b"), Some(upper));
    let share = launch("create --share pod=net,ipc a").share.unwrap();
    assert_eq!((share.with, share.namespaces), (id("pod"), vec![SharedNamespace::Net, SharedNamespace::Ipc]));
    assert_eq!(
        launch("create --config c.json a").config,
        Some(std::env::current_dir().unwrap().join("c.json"))
    );
}

#[test]
fn bad_command_lines_say_what_is_wrong() {
    for (line, expected) in [
        ("strat", "unknown command \"strat\" (did you mean `rt start`?)"),
        ("frobnicate", "unknown command \"frobnicate\" (`rt --help` lists the commands)"),
        ("--rot /x state a", "unknown option --rot of rt (did you mean --root?)"),
        ("-x state a", "unknown option -x of rt (see `rt --help`)"),
        ("--root", "option --root needs a value: DIR (see `rt --help`)"),
        ("--root / state a", "option --root must not be /"),
        ("--root '' state a", "option --root needs a directory"),
        ("--log-format xml state a", "option --log-format must be text or json, not \"xml\""),
        (
            "--log-level loud state a",
            "option --log-level must be error or warning or info or debug or trace, not \"loud\"",
        ),
        (
            "--cgroup-manager x state a",
            "option --cgroup-manager must be cgroupfs or systemd or disabled, not \"x\"",
        ),
        (
            "--rootless=perhaps state a",
            "option --rootless must be auto or true or 1 or false or 0, not \"perhaps\"",
        ),
        ("state", "rt state needs a container id (see `rt state --help`)"),
        ("state a b", "rt state: unexpected argument \"b\" (see `rt state --help`)"),
        ("state ''", "container id cannot be empty"),
        ("state a/b", "invalid container id \"a/b\": '/' is not allowed (use letters, digits and _ + - .)"),
        (
            "state --root /x a",
            "unknown option --root of rt state (it belongs before the command: rt --root …)",
        ),
        ("create --bundel /b a", "unknown option --bundel of rt create (did you mean --bundle?)"),
        ("create -x a", "unknown option -x of rt create (see `rt create --help`)"),
        ("create a -b", "option --bundle needs a value: DIR (see `rt create --help`)"),
        ("create --preserve-fds -1 a", "option --preserve-fds needs a number, not \"-1\""),
        ("create --no-pivot=maybe a", "option --no-pivot takes no value but true or false, not \"maybe\""),
        ("create --overlay-upper= a", "option --overlay-upper needs a directory"),
        ("run", "rt run needs a container id (see `rt run --help`)"),
        ("run a b", "rt run: unexpected argument \"b\" (see `rt run --help`)"),
        ("plan -b /b /c", "rt plan: the bundle is given twice, by -b and as an argument"),
        ("kill", "rt kill needs a container id (see `rt kill --help`)"),
        ("kill a 9 b", "rt kill: unexpected argument \"b\" (see `rt kill --help`)"),
        ("kill a FOO", "unknown signal \"FOO\" (`kill -l` lists names, and a number will do too)"),
        ("list a", "rt list: unexpected argument \"a\" (see `rt list --help`)"),
        ("list -f xml", "option --format must be table or json, not \"xml\""),
        ("exec a", "rt exec needs a command (see `rt exec --help`)"),
        ("exec", "rt exec needs a container id (see `rt exec --help`)"),
        ("exec -p /f a sh", "rt exec: unexpected argument \"sh\" (see `rt exec --help`)"),
        (
            "exec -p /f -t --cwd / a",
            "rt exec: --process says all about the process, other options can't change it",
        ),
        (
            "exec --cgroup cpu:/x a sh",
            "option --cgroup: \"cpu:/x\" names a controller (cgroup v2 has one tree: give the path alone)",
        ),
        (
            "exec --user '' a sh",
            "option --user: bad uid \"\" (write it as UID or UID:GID, in numbers: names are the image's)",
        ),
        ("exec -g x a sh", "option --additional-gids needs a number, not \"x\""),
        ("update --memory lots a", "option --memory needs a size such as 64m, or -1, not \"lots\""),
        ("update --cpu-share 1.5 a", "option --cpu-share needs a number, not \"1.5\""),
        ("events --interval 5 a", "option --interval must be a time such as 5s, not \"5\""),
        ("checkpoint a", "rt checkpoint is not supported yet"),
        ("restore --image-path /x a", "rt restore is not supported yet"),
        ("help strat", "unknown command \"strat\" (did you mean `rt start`?)"),
    ] {
        assert_eq!(message(line), expected, "{line}");
    }
}

#[test]
fn exec_fails_with_255_and_all_else_with_1() {
    assert_eq!(command("exec a sh").failure_code(), 255);
    for line in ["create a", "run --id a", "state a", "kill a", "delete a"] {
        assert_eq!(command(line).failure_code(), 1);
    }
}

#[test]
fn engines_can_read_the_version() {
    let Command::Print(text) = command("--version") else { panic!() };
    assert_eq!(command("-v"), Command::Print(text.clone()));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("rt version 0."), "{text}");
    assert!(lines.contains(&"spec: 1.3.0"), "{text}");
    // docker takes any line with this word for the program's name and version.
    assert_eq!(lines.iter().filter(|line| line.contains("version")).count(), 1);
}

#[test]
fn help_shows_each_flag_once_and_fits_the_screen() {
    let Command::Print(overview) = command("--help") else { panic!() };
    for line in ["", "-h", "help"] {
        assert_eq!(command(line), Command::Print(overview.clone()));
    }
    for entry in tables::COMMANDS {
        assert!(overview.contains(&format!("\n  {} ", entry.name)), "{}", entry.name);
        let Command::Print(page) = command(&format!("help {}", entry.name)) else { panic!() };
        for doc in (entry.docs)().iter().filter(|doc| !doc.text.is_empty()) {
            let written = page.matches(&format!(" --{}", doc.long)).count();
            assert!(written >= 1, "{} {}", entry.name, doc.long);
            assert!(!doc.text.ends_with('.'), "{}", doc.text);
        }
        if !matches!(entry.name, "checkpoint" | "restore") {
            assert_eq!(command(&format!("{} --help", entry.name)), Command::Print(page.clone()));
            assert_eq!(command(&format!("{} -h", entry.name)), Command::Print(page.clone()));
        }
        for line in page.lines().chain(overview.lines()) {
            assert!(line.chars().count() <= 100, "too wide: {line}");
            assert_eq!(line.trim_end(), line, "ends in a space");
        }
    }
}

#[test]
fn no_flag_is_in_a_table_twice() {
    for entry in tables::COMMANDS {
        let docs = (entry.docs)();
        for (at, doc) in docs.iter().enumerate() {
            let same = |other: &&&flag::Doc| {
                other.long == doc.long || (doc.short.is_some() && other.short == doc.short)
            };
            assert!(!docs[..at].iter().any(|other| same(&other)), "{} --{}", entry.name, doc.long);
            assert!(doc.short != Some('h') && doc.long != "help");
        }
    }
}

#[test]
fn no_value_makes_it_panic() {
    use std::os::unix::ffi::OsStringExt;
    let long = "9".repeat(400);
    let values =
        [b"\xff\xfe".to_vec(), vec![], b"-".to_vec(), b"=".to_vec(), b"-1".to_vec(), long.into_bytes()];
    for entry in tables::COMMANDS {
        let docs = (entry.docs)();
        for value in &values {
            let value = || OsString::from_vec(value.clone());
            for doc in docs.iter().chain(&tables::global_docs()) {
                let mut attached = OsString::from(format!("--{}=", doc.long));
                attached.push(value());
                for flag in [vec![attached], vec![format!("--{}", doc.long).into(), value()]] {
                    // Understood or not, whatever it is: both are answers.
                    let _ = parse(flag.iter().cloned().chain([entry.name.into(), "a".into()])).request;
                    let _ = parse([OsString::from(entry.name), "a".into()].into_iter().chain(flag)).request;
                }
            }
            let _ = parse([entry.name.into(), value(), value()]).request;
        }
    }
}

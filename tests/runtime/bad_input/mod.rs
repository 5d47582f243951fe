//! Bad input: for each mistake the exact message (what, where, why, cure), the exit status, and nothing left behind.
//!
//! The words are rt's own: the references are not asked, and let some of these mistakes pass.

mod bundle;
mod limits;
mod mounts;
mod namespaces;
mod processes;

use tests::*;

/// A mistake, and what is said about it; `{bundle}`, `{cgroup}` and `{id}` stand for themselves.
struct Mistake {
    name: &'static str,
    make: fn(&mut Bundle),
    says: &'static str,
}

/// Runs a bundle with the mistake; what is wrong with the answer, if anything.
fn judge(case: &Case, mistake: &Mistake) -> Option<String> {
    let mut bundle = case.bundle();
    bundle.args(["/probe", "exit", "0"]);
    (mistake.make)(&mut bundle);
    let output = case.run(&bundle);
    let cgroup = format!("{}/{}", case.cgroup(), bundle.id());
    let says = mistake
        .says
        .replace("{cgroup}", &cgroup)
        .replace("{bundle}", &bundle.dir().to_string_lossy())
        .replace("{id}", bundle.id());
    let heard = plain(&output.stderr);
    let wrong = output.code() != 1 || heard != says;
    let left = case.leaks();
    let heard = heard.replace(&*bundle.dir().to_string_lossy(), "{bundle}").replace(bundle.id(), "{id}");
    match (wrong, left.is_empty()) {
        (false, true) => None,
        _ => Some(format!(
            "{}: exit {}, left {left:?}\n  expected: {}\n  heard:    {heard}",
            mistake.name,
            output.code(),
            mistake.says
        )),
    }
}

/// The message of the last error line.
fn plain(stderr: &str) -> String {
    stderr.trim_end().to_owned()
}

fn check(case: &Case, mistakes: &[Mistake]) {
    let wrong: Vec<String> = mistakes.iter().filter_map(|mistake| judge(case, mistake)).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Writes the config as text; what the harness would write is dropped.
fn text(bundle: &mut Bundle, text: &str) {
    bundle.config = Value::Null;
    std::fs::write(bundle.dir().join("config.json"), text).expect("write");
}

#[test]
fn unknown_members_are_ignored() {
    unless!("crun", "it checks what it does not use");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["vm"] = json!({ "hypervisor": { "path": "/x" } });
    bundle.config["process"]["newInSpec2"] = json!([1, { "a": null }]);
    bundle.config["linux"]["mystery"] = json!({});
    bundle.args(["/probe", "exit", "0"]);
    case.run(&bundle).ok();
}

#[test]
fn null_members_count_as_absent() {
    let case = case!();
    let mut bundle = case.bundle();
    for path in ["hooks", "annotations"] {
        bundle.config[path] = Value::Null;
    }
    bundle.config["linux"]["devices"] = Value::Null;
    bundle.config["linux"]["seccomp"] = Value::Null;
    bundle.config["linux"]["sysctl"] = Value::Null;
    bundle.config["linux"]["resources"]["memory"] = Value::Null;
    bundle.config["process"]["rlimits"] = Value::Null;
    bundle.config["process"]["oomScoreAdj"] = Value::Null;
    bundle.args(["/probe", "exit", "0"]);
    case.run(&bundle).ok();
}

#[test]
fn config_of_a_hundred_megabytes_ends_well() {
    unless!("runc", "it takes half a minute and more");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "exit", "0"]);
    bundle.write();
    let text = std::fs::read_to_string(bundle.dir().join("config.json")).expect("the config");
    let mut long = text.trim_end().trim_end_matches('}').to_owned();
    long.push_str(",\n\"annotations\": { \"big\": \"");
    long.extend(std::iter::repeat_n('x', 100 << 20));
    long.push_str("\" } }");
    std::fs::write(bundle.dir().join("config.json"), long).expect("write");
    let output = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).run();
    assert!([0, 1].contains(&output.code()), "{output}");
}

#[test]
fn config_nested_without_end_is_an_error() {
    let case = case!();
    let mut bundle = case.bundle();
    let deep = format!("{{ \"ociVersion\": \"1.0.2\", \"x\": {}", "[".repeat(1_000_000));
    text(&mut bundle, &deep);
    case.run(&bundle).exits(1);
}

#[test]
fn ten_thousand_mounts_end_well() {
    let case = case!();
    let mut bundle = case.bundle();
    for n in 0..10_000 {
        bundle.mount(json!({ "destination": format!("/m/{n}"), "type": "tmpfs", "source": "t", "options": ["size=4k"] }));
    }
    bundle.args(["/probe", "exit", "0"]);
    bundle.write();
    let call = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
    let output = call.deadline(std::time::Duration::from_secs(100)).run();
    assert!([0, 1].contains(&output.code()), "{output}");
}

#[test]
fn mistakes_on_the_command_line() {
    only_rt!("the words are its own");
    let case = case!();
    let bundle = case.bundle();
    bundle.write();
    let dir = bundle.dir().to_string_lossy().into_owned();
    let mut wrong = Vec::new();
    for (args, says) in [
        (
            &["run", "--bundle", "/no/such", "x"][..],
            "rt: run container \"x\": open bundle /no/such: no such file or directory (ENOENT) (a bundle is a directory with a config.json; name it with --bundle)",
        ),
        (
            &["run", "--bundle", &dir, "a/b"],
            "rt: invalid container id \"a/b\": '/' is not allowed (use letters, digits and _ + - .)",
        ),
        (&["run", "--bundle", &dir, ""], "rt: container id cannot be empty"),
        (&["run", "--bundle", &dir], "rt: rt run needs a container id (see `rt run --help`)"),
        (&["run", "--bundle", &dir, "x", "y"], "rt: rt run: unexpected argument \"y\" (see `rt run --help`)"),
        (&["run", "--nonsense", "x"], "rt: unknown option --nonsense of rt run (see `rt run --help`)"),
        (&["nonsense"], "rt: unknown command \"nonsense\" (`rt --help` lists the commands)"),
        (&["start", "nobody"], "rt: container \"nobody\" does not exist"),
        (&["kill", "nobody", "TERM"], "rt: container \"nobody\" does not exist"),
        (&["exec", "nobody", "true"], "rt: container \"nobody\" does not exist"),
        (&["pause", "nobody"], "rt: container \"nobody\" does not exist"),
        (&["ps", "nobody"], "rt: container \"nobody\" does not exist"),
        (&["update", "nobody"], "rt: container \"nobody\" does not exist"),
        (&["delete", "nobody"], "rt: container \"nobody\" does not exist"),
        (&["checkpoint", "x"], "rt: rt checkpoint is not supported yet"),
    ] {
        let output = case.call(args.iter().copied()).cwd(&case.dir().join("tmp")).run();
        let heard = plain(&output.stderr).replace(&dir, "{bundle}");
        let code = if args[0] == "exec" { 255 } else { 1 };
        if output.code() != code || heard != says {
            wrong.push(format!("{args:?}: exit {}\n  expected: {says}\n  heard:    {heard}", output.code()));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

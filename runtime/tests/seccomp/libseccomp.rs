//! Programs against those that libseccomp makes of the same profiles, where Debian's libseccomp-dev is installed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use runtime::plan::seccomp::{Arch, Insn, compile, from_bytes};
use runtime::spec::Seccomp;

use super::random::{ACTIONS, Generator, Shape};
use super::reference::{self, Reference};
use super::simulator::{self, Call};
use super::{CONTAINERD, DENY, MOBY, PODMAN, assert_same, differences, filter, numbers_near, parse};

/// What libseccomp made of a profile.
enum Outcome {
    Program(Vec<Insn>),
    /// It refuses the profile, with these words.
    Refused(String),
}

/// The program that drives libseccomp; `None` after a SKIP where it can't be made here.
fn driver(test: &str) -> Option<PathBuf> {
    let driver = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("libseccomp-{test}"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seccomp/libseccomp.c");
    let made = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&driver)
        .args([source, "-lseccomp"])
        .output();
    let reason = match made {
        Ok(output) if output.status.success() => return Some(driver),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => format!("cc: {error}"),
    };
    let is_missing = reason.contains("seccomp.h: No such file")
        || reason.contains("-lseccomp")
        || reason.starts_with("cc: No such");
    assert!(is_missing, "{reason}");
    println!("SKIP {test}: libseccomp-dev or cc is not installed");
    None
}

/// Has libseccomp make a program for a profile; takes the names that it doesn't know out of the profile.
fn libseccomp(driver: &Path, spec: &mut Seccomp) -> Outcome {
    let mut child = Command::new(driver)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the driver");
    child.stdin.take().expect("its input").write_all(script(spec).as_bytes()).expect("write to it");
    let output = child.wait_with_output().expect("wait for it");
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(3) {
        return Outcome::Refused(errors.lines().last().unwrap_or_default().to_owned());
    }
    assert!(output.status.success(), "{} {errors}", output.status);
    let unknown: Vec<&str> = errors.lines().filter_map(|line| line.strip_prefix("unknown ")).collect();
    for rule in spec.syscalls.iter_mut() {
        rule.names.retain(|name| !unknown.contains(&name.as_str()));
    }
    Outcome::Program(from_bytes(&output.stdout).expect("whole instructions"))
}

/// What runc tells libseccomp for a profile.
fn script(spec: &Seccomp) -> String {
    let default = reference::value(&spec.default_action, spec.default_errno_ret);
    let mut script = format!("default {default:x}\n");
    for arch in spec.architectures.iter() {
        script +=
            &format!("arch {}\n", arch.strip_prefix("SCMP_ARCH_").expect("an architecture").to_lowercase());
    }
    for rule in spec.syscalls.iter() {
        let action = reference::value(&rule.action, rule.errno_ret);
        if action == default {
            continue;
        }
        for name in rule.names.iter() {
            for case in reference::cases_of(&rule.args) {
                script += &format!("rule {action:x} {name}");
                for arg in case {
                    let operators = ["", "NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
                    let operator = operators
                        .iter()
                        .position(|op| arg.op == format!("SCMP_CMP_{op}"))
                        .expect("an operator");
                    script += &format!(" {} {operator} {} {}", arg.index, arg.value, arg.value_two);
                }
                script.push('\n');
            }
        }
    }
    script
}

/// libseccomp's program behind the rule for newer calls, which runc puts before it.
fn verdict<'a>(program: &'a [Insn], spec: &'a Seccomp) -> impl Fn(&Call) -> u32 + 'a {
    simulator::check(program).expect("libseccomp's program is right");
    let newest = Reference::new(spec, Arch::X86_64);
    move |call| if newest.is_too_new(call) { reference::ENOSYS } else { simulator::run(program, call).0 }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn default_profiles_do_what_libseccomp_makes_of_them() {
    let Some(driver) = driver("default_profiles_do_what_libseccomp_makes_of_them") else { return };
    for (name, text) in [("moby", MOBY), ("containerd", CONTAINERD), ("podman", PODMAN), ("deny", DENY)] {
        for archs in [
            r#"["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]"#,
            r#"["SCMP_ARCH_X86_64"]"#,
            r#"["SCMP_ARCH_X86"]"#,
        ] {
            let mut spec = parse(text);
            spec.architectures = serde_json::from_str(archs).expect("a list");
            let what = format!("{name} {archs}");
            match libseccomp(&driver, &mut spec) {
                Outcome::Refused(reason) => panic!("{what}: {reason}"),
                Outcome::Program(theirs) => {
                    assert_same(&what, &filter(&spec, Arch::X86_64).program, &spec, verdict(&theirs, &spec));
                }
            }
        }
    }
}

/// Rules with conditions for which libseccomp 2.5.4 makes right programs. Where it doesn't, ours follow the profile:
/// - `LT` and `LE`: upper bounds of one 64-bit argument that lie on both sides of 2^32 (`<= 0xfffffffd` beside `<= 0xfffffffffffffffd`);
/// - a mask beside an equality on the same argument, with different actions;
/// - x32 listed beside x86_64, and the profile names a call that neither has: it forgets to load the number for a call with conditions.
const SHAPES: [fn() -> Shape; 4] = [
    || Shape { actions: &ACTIONS, operators: &["SCMP_CMP_EQ"], most_args: 3 },
    || Shape { actions: &ACTIONS, operators: &["SCMP_CMP_EQ", "SCMP_CMP_NE"], most_args: 1 },
    || Shape { actions: &ACTIONS, operators: &["SCMP_CMP_GT", "SCMP_CMP_GE"], most_args: 1 },
    || Shape { actions: &ACTIONS[2..3], operators: &["SCMP_CMP_GT", "SCMP_CMP_GE"], most_args: 3 },
];

#[cfg(target_arch = "x86_64")]
#[test]
fn random_profiles_do_what_libseccomp_makes_of_them() {
    let Some(driver) = driver("random_profiles_do_what_libseccomp_makes_of_them") else { return };
    let (mut same, mut refused) = (0, 0);
    for (shape, seed) in SHAPES.iter().flat_map(|shape| (1000..1020).map(move |seed| (shape, seed))) {
        let mut spec = Generator::new(seed, shape()).profile(Arch::X86_64);
        spec.architectures.retain(|arch| arch != "SCMP_ARCH_X32");
        match (libseccomp(&driver, &mut spec), compile(&spec, Arch::X86_64)) {
            // It also refuses conditions that become the same when they are cut to 32 bits.
            (Outcome::Refused(reason), _) => {
                assert!(reason.ends_with("File exists"), "seed {seed}: {reason}");
                refused += 1;
            }
            (Outcome::Program(_), Err(error)) => panic!("seed {seed}: {error}"),
            (Outcome::Program(theirs), Ok(ours)) => {
                let ours = ours.expect("a filter").program;
                let verdict = verdict(&theirs, &spec);
                let (_, wrong) = differences(&ours, &spec, &numbers_near(&spec), verdict);
                assert!(
                    wrong.is_empty(),
                    "seed {seed}: {:#x?} of {} wrong ones; {spec:#?}",
                    &wrong[0],
                    wrong.len()
                );
                same += 1;
            }
        }
    }
    println!("{same} programs do the same, {refused} profiles are refused");
    assert!(same > 70, "{same}");
}

//! CVE-2024-21626: descriptors of the host that the runtime still has when it looks for the working directory and the program.
//!
//! N depends on the caller, so all that may be are tried.

use super::outside;
use std::ops::Range;
use tests::*;

/// Numbers that a descriptor of the runtime may have.
const NUMBERS: Range<u32> = 3..72;

/// From the working directory: a file of the host, and the parameters of the kernel below what protects them. Nothing is written.
fn ways_out(outside: &std::path::Path) -> [String; 3] {
    [
        "kernel/core_pattern".to_owned(),
        "sys/kernel/core_pattern".to_owned(),
        format!("../../../../../../../../..{}/secret", outside.display()),
    ]
}

#[track_caller]
fn stayed_inside(output: &Output, way: &str) {
    if Runtime::under_test().is("rt") {
        assert_ne!(output.code(), 0, "{way} is a magic link, which is never followed: {output}");
    }
    assert!(!output.stdout.lines().any(|line| line == "ok"), "{way}: {output}");
}

// The first attack: the working directory of the config or the image.
// Bites: rt before R1 (N of the unprotected /proc/sys).
#[test]
fn cve_2024_21626_the_working_directory_is_a_descriptor() {
    unless!("crun", "it leaves the process that failed for a while");
    let case = case!();
    let [core, sys, secret] = ways_out(&outside(&case));
    for fd in NUMBERS {
        for cwd in [format!("/proc/self/fd/{fd}"), format!("/way-{fd}")] {
            let mut bundle = case.bundle();
            bundle.link(&format!("/way-{fd}"), &format!("/proc/self/fd/{fd}"));
            bundle.config["process"]["cwd"] = json!(cwd);
            bundle.args([
                "/probe", "chain", "open", &core, "w", ",", "open", &sys, "w", ",", "open", &secret, "r",
            ]);
            stayed_inside(&case.run(&bundle), &cwd);
        }
    }
}

// The second: the working directory of `exec`, also by a link that the container makes for an honest caller.
#[test]
fn cve_2024_21626_the_working_directory_of_exec_is_a_descriptor() {
    unless!("crun", "it leaves the process that failed for a while");
    let case = case!();
    let [core, sys, secret] = ways_out(&outside(&case));
    let mut bundle = case.bundle();
    for fd in NUMBERS {
        bundle.link(&format!("/way-{fd}"), &format!("/proc/self/fd/{fd}"));
    }
    let container = case.start_sleeping(&mut bundle);
    for fd in NUMBERS {
        for cwd in [format!("/proc/self/fd/{fd}"), format!("/way-{fd}")] {
            let words =
                ["/probe", "chain", "open", &core, "w", ",", "open", &sys, "w", ",", "open", &secret, "r"];
            stayed_inside(&container.call_with("exec", &["--cwd", &cwd], &words).run(), &cwd);
        }
    }
}

// The third: the program itself, by its name, by PATH, by the image's link, by a script's first line.
#[test]
fn cve_2024_21626_the_program_is_one_of_the_host() {
    unless!("crun", "it leaves the process that failed for a while");
    let case = case!();
    let outside = outside(&case);
    // Programs of the host that nothing in a container has; they say ok. The script's interpreter is told to print the script.
    write_program(&outside.join("of-the-host"), "#!/bin/sh\necho ok\n");
    copy_program(probe(), &outside.join("host-probe"));
    let up = format!("../../../../../../../../..{}", outside.display());
    let mut bundle = case.bundle();
    bundle.with_busybox();
    let path: Vec<String> = NUMBERS.map(|fd| format!("/proc/self/fd/{fd}/{up}")).collect();
    for fd in NUMBERS {
        bundle.link(&format!("/tool-{fd}"), &format!("/proc/self/fd/{fd}/{up}/host-probe"));
        let script = format!("#!/proc/self/fd/{fd}/{up}/host-probe read\nok\n");
        if script.len() < 250 {
            bundle.file(&format!("/script-{fd}"), &script).mode(&format!("/script-{fd}"), 0o755);
        }
    }
    let container = case.start_sleeping(&mut bundle);
    let by_path = format!("PATH={}", path.join(":"));
    let verb = ["open", "/probe", "r"];
    let run = |program: &str, env: &str| {
        let words: Vec<&str> = [program].into_iter().chain(verb).collect();
        let exec = container.call_with("exec", &["--env", env], &words).run();
        assert!(!exec.stdout.contains("ok"), "exec {program}: {exec}");
    };
    run("host-probe", &by_path);
    run("of-the-host", &by_path);
    for fd in NUMBERS {
        for program in
            [format!("/proc/self/fd/{fd}/{up}/host-probe"), format!("/tool-{fd}"), format!("/script-{fd}")]
        {
            run(&program, "X=");
        }
    }
    drop(container);
    // As the container's own program, a few numbers each.
    for fd in 3..20 {
        for program in
            [format!("/proc/self/fd/{fd}/{up}/host-probe"), format!("/tool-{fd}"), format!("/script-{fd}")]
        {
            bundle.args([program.as_str(), "open", "/probe", "r"]);
            let output = case.run(&bundle);
            assert!(!output.stdout.contains("ok"), "run {program}: {output}");
        }
    }
    bundle.config["process"]["env"] = json!([by_path]);
    for program in ["host-probe", "of-the-host"] {
        bundle.args([program, "open", "/probe", "r"]);
        let output = case.run(&bundle);
        assert!(!output.stdout.contains("ok"), "run {program} of PATH: {output}");
    }
}

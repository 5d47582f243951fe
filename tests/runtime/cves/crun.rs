//! What crun had.

use super::runc_links::{dev_as_a_link, run_with_a_terminal};
use super::{drop_mounts, outside, untouched, ways_to, while_exchanging};
use tests::*;

/// Annotations that choose how a container is run are crun's own; here they choose nothing.
fn krun(bundle: &mut Bundle) {
    bundle.config["annotations"] =
        json!({ "run.oci.handler": "krun", "krun.use_passt": "1", "krun.ram_mib": "64" });
}

// 2025-24965: the krun handler writes its configuration into the root filesystem by name, through the image's link.
// rt has no handlers and writes no file of its own into a root filesystem.
#[test]
fn cve_2025_24965_a_file_of_the_handler_is_written_through_a_link() {
    let case = case!();
    let outside = outside(&case);
    for (to, name) in ways_to(&outside).iter().zip(["secret", "made"]) {
        let mut bundle = case.bundle();
        krun(&mut bundle);
        for file in ["/.krun_config.json", "/krun_config.json", "/.krun_vm.json"] {
            bundle.link(file, &format!("{to}/{name}"));
        }
        bundle.args(["/probe", "exit", "0"]);
        let _ = case.run(&bundle);
        untouched(&outside);
    }
}

// 2026-30892: `exec --user 1` taken for root.
// Bites: crun 1.21.
#[test]
fn cve_2026_30892_a_user_of_exec_is_taken_for_root() {
    unless!("crun", "1.21 takes 1 for root (CVE-2026-30892)");
    let case = case!();
    let container = case.start_sleeping(&mut case.bundle());
    assert_eq!(container.exec_report(&["--user", "1"])["uid"], json!([1, 1, 1]));
    assert_eq!(container.exec_report(&["--user", "1:2"])["gid"], json!([2, 2, 2]));
    for user in ["-1", "4294967296", "99999999999999999999", "1x", "0x1", "", ":", "1:x", " 1"] {
        if !Runtime::under_test().is("rt") && !["1x", "99999999999999999999"].contains(&user) {
            continue;
        }
        let output = container.call_with("exec", &["--user", user], &["/probe", "exit", "0"]).run();
        assert_ne!(output.code(), 0, "{user:?}: {output}");
    }
}

// 2026-47766: /dev of the image is a link, and the default devices are made where it leads.
// Bites: runc 1.1.5, crun 1.21.
#[test]
fn cve_2026_47766_default_devices_are_made_where_dev_leads() {
    unless!("crun", "1.21 makes the nodes outside (CVE-2026-47766)");
    let case = case!();
    let outside = outside(&case);
    dev_as_a_link(&case, &outside);
    // Nothing is asked for but what every container has.
    for link in ways_to(&outside) {
        let mut bundle = case.bundle();
        drop_mounts(&mut bundle, "/dev");
        bundle.link("/dev", &link).args(["/probe", "exit", "0"]);
        let _ = case.run(&bundle);
    }
    untouched(&outside);
}

// 2026-84042: with krun and passt, a program of the image is run on the host's side, as root.
// rt runs no program of an image anywhere but as the container's process: one called passt is only a file.
#[test]
fn cve_2026_84042_a_program_of_the_image_is_run_for_the_network() {
    unless!("crun", "without libkrun it refuses");
    let case = case!();
    let outside = outside(&case);
    let mut bundle = case.bundle();
    krun(&mut bundle);
    bundle.with_busybox();
    let script = format!("#!/bin/sh\necho run >{0}/secret; mkdir -p {0}/made\n", outside.display());
    for program in ["/usr/bin/passt", "/usr/local/bin/passt", "/bin/passt", "/passt", "/usr/bin/pasta"] {
        bundle.file(program, &script).mode(program, 0o755);
    }
    bundle.args(["/probe", "exit", "7"]);
    case.run(&bundle).exits(7);
    untouched(&outside);
}

// 2026-88264: without a mount at /dev the terminal is led away by the image's link, also where the root is read-only.
// Bites: crun 1.21.
#[test]
fn cve_2026_88264_dev_console_is_made_where_its_link_leads() {
    unless!("crun", "up to 1.29.1 it makes the file outside (CVE-2026-88264)");
    let case = case!();
    let outside = outside(&case);
    for readonly in [false, true] {
        for to in ways_to(&outside).iter().flat_map(|to| [format!("{to}/made"), format!("{to}/secret")]) {
            run_with_a_terminal(&case, |bundle| {
                bundle.config["root"]["readonly"] = json!(readonly);
                bundle.link("/dev/console", &to);
            });
            untouched(&outside);
        }
    }
}

// 2026-88265: standard streams on /dev/null are opened again inside, where /dev/null is the image's link into a volume, and what
// it leads to is then given to the container's user.
// Bites: runc 1.1.5 writes to the host's file.
#[test]
fn cve_2026_88265_dev_null_is_opened_again_inside_and_given_away() {
    let case = case!();
    let outside = outside(&case);
    let secret = outside.join("secret");
    let mut bundle = case.bundle();
    drop_mounts(&mut bundle, "/dev");
    bundle.bind(&outside, "/volume", &[]).link("/dev/null", "/volume/secret");
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    // `print-lines` writes to whatever stdout has become.
    bundle.args(["/probe", "print-lines", "100"]);
    bundle.write();
    let null = || std::fs::File::options().read(true).write(true).open("/dev/null").expect("/dev/null");
    let call = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
    let _ = call.terminal(null()).run();
    untouched(&outside);
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&secret).expect("the file"));
    assert_eq!(owner, 0, "the host's file was given to the container's user");
}

// 2026-133553: `tmpcopyup` opens its target a second time by name, which a container that shares the volume exchanges: the image's
// files are copied over the host's.
#[test]
fn cve_2026_133553_tmpcopyup_is_led_outside_by_a_race() {
    let case = case!();
    let outside = outside(&case);
    let volume = case.dir().join("volume");
    let way = volume.join("way/copied");
    std::fs::create_dir_all(&way).expect("make directories");
    std::fs::write(way.join("secret"), "the image's").expect("write");
    std::fs::write(way.join("more"), "the image's").expect("write");
    std::os::unix::fs::symlink(&outside, volume.join("way/link")).expect("link");
    let mut bundle = case.bundle();
    bundle.bind(&volume, "/volume", &[]);
    bundle.mount(json!({ "destination": "/volume/way/copied", "type": "tmpfs", "source": "tmpfs",
        "options": ["tmpcopyup", "mode=755"] }));
    bundle.args(["/probe", "exit", "0"]);
    while_exchanging(&way, &volume.join("way/link"), || {
        for _ in 0..40 {
            let _ = case.run(&bundle);
        }
    });
    untouched(&outside);
}

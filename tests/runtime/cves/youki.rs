//! What youki had.

use super::{runc_links, while_exchanging};
use tests::*;

// 2025-27612: capabilities given to a further process became inheritable, and so reached programs of any user.
#[test]
fn cve_2025_27612_capabilities_of_a_further_process_become_inheritable() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["process"]["capabilities"]["inheritable"] = json!(["CAP_KILL"]);
    let container = case.start_sleeping(&mut bundle);
    let report = container.exec_report(&["--cap", "CAP_SYS_TIME", "--cap", "CAP_NET_ADMIN"]);
    for set in ["inheritable", "ambient"] {
        let names = report.capabilities(set);
        assert!(!names.contains(&"CAP_SYS_TIME".to_owned()), "{set}: {names:?}");
        assert!(!names.contains(&"CAP_NET_ADMIN".to_owned()), "{set}: {names:?}");
    }
}

// 2025-54867: /proc or /sys of the image as a link, the mounts then land where it leads.
#[test]
fn cve_2025_54867_proc_or_sys_of_the_image_leads_elsewhere() {
    for to in ["/elsewhere", "elsewhere", "/proc/../elsewhere"] {
        runc_links::proc_and_sys_as_links(&case!(), |bundle, path| {
            bundle.directory("/elsewhere/self/attr").file("/elsewhere/self/attr/exec", "").link(path, to);
        });
    }
}

// 2025-62161: masks are bound from /dev/null, which whoever shares the volume exchanges for something else meanwhile.
// Bites: runc 1.1.5.
#[test]
fn cve_2025_62161_the_mask_itself_is_exchanged_while_it_is_made() {
    let case = case!();
    let dev = case.dir().join("dev");
    std::fs::create_dir(&dev).expect("make a volume");
    std::os::unix::fs::symlink("/proc/self/status", dev.join("null")).expect("link");
    std::fs::write(dev.join("other"), "the image's").expect("write");
    while_exchanging(&dev.join("null"), &dev.join("other"), || {
        for _ in 0..15 {
            let seen = runc_links::read_behind_masks(&case, |bundle| {
                bundle.bind(&dev, "/dev", &[]);
            });
            assert_eq!(seen, "");
        }
    });
}

// 2025-62596: a write to /proc is led elsewhere by components that are exchanged while they are walked.
#[test]
fn cve_2025_62596_a_write_to_proc_is_led_elsewhere_by_a_race() {
    let case = case!();
    let (volume, fake) = (case.dir().join("volume"), case.dir().join("fake"));
    std::fs::create_dir_all(volume.join("way")).expect("make directories");
    std::os::unix::fs::symlink("/proc/sys/net", volume.join("link")).expect("link");
    std::fs::create_dir(&fake).expect("make a directory");
    std::fs::write(fake.join("ip_forward"), "fake").expect("write");
    let mut bundle = case.bundle();
    bundle.bind(&volume, "/volume", &[]).bind(&fake, "/volume/way/ipv4", &[]);
    bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    bundle.args(["/probe", "exit", "0"]);
    while_exchanging(&volume.join("way"), &volume.join("link"), || {
        for _ in 0..30 {
            let _ = case.run(&bundle);
        }
    });
    let text = std::fs::read_to_string(fake.join("ip_forward")).expect("the fake");
    assert_eq!(text, "fake", "a parameter is written into what the container has");
}

//! Containers without a mount namespace of their own: what they mount is on their own tree, and goes with them.

use tests::*;

/// Mount points below a path, in a process's mount namespace.
fn below(process: &str, path: &std::path::Path) -> Vec<String> {
    let table = std::fs::read_to_string(format!("/proc/{process}/mountinfo")).expect("a mount table");
    let points = table.lines().filter_map(|line| line.split(' ').nth(4).map(str::to_owned));
    points.filter(|point| std::path::Path::new(point).starts_with(path)).collect()
}

#[test]
fn an_inherited_mount_namespace_gets_the_mounts_and_loses_them_again() {
    unless!("runc", "it leaves them on the host");
    unless!("crun", "it leaves them on the host");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.without_namespace("mount").file("/secret", "hidden").args(["/probe", "sleep"]);
    bundle.config["linux"]["maskedPaths"] = json!(["/secret"]);
    bundle.config["root"]["readonly"] = json!(true);
    let container = case.start(&bundle);
    assert!(below("thread-self", bundle.dir()).len() > 5);
    let report = container.exec_report(&[]);
    assert_eq!(
        report.namespace("mnt"),
        std::fs::read_link("/proc/thread-self/ns/mnt").expect("ours").to_string_lossy()
    );
    assert_eq!(report.device("/dev/null")["device"], json!([1, 3]));
    assert_eq!(container.exec(&["/probe", "read", "/secret"]).ok().stdout, "");
    assert_eq!(container.exec(&["/probe", "open", "/new", "wc"]).ok().stdout.trim(), "errno 30");
    container.delete();
    assert_eq!(below("thread-self", bundle.dir()), Vec::<String>::new());
}

#[test]
fn a_failed_create_takes_its_mounts_from_an_inherited_namespace() {
    unless!("runc", "it leaves them on the host");
    unless!("crun", "it leaves them on the host");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.without_namespace("mount").args(["/nothing"]);
    case.run(&bundle).exits(1).fails(&["no such file or directory"]);
    assert_eq!(below("thread-self", bundle.dir()), Vec::<String>::new());
}

#[test]
fn delete_leaves_what_others_mounted_at_the_root() {
    only_rt!("it keeps the mount's id");
    let case = case!();
    let mut bundle = case.bundle();
    let rootfs = bundle.host_path("/");
    let none = None::<&str>;
    nix::mount::mount(Some(&rootfs), &rootfs, none, nix::mount::MsFlags::MS_BIND, none)
        .expect("bind it onto itself");
    bundle.without_namespace("mount").args(["/probe", "exit", "0"]);
    case.run(&bundle).ok();
    assert_eq!(below("thread-self", bundle.dir()).len(), 1);
    nix::mount::umount(&rootfs).expect("it is still there");
}

#[test]
fn a_mount_namespace_that_is_joined_gets_the_mounts_and_loses_them_again() {
    unless!("runc", "it leaves them there");
    unless!("crun", "it leaves them there");
    let case = case!();
    let mut owner =
        std::process::Command::new("unshare").args(["--mount", "sleep", "300"]).spawn().expect("unshare");
    let pid = owner.id().to_string();
    let ours = std::fs::read_link("/proc/thread-self/ns/mnt").expect("ours");
    let path = format!("/proc/{pid}/ns/mnt");
    until("it has a namespace of its own", || {
        std::fs::read_link(&path).is_ok_and(|theirs| theirs != ours).then_some(())
    });
    let mut bundle = case.bundle();
    bundle.namespace("mount", Some(&path)).args(["/probe", "sleep"]);
    let container = case.start(&bundle);
    assert!(below(&pid, bundle.dir()).len() > 5);
    assert_eq!(below("thread-self", bundle.dir()), Vec::<String>::new());
    assert_eq!(
        container.exec_report(&[]).namespace("mnt"),
        std::fs::read_link(&path).expect("its").to_string_lossy()
    );
    container.delete();
    let left = below(&pid, bundle.dir());
    owner.kill().expect("end it");
    owner.wait().expect("reap it");
    assert_eq!(left, Vec::<String>::new());
}

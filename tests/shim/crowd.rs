//! Many at once: no end is lost, no output goes astray, nothing is left.

use std::io::Read;

use tests::shim::api::pod;
use tests::shim::{Client, POD, Shim, shell};
use tests::*;

const NEIGHBOURS: u32 = 4;
const LIVES: u32 = 6;

fn exec(shim: &Shim<'_>, container: &str, number: u32) {
    let mut client: Client = shim.client();
    let script = shell(container, &format!("e{number}"), &format!("echo {number}; exit {number}"));
    let exec = pod::ExecRequest { stdout: true, ..script };
    let started: pod::ExecResponse = client.ask(POD, "Exec", &exec);
    let mut text = String::new();
    let mut stdout = shim.client().into_stream(&started.token, "stdout");
    stdout.read_to_string(&mut text).expect("its output");
    assert_eq!(text, format!("{number}\n"));
    assert_eq!(shim.end_of(&exec).ended.map(|ended| ended.exit_code), i32::try_from(number).ok());
    let _: pod::Empty =
        client.ask(POD, "Remove", &pod::RemoveRequest { id: exec.id, exec_id: exec.exec_id, force: false });
}

/// One that ends by itself, at once or while it is being started; one that is stopped among its execs.
fn lives(shim: &Shim<'_>, bundles: &mut [Bundle]) {
    for (bundle, number) in bundles.iter_mut().zip(1u32..) {
        let code = 10 + number;
        let script = if number % 2 == 0 {
            format!("echo mine; exit {code}")
        } else {
            "echo mine; exec sleep 1000".into()
        };
        bundle.with_busybox().args(["/bin/sh", "-c", &script]);
        let log = shim.create(bundle);
        shim.start(bundle.id());
        if number % 2 == 0 {
            assert_eq!(shim.wait(bundle.id()).exit_code, i32::try_from(code).expect("a code"));
        } else {
            std::thread::scope(|threads| {
                for number in 1..4 {
                    let id = bundle.id();
                    threads.spawn(move || exec(shim, id, number));
                }
            });
            assert_eq!(shim.stop(bundle.id(), 0).exit_code, 137);
        }
        let text = std::fs::read_to_string(&log).expect("the log");
        assert!(text.ends_with(" stdout F mine\n") && text.lines().count() == 1, "{text:?}");
        shim.remove(bundle.id());
    }
}

#[test]
fn neighbours_live_and_end_without_a_mix_up() {
    let case = case!();
    let shim = case.shim();
    let mut bundles: Vec<Vec<Bundle>> =
        (0..NEIGHBOURS).map(|_| (0..LIVES).map(|_| case.bundle()).collect()).collect();
    std::thread::scope(|threads| {
        for bundles in &mut bundles {
            let shim = &shim;
            threads.spawn(move || lives(shim, bundles));
        }
    });
    assert_eq!(shim.watch(0, 0).containers, []);
    let threads = || std::fs::read_dir(format!("/proc/{}/task", shim.pid())).expect("its threads").count();
    until("each log's thread goes with its container", || (threads() == 1).then_some(()));
}

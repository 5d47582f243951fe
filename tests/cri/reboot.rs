//! The machine is restarted: records of what can't have survived say so, as a kubelet expects, and nothing is in the way of
//! what comes after.

use crate::surroundings;
use serde_json::json;

#[test]
fn after_a_restart_of_the_machine_nothing_runs_and_all_can_be_removed_and_made_again() {
    let mut here = surroundings!();
    let (pod, running, created, ended) = {
        let pod = here.pod("web").run();
        // As a kubelet's: nothing else is to be said of them.
        let hidden = |name| {
            let mut container = pod.container(name, &["sleep", "1000"]);
            let context = &mut container.config["linux"]["security_context"];
            (context["masked_paths"], context["readonly_paths"]) =
                (json!(["/proc/kcore"]), json!(["/proc/sys"]));
            container
        };
        let (running, created) = (hidden("running").run(), hidden("created").create());
        let ended = pod.script("ended", "exit 3").run();
        ended.wait();
        let [running, created, ended] = [running.id(), created.id(), ended.id()].map(str::to_owned);
        (pod.id().to_owned(), running, created, ended)
    };
    here.reboot();
    assert_eq!(here.words(["pods", "--quiet", "--no-trunc", "--state", "NotReady"]), [pod.as_str()]);
    assert!(here.words(["pods", "--quiet", "--state", "Ready"]).is_empty());
    assert!(here.words(["ps", "--quiet"]).is_empty());
    for id in [&running, &created] {
        let status = here.json(["inspect", id])["status"].clone();
        assert_eq!(
            (&status["state"], &status["exitCode"], &status["reason"], &status["message"]),
            (&"CONTAINER_EXITED".into(), &255.into(), &"Unknown".into(), &"the host was restarted".into()),
            "{status}"
        );
        assert_ne!(status["finishedAt"], "0001-01-01T00:00:00Z", "{status}");
    }
    let status = here.json(["inspect", &ended])["status"].clone();
    assert_eq!((&status["exitCode"], &status["reason"]), (&3.into(), &"Error".into()), "{status}");
    // The image is there, and the next pod runs beside the one that is no more.
    let next = here.pod("next").run();
    next.container("c", &["true"]).run().wait();
    here.crictl(["stopp", &pod]).run().ok();
    here.crictl(["rmp", &pod]).run().ok();
    assert!(here.words(["ps", "--all", "--quiet", "--pod", &pod]).is_empty());
}

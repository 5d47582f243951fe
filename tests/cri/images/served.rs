//! Images through a running server: who waits for a download, who gives it up, and `rt-cri images` with `--address`.

use super::registry::{Act, Image, Registry, archive, digest, noise};
use super::{names, program, two_layers};
use crate::surroundings;
use std::path::PathBuf;
use std::sync::{Arc, Barrier};
use tests::cri::Surroundings;
use tests::{Call, until};

/// In which nothing may happen.
const MOMENT: std::time::Duration = std::time::Duration::from_millis(300);

fn parts(place: &Surroundings) -> Vec<String> {
    let mut found = names(&layers(place));
    found.retain(|name| name.ends_with(".part"));
    found
}

fn layers(place: &Surroundings) -> PathBuf {
    place.places()[0].join("images/layers")
}

/// `rt-cri images --address …`
fn images<const N: usize>(place: &Surroundings, args: [&str; N]) -> Call {
    place.case().program(&program()).args(["images", "--address", "unix:///run/rt/cri.sock"]).args(args)
}

#[test]
fn many_who_want_one_image_share_its_downloads() {
    let (place, registry) = (surroundings!(), Registry::start());
    let image = two_layers();
    let name = registry.add("app:1", &image);
    let large = digest(&image.layers[1]);
    // It goes on after a while, so that all callers have come by then.
    registry.when(
        Box::leak(large.clone().into_boxed_str()),
        1,
        Act::Pause(1000, std::time::Duration::from_secs(2)),
    );
    let pulls: Vec<_> = (0..5).map(|_| place.crictl(["pull", &name]).spawn()).collect();
    until("all have asked", || (registry.asked("manifests/1") >= 5).then_some(()));
    for pull in pulls {
        pull.wait().ok();
    }
    assert_eq!(
        (registry.asked(&large), registry.asked(&digest(&image.layers[0]))),
        (1, 1),
        "{:?}",
        registry.log()
    );
}

/// Another registry's image whose config says that it has this one's first layer, and which has something else instead.
fn claims(registry: &Registry, of: &Image) -> (String, &'static str) {
    let other = Image::of(&[archive(&[("other", &noise(100_000))])], &serde_json::json!({}));
    let layers = std::iter::once(&other.layers[0]).chain(&of.layers[1..]).cloned().collect();
    let name = registry.add("claims:1", &Image::made(of.config.clone(), layers));
    (name, Box::leak(digest(&other.layers[0]).into_boxed_str()))
}

#[test]
fn nobody_waits_for_what_another_registry_sends() {
    let (place, registry, slow) = (surroundings!(), Registry::start(), Registry::start());
    let image = two_layers();
    let name = registry.add("app:1", &image);
    let (claiming, blob) = claims(&slow, &image);
    // Nor for another repository of the same registry.
    let (beside, same_blob) = claims(&registry, &image);
    for (registry, blob) in [(&slow, blob), (&registry, same_blob)] {
        registry.when(blob, usize::MAX, Act::Stall(1000));
    }
    let pulls = [&claiming, &beside].map(|name| place.crictl(["pull", name]).spawn());
    until("both have begun", || (slow.asked(blob) > 0 && registry.asked(same_blob) > 0).then_some(()));
    place.crictl(["pull", &name]).run().ok();
    assert_eq!(registry.asked(&digest(&image.layers[0])), 1, "{:?}", registry.log());
    for pull in pulls {
        pull.end(nix::sys::signal::Signal::SIGKILL);
    }
    until("the connections are closed", || (slow.gone() + registry.gone() == 2).then_some(()));
    until("what was unpacked is gone", || parts(&place).is_empty().then_some(()));
}

#[test]
fn two_registries_that_send_the_same_layer_make_one() {
    let (place, one, other) = (surroundings!(), Registry::start(), Registry::start());
    let image = two_layers();
    let names = [one.add("app:1", &image), other.add("app:1", &image)];
    let large = digest(&image.layers[1]);
    let all = Arc::new(Barrier::new(2));
    for registry in [&one, &other] {
        registry.when(Box::leak(large.clone().into_boxed_str()), 1, Act::Meet(1000, all.clone()));
    }
    let pulls: Vec<_> = names.iter().map(|name| place.crictl(["pull", name]).spawn()).collect();
    for pull in pulls {
        pull.wait().ok();
    }
    assert_eq!((one.asked(&large), other.asked(&large)), (1, 1));
    for name in &names {
        place.crictl(["inspecti", name]).run().ok();
    }
    images(&place, ["fsck"]).run().ok();
}

#[test]
fn a_pull_that_nobody_waits_for_ends_and_leaves_nothing() {
    let (place, registry) = (surroundings!(), Registry::start());
    let image = two_layers();
    let name = registry.add("app:1", &image);
    registry.when(Box::leak(digest(&image.layers[1]).into_boxed_str()), 1, Act::Stall(100_000));
    let (first, second) = (place.crictl(["pull", &name]).spawn(), place.crictl(["pull", &name]).spawn());
    until("the large layer has begun", || (!parts(&place).is_empty()).then_some(()));
    until("both have asked", || (registry.asked("manifests/1") >= 2).then_some(()));
    // The second needs a moment to find the first's download.
    assert!(tests::within(MOMENT, || (registry.gone() > 0).then_some(())).is_none(), "nobody gave up");
    first.end(nix::sys::signal::Signal::SIGKILL);
    assert_eq!(registry.gone(), 0);
    second.end(nix::sys::signal::Signal::SIGKILL);
    until("the connection is closed", || (registry.gone() == 1).then_some(()));
    until("what was unpacked is gone", || parts(&place).is_empty().then_some(()));
    // Taken up again as if nothing had been.
    place.crictl(["pull", &name]).run().ok();
}

#[test]
fn layers_that_wait_for_the_network_keep_no_other_from_its_turn() {
    let (place, registry) = (surroundings!(), Registry::start());
    // As many as are brought at a time; there may be fewer cores.
    let archives: Vec<_> =
        (0..4u8).map(|at| archive(&[("noise", &noise(200_000 + usize::from(at)))])).collect();
    let image = Image::of(&archives, &serde_json::json!({}));
    let name = registry.add("app:1", &image);
    let all = Arc::new(Barrier::new(archives.len()));
    for layer in &image.layers {
        registry.when(Box::leak(digest(layer).into_boxed_str()), 1, Act::Meet(50_000, all.clone()));
    }
    place.crictl(["pull", &name]).run().ok();
    assert_eq!(registry.asked("/blobs/"), archives.len() + 1, "{:?}", registry.log());
}

#[test]
fn the_command_line_asks_the_server() {
    let (place, registry) = (surroundings!(), Registry::start());
    let image = two_layers();
    let name = registry.add("app:1", &image);
    let pulled = images(&place, ["pull", &name]).run().ok();
    assert_eq!(pulled.stdout.trim(), image.id());
    assert!(images(&place, ["list"]).run().ok().stdout.contains(&name));
    assert!(place.words(["images", "-q"]).contains(&image.id()));
    images(&place, ["remove", &name]).run().ok();
    assert!(!images(&place, ["list"]).run().ok().stdout.contains(&name));
    images(&place, ["pull", &format!("{}/none:1", registry.host())]).run().fails(&["404"]);
    let busy =
        place.case().program(&program()).args(["images", "--root"]).arg(&place.places()[0]).arg("list");
    busy.run().fails(&["another process has it", "ask it by --address"]);
}

#[test]
fn archives_and_proof_go_through_the_server() {
    let (place, registry) = (surroundings!(), Registry::start());
    let (image, dir) = (two_layers(), place.case().dir());
    let name = registry.add("app:1", &image);
    // Another store, which keeps what `save` needs.
    super::images_in(place.case(), "apart", ["pull", &name]).run().ok();
    super::images_in(place.case(), "apart", ["save", "-o", "app.tar", &name]).cwd(dir).run().ok();
    let loaded = images(&place, ["load", "app.tar"]).cwd(dir).run().ok();
    assert_eq!(loaded.stdout.trim(), name);
    assert!(place.words(["images", "-q"]).contains(&image.id()));
    images(&place, ["load", "none.tar"]).cwd(dir).run().fails(&["open", "none.tar"]);
    let unkept = images(&place, ["save", "-o", "again.tar", &name]).cwd(dir).run();
    unkept.fails(&["its compressed form was not kept", "set keep_blobs under [registry]"]);
    assert!(!dir.join("again.tar").exists());
    images(&place, ["fsck"]).run().ok();
    let layers = layers(&place);
    let high =
        names(&layers).into_iter().map(|layer| layers.join(layer).join("fs/high")).find(|file| file.exists());
    std::fs::write(high.expect("a file"), "hugh").expect("damage");
    let found = images(&place, ["fsck"]).run().exits(1);
    assert!(found.stdout.contains("\"high\" has other content"), "{found}");
    images(&place, ["fsck", "--repair"]).run().ok();
    assert!(!images(&place, ["list"]).run().ok().stdout.contains(&name));
    images(&place, ["load", "app.tar"]).cwd(dir).run().ok();
    images(&place, ["fsck"]).run().ok();
}

/// Both layers' bars, then the id.
#[track_caller]
fn bars_are_seen(call: Call, registry: &Registry, image: &super::Image) {
    let digests: Vec<_> = image.layers.iter().map(|layer| digest(layer)).collect();
    for digest in &digests {
        let words = Box::leak(digest.clone().into_boxed_str());
        registry.when(words, 1, Act::Pause(100, std::time::Duration::from_secs(1)));
    }
    let (mut ours, theirs) = tests::terminal::pair(24, 120);
    let pull = call.terminal(theirs).spawn();
    let mut seen = String::new();
    while !digests.iter().all(|digest| seen.contains(&digest[7..19])) {
        let more = ours.read_until(" of ");
        assert!(!more.is_empty(), "closed before a bar of each layer was seen: {seen:?}");
        seen += &more;
    }
    seen += &ours.read_until(&image.id());
    assert!(seen.contains('█') || seen.contains('░'), "{seen:?}");
    pull.wait().ok();
}

#[test]
fn a_terminal_sees_a_bar_for_each_layer_with_and_without_a_server() {
    let (place, registry) = (surroundings!(), Registry::start());
    let image = two_layers();
    let name = registry.add("app:1", &image);
    bars_are_seen(images(&place, ["pull", &name]), &registry, &image);
    bars_are_seen(super::images_in(place.case(), "apart", ["pull", &name]), &registry, &image);
}

#[test]
fn a_pull_by_command_line_that_is_interrupted_is_given_up_by_the_server() {
    let (place, registry) = (surroundings!(), Registry::start());
    let image = two_layers();
    let name = registry.add("app:1", &image);
    let large = digest(&image.layers[1]);
    registry.when(Box::leak(large.clone().into_boxed_str()), 1, Act::Stall(100_000));
    let pull = images(&place, ["pull", &name]).spawn();
    until("the large layer was asked for", || (registry.asked(&large) == 1).then_some(()));
    until("the large layer has begun", || (!parts(&place).is_empty()).then_some(()));
    pull.end(nix::sys::signal::Signal::SIGINT);
    until("the connection is closed", || (registry.gone() == 1).then_some(()));
    until("what was unpacked is gone", || parts(&place).is_empty().then_some(()));
}

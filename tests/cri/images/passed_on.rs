//! What is meant for one host goes to no other: credentials, headers of hosts.toml, authorities; and how far a request is passed on.

use super::docker::{Docker, Door};
use super::registry::{Act, Registry, digest};
use super::{images, two_layers};
use crate::surroundings;
use std::time::Duration;
use tests::{Case, case, json};

/// `user:secret`
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

fn hosts(case: &Case, host: &str, text: &str) {
    let dir = case.dir().join("certs.d").join(host);
    std::fs::create_dir_all(&dir).expect("make directory");
    std::fs::write(dir.join("hosts.toml"), text).expect("write hosts.toml");
}

fn docker_config(case: &Case, auths: &tests::Value) -> String {
    let dir = case.dir().join("docker-config");
    std::fs::create_dir_all(&dir).expect("make directory");
    std::fs::write(dir.join("config.json"), json!({"auths": auths}).to_string()).expect("write config.json");
    dir.to_string_lossy().into_owned()
}

#[test]
fn credentials_and_headers_end_at_a_redirect_to_another_host() {
    let (case, registry, other) = (case!(), Registry::start(), Registry::start());
    let image = two_layers();
    let name = registry.add("app:1", &image);
    other.add("app:1", &image);
    let text = "[header]\nx-secret = 'mine'\nauthorization = 'Also mine'\n";
    hosts(&case, &registry.host(), &format!("server = \"http://{}\"\n{text}", registry.host()));
    registry.when("manifests", 1, Act::Want("Basic realm=\"x\"".into()));
    for layer in &image.layers {
        let to = format!("http://{}/v2/app/blobs/{}", other.host(), digest(layer));
        registry.when(leak(digest(layer)), usize::MAX, Act::Redirect(to));
    }
    // By way of another and back: what was left behind stays there.
    let config = digest(&image.config);
    let back = format!("http://{}/back/app/blobs/{config}", registry.host());
    registry.also_at("/v2", "/back");
    other.when(leak(config.clone()), 1, Act::Redirect(back));
    registry.when(
        leak(format!("/v2/app/blobs/{config}")),
        1,
        Act::Redirect(format!("http://{}/v2/app/blobs/{config}", other.host())),
    );
    images(&case, ["pull", "--creds", "user:secret", &name]).run().ok();
    assert_eq!(registry.header("x-secret"), ["mine"]);
    assert!(registry.header("authorization").contains(&BASIC.to_owned()), "{:?}", registry.shown());
    assert_eq!(other.asked("/blobs/"), 3, "{:?}", other.log());
    for header in ["x-secret", "authorization"] {
        assert_eq!(other.header(header), [""; 0], "{header}");
    }
    let bare = registry.bare("/back/");
    assert_eq!(bare, 1, "{:?}", registry.log());
}

#[test]
fn a_host_that_a_request_was_passed_on_to_can_not_ask_for_credentials() {
    let image = two_layers();
    for (wish, tokens) in [("Bearer realm=\"http://HOST/token\",service=\"x\"", 1), ("Basic realm=\"x\"", 0)]
    {
        let case = Case::new(&format!("images::passed_on::other_wants_{tokens}"));
        let (registry, other) = (Registry::start(), Registry::start());
        let name = registry.add("app:1", &image);
        let to = format!("http://{}/v2/app/blobs/{}", other.host(), digest(&image.layers[1]));
        registry.when(leak(digest(&image.layers[1])), usize::MAX, Act::Redirect(to));
        other.when("/v2/", usize::MAX, Act::Want(wish.replace("HOST", &other.host())));
        images(&case, ["pull", "--creds", "user:secret", &name]).run().fails(&["401"]);
        // What anybody gets it is asked for, once, and that token alone it is shown.
        let shown = vec!["Bearer right"; tokens];
        assert_eq!(
            (other.asked("/token"), other.header("authorization")),
            (tokens, shown.into_iter().map(str::to_owned).collect()),
            "it is asked for a token as often as anybody asks: {:?}",
            other.log()
        );
    }
}

/// A name of somebody's own, behind which a registry stands that wants a token of anybody.
#[test]
fn a_registry_that_another_passes_all_on_to_sells_its_own_tokens() {
    let (case, vanity, real, third) = (case!(), Registry::start(), Registry::start(), Registry::start());
    let image = two_layers();
    let name = vanity.add("app:1", &image);
    real.add("app:1", &image);
    third.add("app:1", &image);
    // It keeps a layer elsewhere.
    let kept = digest(&image.layers[1]);
    real.when(
        leak(kept.clone()),
        usize::MAX,
        Act::Redirect(format!("http://{}/v2/app/blobs/{kept}", third.host())),
    );
    real.when("/v2/app/", usize::MAX, Act::Challenge(vec!["right".to_owned()]));
    let blobs = [image.id()].into_iter().chain(image.layers.iter().map(|layer| digest(layer)));
    let manifests = ["1".to_owned(), digest(&image.manifest)].map(|which| format!("manifests/{which}"));
    for path in manifests.into_iter().chain(blobs.map(|blob| format!("blobs/{blob}"))) {
        let to = format!("http://{}/v2/app/{path}", real.host());
        vanity.when(leak(path), usize::MAX, Act::Redirect(to));
    }
    images(&case, ["pull", "--creds", "user:secret", &name]).run().ok();
    assert!(real.asked("/blobs/") >= 3, "{:?}", real.log());
    let shown = real.header("authorization");
    assert!(!shown.is_empty() && shown.iter().all(|value| value == "Bearer right"), "{shown:?}");
    assert_eq!(vanity.header("authorization"), [""; 0], "it asked for nothing");
    assert!(third.asked("/blobs/") >= 1, "{:?}", third.log());
    assert_eq!(third.header("authorization"), [""; 0], "it is shown the token for another host");
}

#[test]
fn a_redirect_within_a_host_keeps_what_is_for_it() {
    let (case, registry) = (case!(), Registry::start());
    let image = two_layers();
    let name = registry.add("app:1", &image);
    registry.also_at("/v2", "/elsewhere");
    registry.when("/v2/app/manifests/1", 1, Act::Want("Basic realm=\"x\"".into()));
    registry.when("/v2/app/manifests/1", usize::MAX, Act::Redirect("/elsewhere/app/manifests/1".into()));
    images(&case, ["pull", "--creds", "user:secret", &name]).run().ok();
    assert!(registry.asked("/elsewhere/") > 0 && registry.bare("/elsewhere/") == 0, "{:?}", registry.log());
}

#[test]
fn a_request_is_passed_on_ten_times_and_no_more() {
    let (case, registry) = (case!(), Registry::start());
    let name = registry.add("app:1", &two_layers());
    registry.when("manifests", usize::MAX, Act::Redirect("/v2/app/manifests/1".into()));
    images(&case, ["pull", &name]).run().fails(&["passed on more than 10 times"]);
    assert_eq!(registry.asked("manifests"), 11, "{:?}", registry.log());
    let registry = Registry::start();
    let name = registry.add("app:1", &two_layers());
    registry.when("manifests", usize::MAX, Act::Redirect("file:///etc/passwd".into()));
    images(&case, ["pull", &name]).run().fails(&["passed on to what is no address of http or https"]);
}

#[test]
fn credentials_of_the_images_host_go_to_no_mirror_without_tls() {
    let (case, mirror, server) = (case!(), Registry::start(), Registry::start());
    let image = two_layers();
    server.add("app:1", &image);
    mirror.add("app:1", &image);
    let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", server.host(), mirror.host());
    hosts(&case, "registry.test", &text);
    mirror.when("/v2/", 1000, Act::Want("Basic realm=\"x\"".into()));
    server.when("manifests", 1, Act::Want("Basic realm=\"x\"".into()));
    let name = "registry.test/app:1";
    images(&case, ["pull", "--creds", "user:secret", name]).run().ok();
    assert_eq!(mirror.header("authorization"), [""; 0], "{:?}", mirror.log());
    assert_eq!(server.header("authorization"), [BASIC]);
    images(&case, ["remove", name]).run().ok();
    // Nor those of docker's configuration, which has the mirror's own for it.
    server.when("manifests", 1, Act::Want("Basic realm=\"x\"".into()));
    let config = docker_config(&case, &json!({"registry.test": {"auth": "dXNlcjpzZWNyZXQ="}}));
    images(&case, ["pull", name]).env("DOCKER_CONFIG", &config).run().ok();
    assert_eq!(mirror.header("authorization"), [""; 0], "{:?}", mirror.log());
    images(&case, ["remove", name]).run().ok();
    let own = json!({"registry.test": {"auth": "dXNlcjpzZWNyZXQ="}, mirror.host(): {"auth": "bTpt"}});
    let config = docker_config(&case, &own);
    server.when("manifests", 1, Act::Want("Basic realm=\"x\"".into()));
    images(&case, ["pull", name]).env("DOCKER_CONFIG", &config).run().ok();
    assert_eq!(mirror.header("authorization"), ["Basic bTpt"], "{:?}", mirror.log());
    images(&case, ["remove", name]).run().ok();
    // A mirror that sells tokens gets none of them either, and is asked as anybody asks.
    let mirror = Registry::start();
    mirror.add("app:1", &image);
    let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", server.host(), mirror.host());
    hosts(&case, "registry.test", &text);
    mirror.when("/v2/", usize::MAX, Act::Challenge(vec!["right".into()]));
    images(&case, ["pull", "--creds", "user:secret", name]).run().ok();
    assert_eq!(mirror.header("authorization"), ["Bearer right"], "{:?}", mirror.log());
}

#[test]
fn credentials_go_to_no_token_server_without_tls_but_the_registrys_own_host() {
    let (case, registry, proxy) = (case!(), Registry::start(), Registry::start());
    let name = registry.add("app:1", &two_layers());
    registry.when(
        "/v2/",
        usize::MAX,
        Act::Want("Bearer realm=\"http://auth.test/token\",service=\"x\"".into()),
    );
    let pull = images(&case, ["pull", "--creds", "user:secret", &name]);
    let pull = pull.env("HTTP_PROXY", &format!("http://{}", proxy.host())).env("NO_PROXY", "127.0.0.1");
    pull.run().fails(&["send credentials to http://auth.test/token: not over https"]);
    assert_eq!(proxy.log(), [""; 0]);
}

#[test]
fn a_token_server_passes_credentials_on_to_nobody() {
    let (case, registry, other) = (case!(), Registry::start(), Registry::start());
    let image = two_layers();
    let name = registry.add("app:1", &image);
    registry.when("/sell", usize::MAX, Act::Redirect(format!("http://{}/token", other.host())));
    let realm = format!("http://{}/sell", registry.host());
    registry.when("/v2/app/manifests", 1, Act::Want(format!("Bearer realm=\"{realm}\",service=\"x\"")));
    images(&case, ["pull", "--creds", "user:secret", &name]).run().ok();
    assert_eq!((other.asked("/token"), other.header("authorization")), (1, Vec::new()), "{:?}", other.log());
    images(&case, ["remove", &name]).run().ok();
    other.forget();
    let config = docker_config(&case, &json!({registry.host(): {"identitytoken": "mine"}}));
    registry.when("/v2/app/manifests", 1, Act::Want(format!("Bearer realm=\"{realm}\",service=\"x\"")));
    let pull = images(&case, ["pull", &name]).env("DOCKER_CONFIG", &config);
    pull.run().fails(&["which is another host than the credentials are for"]);
    assert_eq!((other.log(), other.shown()), (Vec::new(), vec![]), "the form went on");
}

#[test]
fn an_authority_that_is_replaced_in_place_counts_from_then_on() {
    let place = surroundings!();
    let ca = place.case().dir().join("ca.pem");
    for _ in ["one authority", "another of the same name"] {
        let registry = Docker::start(place.case(), Door::Open, &two_layers());
        std::fs::copy(registry.file("ca.crt"), &ca).expect("replace the authority");
        let text = format!("server = \"https://{}\"\nca = {:?}\n", registry.host(), ca.display().to_string());
        hosts(place.case(), &registry.host(), &text);
        let name = format!("{}/app:1", registry.host());
        place.crictl(["pull", &name]).run().ok();
        place.crictl(["rmi", &name]).run().ok();
        drop(registry);
        std::fs::remove_dir_all(place.case().dir().join("docker")).expect("the next one makes its own");
    }
}

#[test]
fn a_registry_that_sends_a_byte_now_and_then_is_as_good_as_silent() {
    let image = two_layers();
    for (part, words) in [
        ("manifest", "manifests/sha256"),
        ("config", leak(image.id())),
        ("layer", leak(digest(&image.layers[1]))),
    ] {
        let (case, registry) = (Case::new(&format!("images::passed_on::drip_{part}")), Registry::start());
        let name = registry.add("app:1", &image);
        registry.when(words, usize::MAX, Act::Drip(Duration::from_millis(300)));
        images(&case, ["pull", &name]).run().fails(&[
            "RegistryUnavailable",
            "bytes came in 2 s",
            "least_bytes_per_second",
        ]);
    }
}

#[test]
fn a_slow_registry_holds_up_no_other() {
    let (place, slow, other) = (surroundings!(), Registry::start(), Registry::start());
    let layers: Vec<_> =
        (0..6).map(|at| super::registry::archive(&[("noise", &super::noise(10_000 + at))])).collect();
    let image = super::Image::of(&layers, &json!({}));
    let name = slow.add("app:1", &image);
    for layer in &image.layers {
        slow.when(leak(digest(layer)), usize::MAX, Act::Drip(Duration::from_secs(5)));
    }
    let pull = place.crictl(["pull", &name]).spawn();
    tests::until("as many layers as may come are coming", || (slow.asked("/blobs/") == 5).then_some(()));
    let name = other.add("app:1", &two_layers());
    place.crictl(["--timeout", "20s", "pull", &name]).run().ok();
    pull.end(nix::sys::signal::Signal::SIGKILL);
    tests::until("nobody waits for the slow ones any more", || (slow.gone() == 4).then_some(()));
}

//! Registries that don't let everybody in, or that are reached by detours: TLS, passwords, tokens, helpers, mirrors, proxies.

use super::docker::{Docker, Door};
use super::registry::{Act, Image, Registry, digest};
use super::{content, images, two_layers};
use std::path::Path;
use tests::{Call, Case, case, json, write_program};

/// `hosts.toml` of a host.
fn hosts(case: &Case, host: &str, text: &str) {
    let dir = case.dir().join("certs.d").join(host);
    std::fs::create_dir_all(&dir).expect("make directory");
    std::fs::write(dir.join("hosts.toml"), text).expect("write hosts.toml");
}

fn shown(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// Its own host over TLS, with more lines.
fn trusted(case: &Case, registry: &Docker, more: &str) {
    let (host, ca) = (registry.host(), shown(&registry.file("ca.crt")));
    hosts(case, &host, &format!("server = \"https://{host}\"\nca = {ca}\n{more}"));
}

/// A pull with this `config.json` of docker's.
fn with_docker_config(case: &Case, name: &str, config: &tests::Value) -> Call {
    let dir = case.dir().join("docker-config");
    std::fs::create_dir_all(&dir).expect("make directory");
    std::fs::write(dir.join("config.json"), config.to_string()).expect("write config.json");
    let path = format!("{}:{}", case.dir().join("bin").display(), std::env::var("PATH").unwrap_or_default());
    images(case, ["pull", name]).env("DOCKER_CONFIG", &dir.to_string_lossy()).env("PATH", &path)
}

#[track_caller]
fn pulled_and_removed(case: &Case, call: Call, name: &str) {
    call.run().ok();
    assert_eq!(content(case, "high").expect("a file"), b"high");
    images(case, ["remove", name]).run().ok();
}

#[test]
fn a_certificate_is_judged_by_what_hosts_toml_says() {
    let case = case!();
    let registry = Docker::start(&case, Door::Open, &two_layers());
    let (host, name) = (registry.host(), format!("{}/app:1", registry.host()));
    hosts(&case, &host, &format!("server = \"https://{host}\"\n"));
    let output = images(&case, ["pull", &name]).run().fails(&["RegistryUnavailable", "certificate"]);
    assert!(output.stderr.contains("name its authority as `ca` in the host's hosts.toml"), "{output}");
    trusted(&case, &registry, "");
    pulled_and_removed(&case, images(&case, ["pull", &name]), &name);
    hosts(&case, &host, &format!("server = \"https://{host}\"\nskip_verify = true\n"));
    pulled_and_removed(&case, images(&case, ["pull", &name]), &name);
}

#[test]
fn a_registry_for_those_with_certificates_gets_ours() {
    let case = case!();
    let registry = Docker::start(&case, Door::Certificate, &two_layers());
    let name = format!("{}/app:1", registry.host());
    trusted(&case, &registry, "");
    images(&case, ["pull", &name]).run().fails(&["RegistryUnavailable", "ertificate"]);
    let (cert, key) = (shown(&registry.file("server.crt")), shown(&registry.file("server.key")));
    trusted(&case, &registry, &format!("client = [[{cert}, {key}]]\n"));
    pulled_and_removed(&case, images(&case, ["pull", &name]), &name);
}

#[test]
fn a_password_is_taken_from_the_command_from_dockers_configuration_or_a_program_that_it_names() {
    let case = case!();
    let registry = Docker::start(&case, Door::Password, &two_layers());
    let (host, name) = (registry.host(), format!("{}/app:1", registry.host()));
    trusted(&case, &registry, "");
    let refused = images(&case, ["pull", &name]).run().fails(&["it wants a user and a password"]);
    assert!(refused.stderr.contains("give credentials"), "{refused}");
    images(&case, ["pull", "--creds", "user:wrong", &name]).run().fails(&["401"]);
    pulled_and_removed(&case, images(&case, ["pull", "--creds", "user:secret", &name]), &name);
    let bin = case.dir().join("bin");
    std::fs::create_dir_all(&bin).expect("make directory");
    let program = bin.join("docker-credential-test");
    let text = format!(
        "#!/bin/sh\n[ \"$1 $(cat)\" = 'get {host}' ] || {{ echo credentials not found in native keychain; exit 1; }}\n\
         echo '{{\"ServerURL\": \"{host}\", \"Username\": \"user\", \"Secret\": \"secret\"}}'\n"
    );
    write_program(&program, text);
    for config in [
        json!({"auths": {host.clone(): {"auth": "dXNlcjpzZWNyZXQ="}}}),
        json!({"auths": {format!("https://{host}/v2/"): {"username": "user", "password": "secret"}}}),
        json!({"credHelpers": {host.clone(): "test"}}),
        json!({"credsStore": "test"}),
        // The helper of another host is not asked, and knows nothing of ours.
        json!({"credHelpers": {"elsewhere.example": "none"}, "auths": {host: {"auth": "dXNlcjpzZWNyZXQ="}}}),
    ] {
        pulled_and_removed(&case, with_docker_config(&case, &name, &config), &name);
    }
    let absent = json!({"credsStore": "absent"});
    with_docker_config(&case, &name, &absent)
        .run()
        .fails(&["ask docker-credential-absent for", "No such file"]);
}

#[test]
fn tokens_are_bought_with_what_there_is_or_sent_as_they_are() {
    let (case, registry) = (case!(), Registry::start());
    let name = registry.add("app:1", &two_layers());
    registry.when("/v2/", usize::MAX, Act::Challenge(vec!["right".into()]));
    let auth = |fields: tests::Value| json!({"auths": {registry.host(): fields}});
    let basic = auth(json!({"auth": "dXNlcjpzZWNyZXQ="}));
    pulled_and_removed(&case, with_docker_config(&case, &name, &basic), &name);
    assert!(registry.shown().contains(&"Basic dXNlcjpzZWNyZXQ=".to_owned()), "{:?}", registry.shown());
    let refresh = auth(json!({"identitytoken": "mine&yours"}));
    pulled_and_removed(&case, with_docker_config(&case, &name, &refresh), &name);
    let form = |shown: &String| {
        shown.contains("grant_type=refresh_token") && shown.contains("refresh_token=mine%26yours")
    };
    assert!(registry.shown().iter().any(form), "{:?}", registry.shown());
    registry.forget();
    let bearer = auth(json!({"registrytoken": "right"}));
    pulled_and_removed(&case, with_docker_config(&case, &name, &bearer), &name);
    assert_eq!(registry.asked("/token"), 0, "{:?}", registry.log());
}

#[test]
fn a_mirror_with_a_path_of_its_own_is_asked_there() {
    let (case, mirror) = (case!(), Registry::start());
    mirror.add("app:1", &two_layers());
    mirror.also_at("/v2", "/deep/proxy");
    let text = format!(
        "server = \"http://127.0.0.1:1\"\n[host.\"http://{}/deep/proxy\"]\noverride_path = true\n\
         [host.\"http://{}/deep/proxy\".header]\nauthorization = \"Mine\"\n",
        mirror.host(),
        mirror.host()
    );
    hosts(&case, "registry.test", &text);
    pulled_and_removed(&case, images(&case, ["pull", "registry.test/app:1"]), "registry.test/app:1");
    assert!(mirror.log().iter().all(|line| line.contains(" /deep/proxy/app/")), "{:?}", mirror.log());
    assert_eq!(mirror.shown(), ["Mine"]);
}

#[test]
fn proxies_of_the_environment_are_used_but_for_hosts_that_are_exempt() {
    let (case, proxy) = (case!(), Registry::start());
    proxy.add("app:1", &two_layers());
    let (address, name) = (format!("http://{}", proxy.host()), "registry.test/app:1");
    hosts(&case, "registry.test", "server = \"http://registry.test\"\n");
    let pull = || images(&case, ["pull", name]);
    pulled_and_removed(&case, pull().env("HTTP_PROXY", &address), name);
    assert_eq!(proxy.asked(" http://registry.test/v2/app/blobs"), 3, "{:?}", proxy.log());
    proxy.forget();
    let exempt =
        pull().env("HTTP_PROXY", &address).env("NO_PROXY", "other.test,.registry.test,registry.test");
    exempt.run().fails(&["RegistryUnavailable"]);
    assert_eq!(proxy.log(), [""; 0]);
}

#[test]
fn https_goes_through_a_proxy_untouched() {
    let (case, proxy) = (case!(), Registry::start());
    let registry = Docker::start(&case, Door::Open, &two_layers());
    let name = format!("{}/app:1", registry.host());
    trusted(&case, &registry, "");
    let pull = images(&case, ["pull", &name]).env("HTTPS_PROXY", &format!("http://{}", proxy.host()));
    pulled_and_removed(&case, pull, &name);
    let log = proxy.log();
    assert!(
        !log.is_empty() && log.iter().all(|line| *line == format!("CONNECT {}", registry.host())),
        "{log:?}"
    );
}

/// What `cosign sign --key` puts beside an image: the signed text as a layer, its signature as an annotation.
fn signature(case: &Case, registry: &Registry, image: &Image, name: &str) {
    let payload = json!({"critical": {"type": "cosign container image signature", "identity": {"docker-reference": name},
        "image": {"docker-manifest-digest": digest(&image.manifest)}}, "optional": null});
    let payload = payload.to_string().into_bytes();
    std::fs::write(case.dir().join("payload"), &payload).expect("write payload");
    openssl(case, "dgst -sha256 -sign cosign.key -out signature payload");
    openssl(case, "base64 -A -in signature -out signature.text");
    let made = std::fs::read_to_string(case.dir().join("signature.text")).expect("a signature");
    let config = b"{}".to_vec();
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": digest(&payload),
            "size": payload.len(), "annotations": {"dev.cosignproject.cosign/signature": made.trim()}}]});
    let manifest = manifest.to_string().into_bytes();
    let tag = digest(&image.manifest).replace(':', "-");
    registry.add(&format!("app:{tag}.sig"), &Image { manifest, config, layers: vec![payload] });
}

fn openssl(case: &Case, args: &str) {
    let run = std::process::Command::new("openssl").args(args.split(' ')).current_dir(case.dir()).output();
    let output = run.expect("openssl runs");
    assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn images_are_taken_as_the_policy_says() {
    let (case, registry, image) = (case!(), Registry::start(), two_layers());
    let name = registry.add("app:1", &image);
    for name in ["cosign", "other"] {
        openssl(&case, &format!("ecparam -name prime256v1 -genkey -noout -out {name}.key"));
        openssl(&case, &format!("ec -in {name}.key -pubout -out {name}.pub"));
    }
    let policy = case.dir().join("policy.json");
    let hosts = case.dir().join("certs.d");
    std::fs::write(
        case.dir().join("cri.toml"),
        format!("[registry]\nconfig_path = [{hosts:?}]\npolicy = {policy:?}\nattempts = 1\n"),
    )
    .expect("write configuration");
    let write = |requirement: &tests::Value| {
        let text = json!({"default": [{"type": "reject"}], "transports": {"docker": {format!("{}/app", registry.host()): [requirement]}}});
        std::fs::write(&policy, text.to_string()).expect("write policy");
    };
    let signed = |key: &str, identity: &str| {
        let key = case.dir().join(key);
        json!({"type": "sigstoreSigned", "keyPath": key, "signedIdentity": {"type": identity}})
    };
    write(&json!({"type": "insecureAcceptAnything"}));
    pulled_and_removed(&case, images(&case, ["pull", &name]), &name);
    let words = "rt-cri: SignatureValidationFailed: pull image";
    let refused = |name: &str, why: &str| {
        let output = images(&case, ["pull", name]).run().fails(&[why]);
        assert!(output.stderr.starts_with(words), "{output}");
        assert_eq!(images(&case, ["list", "--json"]).run().ok().stdout.trim(), "[]");
    };
    registry.forget();
    refused(&format!("{}/elsewhere:1", registry.host()), "policy rejects");
    assert_eq!(registry.log(), [""; 0]);
    write(&signed("cosign.pub", "matchRepository"));
    refused(&name, "it has no signature");
    let repository = name.trim_end_matches(":1");
    signature(&case, &registry, &image, repository);
    pulled_and_removed(&case, images(&case, ["pull", &name]), &name);
    write(&signed("other.pub", "matchRepository"));
    refused(&name, "it is signed with another key");
    write(&signed("cosign.pub", "matchExact"));
    refused(&name, "the signature is for another name");
    signature(&case, &registry, &image, &name);
    pulled_and_removed(&case, images(&case, ["pull", &name]), &name);
    // Another image under the same tag is not what was signed.
    let other = Image::of(&[super::registry::archive(&[("high", b"evil")])], &json!({}));
    registry.add("app:1", &other);
    refused(&name, "it has no signature");
    write(&json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/none"}));
    images(&case, ["pull", &name]).run().fails(&["read policy", "known are insecureAcceptAnything"]);
}

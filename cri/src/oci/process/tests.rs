//! What runs, with which environment and where.

use super::*;

fn image() -> Config {
    let mut config = Config::default();
    config
        .set_entrypoint(Some(vec!["/entry".into()]))
        .set_cmd(Some(vec!["cmd".into()]))
        .set_env(Some(vec!["PATH=/image".into(), "A=image".into(), "broken".into()]))
        .set_working_dir(Some("work".into()));
    config
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn a_command_replaces_both_and_arguments_replace_cmd() {
    for (command, arguments, expected) in [
        (&[][..], &[][..], &["/entry", "cmd"][..]),
        (&[], &["x"], &["/entry", "x"]),
        (&["/c"], &[], &["/c"]),
        (&["/c"], &["x"], &["/c", "x"]),
    ] {
        let config =
            api::ContainerConfig { command: words(command), args: words(arguments), ..Default::default() };
        assert_eq!(args(&config, Some(&image())).unwrap(), expected);
    }
    let only_args = api::ContainerConfig { args: words(&["/a"]), ..Default::default() };
    assert_eq!(args(&only_args, None).unwrap(), ["/a"]);
}

#[test]
fn the_last_value_of_a_name_wins() {
    let variable = |key: &str, value: &str| api::KeyValue { key: key.into(), value: value.into() };
    let config = api::ContainerConfig {
        envs: vec![variable("A", "mine"), variable("B", "x=y"), variable("A", "last")],
        tty: true,
        ..Default::default()
    };
    assert_eq!(
        env(&config, Some(&image()), "pod").unwrap(),
        ["PATH=/image", "TERM=xterm", "HOSTNAME=pod", "A=last", "B=x=y"]
    );
    assert_eq!(env(&api::ContainerConfig::default(), None, "h").unwrap(), [PATH, "HOSTNAME=h"]);
}

#[test]
fn the_working_directory_is_the_requests_then_the_images() {
    let config = |path: &str| api::ContainerConfig { working_dir: path.into(), ..Default::default() };
    assert_eq!(cwd(&config("/here"), Some(&image())).unwrap(), "/here");
    assert_eq!(cwd(&config(""), Some(&image())).unwrap(), "/work");
    assert_eq!(cwd(&config(""), None).unwrap(), "/");
    assert_eq!(
        cwd(&config("x"), None).unwrap_err().to_string(),
        "working_dir \"x\" is not an absolute path (such as /app)"
    );
}

#[test]
fn mistakes_are_named() {
    let none = api::ContainerConfig::default();
    assert_eq!(
        args(&none, None).unwrap_err().to_string(),
        "no command: neither the request nor the image names one (set command, or give the image an ENTRYPOINT or CMD)"
    );
    let empty = api::ContainerConfig { command: words(&[""]), ..Default::default() };
    assert_eq!(args(&empty, None).unwrap_err().to_string(), "command[0] is empty");
    let nul = api::ContainerConfig { command: words(&["a\0"]), ..Default::default() };
    assert_eq!(args(&nul, None).unwrap_err().to_string(), "command or args contain a NUL");
    for (key, value, message) in [
        ("", &b"x"[..], "envs[0]: \"\" is no name of a variable"),
        ("A=B", b"x", "envs[0]: \"A=B\" is no name of a variable"),
        ("A", b"\xff", "envs[0]: the value of \"A\" is not UTF-8, or holds a NUL"),
        ("A", b"\0", "envs[0]: the value of \"A\" is not UTF-8, or holds a NUL"),
    ] {
        let config = api::ContainerConfig {
            envs: vec![api::KeyValue { key: key.into(), value: value.into() }],
            ..Default::default()
        };
        assert_eq!(env(&config, None, "h").unwrap_err().to_string(), message);
    }
}

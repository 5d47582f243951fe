//! What is kept in the repository, tried again: seeds are taken, inputs of `corpus` and `found` hold what their target promises.
//!
//! `hack/fuzz seeds` writes the seeds into `corpus`.

use std::fs;
use std::path::Path;

use crate::{Outcome, TARGETS, folder, within};

#[test]
fn good_inputs_are_taken() {
    let mut wrong = Vec::new();
    for target in &TARGETS {
        for (name, bytes) in (target.seeds)() {
            let path = folder("corpus", target).join(name);
            if within(target, &bytes) != Outcome::Taken {
                wrong.push(format!("{} {name} is refused", target.name));
            }
            if fs::read(&path).unwrap_or_default() != bytes {
                wrong.push(format!(
                    "{} is not the seed any more: `hack/fuzz seeds` writes it",
                    path.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "RT_FUZZ_TELL=1 tells why: {wrong:#?}");
}

#[test]
fn inputs_that_are_kept_hold() {
    let mut tried = 0;
    for target in &TARGETS {
        for folder in [folder("corpus", target), folder("found", target)] {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for path in entries.map(|entry| entry.expect("an entry").path()) {
                println!("{}", path.display()); // shown when it fails
                within(target, &fs::read(&path).expect("an input"));
                tried += 1;
            }
        }
    }
    assert!(tried >= TARGETS.len(), "only {tried} inputs are kept");
}

#[test]
fn each_target_is_run_by_hack_fuzz_and_has_a_dictionary() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hack/fuzz");
    let script = fs::read_to_string(script).expect("hack/fuzz");
    let list = script.lines().find_map(|line| line.strip_prefix("GUIDED=(")?.strip_suffix(')'));
    let mut listed: Vec<&str> = list.expect("GUIDED=(…)").split(' ').collect();
    let mut known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    listed.sort_unstable();
    known.sort_unstable();
    assert_eq!(listed, known);
    for target in &TARGETS {
        assert!(folder("words", target).is_file(), "words/{} is not there", target.name);
        assert!(folder("corpus", target).is_dir(), "corpus/{} is not there", target.name);
    }
}

#[test]
fn an_input_that_costs_too_much_fails() {
    let target = crate::Target {
        name: "greedy",
        run: |input| {
            drop(vec![1_u8; 100 * input.len()]);
            Outcome::Taken
        },
        seeds: Vec::new,
        form: crate::Form::Bytes,
        memory: (1 << 20, 10),
    };
    within(&target, &[0; 1000]);
    let failed = std::panic::catch_unwind(|| within(&target, &[0; 100_000]));
    assert!(failed.is_err(), "ten megabytes for a tenth of one");
}

//! The program of `hack/fuzz`: libFuzzer over one target, which `RT_FUZZ_TARGET` names. Arguments are libFuzzer's.
#![no_main]

use std::sync::OnceLock;

use fuzz::{Target, mutate, within};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fn target() -> &'static Target {
    static TARGET: OnceLock<&Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("RT_FUZZ_TARGET").expect("RT_FUZZ_TARGET: which target?");
        fuzz::target(&name).unwrap_or_else(|| panic!("RT_FUZZ_TARGET={name}: no such target"))
    })
}

/// With `RT_BLESS` the target's seeds are written, and must be taken.
fn prepare() {
    let target = target();
    if std::env::var_os("RT_BLESS").is_some() {
        fuzz::write_seeds(target).expect("write seeds");
        for (name, bytes) in (target.seeds)() {
            let outcome = within(target, &bytes);
            println!("{} {name}: {outcome:?}", target.name);
            assert_eq!(outcome, fuzz::Outcome::Taken, "a seed must be taken");
        }
        std::process::exit(0);
    }
}

fuzz_target!(init: prepare(), |input: &[u8]| {
    within(target(), input);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let bytes = |input: &[u8]| {
        let mut room = vec![0; max_size.max(input.len())];
        room[..input.len()].copy_from_slice(input);
        let size = fuzzer_mutate(&mut room, input.len(), max_size);
        room.truncate(size);
        room
    };
    let altered = mutate::alter(target().form, &data[..size], max_size, u64::from(seed), bytes);
    let kept = altered.len().min(max_size);
    data[..kept].copy_from_slice(&altered[..kept]);
    kept
});

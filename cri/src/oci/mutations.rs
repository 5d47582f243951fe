//! Requests of pods and containers, mutated field by field from good ones: each must end in a spec, twice the same, or in an error.
//!
//! `RT_FUZZ_SECONDS` says for how long (1), `RT_FUZZ_SEED` with which number to begin. Guided by coverage: `hack/fuzz requests`.

use std::time::{Duration, Instant};

use prost::Message;

use super::fields::{NUMBERS, Part, WORDS, parse, written};
use super::fuzzing::{VENDOR, container_spec, outcome, rich_container, rich_pod, sandbox_spec};
use super::{Driver, Made};
use crate::api;
use crate::error::Result;

struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most.max(1)
    }
}

/// One field somewhere in it is another, gone, there twice, or new.
fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let Some(mut parts) = parse(bytes) else {
        return WORDS[random.below(WORDS.len())].as_bytes().to_vec();
    };
    let at = random.below(parts.len());
    match (random.below(12), parts[at].1.clone()) {
        (0, _) => drop(parts.remove(at)),
        (1, _) => parts.push(parts[at].clone()),
        (2, _) => {
            let number = NUMBERS[random.below(NUMBERS.len())];
            parts.push((1 + random.below(20) as u64, Part::Number(number)));
        }
        (3, _) => {
            let word = WORDS[random.below(WORDS.len())];
            parts.push((1 + random.below(20) as u64, Part::Bytes(word.into())));
        }
        (4, Part::Bytes(value)) => parts[at].1 = Part::Bytes(value.repeat(1 + random.below(300))),
        (5, Part::Bytes(_)) => parts[at].1 = Part::Bytes(WORDS[random.below(WORDS.len())].into()),
        (_, Part::Bytes(value)) => parts[at].1 = Part::Bytes(mutate(&value, random)),
        (_, Part::Number(_)) => parts[at].1 = Part::Number(NUMBERS[random.below(NUMBERS.len())]),
    }
    written(&parts)
}

/// In the rich pod, of an image without a config.
fn spec_in_pod(config: &api::ContainerConfig, driver: Driver) -> Result<Made> {
    container_spec((config, &rich_pod()), driver, None, ("/etc/cdi/a.json", VENDOR.as_bytes()))
}

#[test]
fn specs() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let end = Instant::now() + Duration::from_secs(number("RT_FUZZ_SECONDS").unwrap_or(1));
    let first = number("RT_FUZZ_SEED").unwrap_or(1);
    let (pod, container) = (rich_pod().encode_to_vec(), rich_container().encode_to_vec());
    outcome(sandbox_spec(&rich_pod(), Driver::Cgroupfs)).expect("the rich pod is a good one");
    outcome(spec_in_pod(&rich_container(), Driver::Cgroupfs)).expect("the rich container is a good one");
    let (mut seed, mut made) = (first, 0);
    while Instant::now() < end || seed < first + 500 {
        // Shown when it panics.
        println!("RT_FUZZ_SEED={seed}");
        let mut random = Random(seed);
        let [mut pod, mut container] = [pod.clone(), container.clone()];
        for _ in 0..1 + random.below(3) {
            pod = mutate(&pod, &mut random);
            container = mutate(&container, &mut random);
        }
        let driver = if random.below(4) == 0 { Driver::Systemd } else { Driver::Cgroupfs };
        if let Ok(pod) = api::PodSandboxConfig::decode(pod.as_slice()) {
            let said = outcome(sandbox_spec(&pod, driver));
            assert_eq!(said, outcome(sandbox_spec(&pod, driver)), "the same pod, another spec");
            made += usize::from(said.is_ok());
        }
        if let Ok(container) = api::ContainerConfig::decode(container.as_slice()) {
            let said = outcome(spec_in_pod(&container, driver));
            assert_eq!(said, outcome(spec_in_pod(&container, driver)), "the same container, another spec");
            made += usize::from(said.is_ok());
        }
        seed += 1;
    }
    assert!(made > 50, "only {made} specs of {} inputs were made: little was tried", seed - first);
}

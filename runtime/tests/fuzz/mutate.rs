//! A source of mutations: the same seed, the same input.

use serde_json::{Value, json};

/// Numbers and bytes from a seed. (splitmix64)
pub struct Mutator {
    state: u64,
}

/// Where parsers stumble.
const WORDS: [&str; 16] = [
    "",
    "/",
    "..",
    "/../../x",
    "a\0b",
    "-1",
    "18446744073709551616",
    "9223372036854775807",
    "\u{fffd}\u{10ffff}",
    "rbind",
    "ro",
    "SCMP_ACT_NOTIFY",
    "CAP_NOTHING",
    "0-4294967295",
    "/proc/self/fd/3",
    "x=y=z",
];

impl Mutator {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit.max(1)
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// A JSON text with a few values changed; rarely no JSON any more.
    pub fn json(&mut self, text: &str) -> Vec<u8> {
        let mut value: Value = serde_json::from_str(text).unwrap_or(Value::Null);
        for _ in 0..1 + self.below(4) {
            self.change(&mut value);
        }
        let text = value.to_string().into_bytes();
        if self.below(8) == 0 { self.bytes(text) } else { text }
    }

    /// Goes down to some value and changes it.
    fn change(&mut self, value: &mut Value) {
        let deeper = self.below(8) > 0;
        match value {
            Value::Object(map) if deeper && !map.is_empty() => {
                let at = self.below(map.len());
                let Some(key) = map.keys().nth(at).cloned() else { return };
                if self.below(12) == 0 {
                    map.remove(&key);
                } else if let Some(value) = map.get_mut(&key) {
                    self.change(value);
                }
            }
            Value::Array(list) if deeper && !list.is_empty() => {
                let at = self.below(list.len());
                match self.below(12) {
                    0 => drop(list.remove(at)),
                    1 => list.push(list[at].clone()),
                    2 => list.swap(0, at),
                    _ => self.change(&mut list[at]),
                }
            }
            Value::String(text) if deeper => {
                let bytes = self.bytes(text.clone().into_bytes());
                *text = String::from_utf8_lossy(&bytes).into_owned();
            }
            value => *value = self.value(),
        }
    }

    fn value(&mut self) -> Value {
        match self.below(9) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(self.next() as i64),
            3 => json!(self.next()),
            4 => json!(-1),
            5 => json!([]),
            6 => json!({}),
            7 => json!(self.next() as f64 / 3.0),
            _ => json!(self.pick(&WORDS)),
        }
    }

    /// A few bytes changed, cut out, doubled or put in.
    pub fn bytes(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..1 + self.below(3) {
            let at = self.below(bytes.len() + 1);
            match self.below(5) {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                3 => {
                    let word = self.pick(&WORDS);
                    bytes.splice(at..at, word.bytes());
                }
                _ => {
                    let tail = bytes[at..].to_vec();
                    bytes.extend(tail);
                }
            }
        }
        bytes
    }

    /// The words of a command line, the program's name first, some of them changed, missing, doubled or in another place.
    pub fn words(&mut self, line: &str) -> Vec<Vec<u8>> {
        let mut words: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        for _ in 0..1 + self.below(4) {
            let at = self.below(words.len());
            match self.below(5) {
                0 if words.len() > 1 => drop(words.remove(at)),
                1 => words.push(words[at].clone()),
                2 => words.swap(0, at),
                3 => words[at] = self.pick(&WORDS).as_bytes().to_vec(),
                _ => words[at] = self.bytes(words[at].clone()),
            }
        }
        words
    }
}

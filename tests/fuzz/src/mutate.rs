//! How an input is altered: as bytes by libFuzzer, or as what it means to be, so that more than the outermost check is tried.

#[path = "../../../runtime/tests/fuzz/mutate.rs"]
#[allow(dead_code)] // command lines are mutated there alone
mod values;

use cri::oci::fields::{NUMBERS, Part, WORDS, parse, written};
use values::Mutator;

/// What inputs of a target mean to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Bytes.
    Bytes,
    /// JSON: values are altered too.
    Json,
    /// An archive: headers get the checksums that they should have.
    Tar,
    /// Protobuf: fields are altered too.
    Protobuf,
}

/// Alters `input`; `bytes` does it byte by byte. Gives at most `most` bytes.
pub fn alter(
    form: Form,
    input: &[u8],
    most: usize,
    seed: u64,
    bytes: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Vec<u8> {
    let mut random = Mutator::new(seed);
    let structured = random.below(2) == 0;
    let altered = match form {
        Form::Json if structured => std::str::from_utf8(input)
            .ok()
            .filter(|text| serde_json::from_str::<serde_json::Value>(text).is_ok())
            .map(|text| random.json(text)),
        Form::Protobuf if structured => parse(input).map(|parts| alter_fields(parts, &mut random, 0)),
        // One in eight keeps the wrong checksums.
        Form::Tar if random.below(8) > 0 => {
            let mut altered = if structured { blocks(input, &mut random) } else { None }.unwrap_or_default();
            if altered.is_empty() {
                return with_checksums(bytes(input), most);
            }
            altered = with_checksums(altered, most);
            Some(altered)
        }
        _ => None,
    };
    match altered.filter(|altered| altered.len() <= most && !altered.is_empty()) {
        Some(altered) => altered,
        None => bytes(input),
    }
}

const BLOCK: usize = 512;

/// Walks the headers as a reader would, and makes their checksums right.
fn with_checksums(mut archive: Vec<u8>, most: usize) -> Vec<u8> {
    archive.truncate(most);
    let mut at = 0;
    while let Some(block) = archive.get_mut(at..at + BLOCK) {
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        let size = std::str::from_utf8(&block[124..135])
            .ok()
            .and_then(|text| u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok())
            .unwrap_or(0);
        // Links, directories and devices have no content, whatever they say.
        let content = if matches!(block[156], b'1'..=b'6') { 0 } else { size };
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        at += BLOCK + usize::try_from(content).unwrap_or(usize::MAX / 2).min(most).next_multiple_of(BLOCK);
    }
    archive
}

/// Whole blocks doubled, moved or left out, or one field of a header set.
fn blocks(archive: &[u8], random: &mut Mutator) -> Option<Vec<u8>> {
    let count = archive.len() / BLOCK;
    if count == 0 {
        return None;
    }
    let mut altered = archive.to_vec();
    let (one, two) = (random.below(count) * BLOCK, random.below(count) * BLOCK);
    match random.below(5) {
        0 => drop(altered.drain(one..one + BLOCK)),
        1 | 2 => {
            // A header with what follows it, some of the time many of them.
            let end = (one + (1 + random.below(4)) * BLOCK).min(count * BLOCK);
            let copied = archive[one..end].repeat(if random.below(8) == 0 { 16 } else { 1 });
            altered.splice(two..two, copied);
        }
        3 => altered[one + 156] = random.pick(b"0123456 7LKxgSDV\0"),
        _ => {
            // Name, mode, uid, gid, size, mtime, link, magic, major, minor, prefix.
            let fields = [
                (0, 100),
                (100, 8),
                (108, 8),
                (116, 8),
                (124, 12),
                (136, 12),
                (157, 100),
                (257, 8),
                (329, 8),
                (337, 8),
                (345, 155),
            ];
            let (start, length) = random.pick(&fields);
            let words: [&[u8]; 16] = [
                b"",
                b"..",
                b"../outside/f",
                b"/mnt/outside/f",
                b"a",
                b"d/a",
                b"a/../..",
                b".wh..",
                b".wh..wh..opq",
                b".wh.a",
                b"00000000010",
                b"77777777777",
                b"\x80\0\0\0\0\0\0\0\0\0\0\x01",
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                b"ustar  \0",
                b"up/outside/f",
            ];
            let word = random.pick(&words);
            let field = &mut altered[one + start..one + start + length];
            field.fill(0);
            let kept = word.len().min(length);
            field[..kept].copy_from_slice(&word[..kept]);
        }
    }
    Some(altered)
}

/// One field somewhere in it is another, gone, there twice, or new.
fn alter_fields(mut parts: Vec<(u64, Part)>, random: &mut Mutator, depth: usize) -> Vec<u8> {
    let at = random.below(parts.len());
    let word = |random: &mut Mutator| Part::Bytes(random.pick(&WORDS).into());
    match (random.below(12), parts[at].1.clone()) {
        (0, _) => drop(parts.remove(at)),
        (1, _) => parts.push(parts[at].clone()),
        (2, _) => parts.push((1 + random.below(20) as u64, Part::Number(random.pick(&NUMBERS)))),
        (3, _) => {
            let new = (1 + random.below(20) as u64, word(random));
            parts.push(new);
        }
        (4, Part::Bytes(_)) => parts[at].1 = word(random),
        (_, Part::Bytes(value)) => {
            parts[at].1 = match parse(&value).filter(|_| depth < 8) {
                Some(inner) => Part::Bytes(alter_fields(inner, random, depth + 1)),
                None => Part::Bytes(random.bytes(value)),
            };
        }
        (_, Part::Number(_)) => parts[at].1 = Part::Number(random.pick(&NUMBERS)),
    }
    written(&parts)
}

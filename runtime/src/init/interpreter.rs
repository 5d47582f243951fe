//! Which other files the kernel opens to run a file: the interpreter of a script, the dynamic loader of an ELF program.
//!
//! It reads as the kernel does, bounded by what that takes, and opens none of them. What is no program is said by execve.

use std::ffi::CString;
use std::os::fd::OwnedFd;

/// What a file asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Interpreter {
    /// It may be a script itself.
    OfScript(CString),
    /// Its own loader, if it has one, is not asked for.
    Loader(CString),
}

/// KERNEL: include/uapi/linux/binfmts.h: BINPRM_BUF_SIZE: a script's first line is not longer.
const LINE: usize = 256;
/// Holds the program headers of most programs, and the loader's name.
const HEAD: usize = 1024;
/// KERNEL: fs/binfmt_elf.c: load_elf_phdrs
const MOST_HEADERS: usize = 65536;
/// PT_INTERP
const LOADER: u64 = 3;

/// All of them; mostly one or none.
pub fn all(file: &OwnedFd) -> Vec<Interpreter> {
    let mut head = [0; HEAD];
    let read = rustix::io::pread(file, &mut head, 0).unwrap_or(0);
    let head = &head[..read];
    if let Some(name) = of_script(&head[..read.min(LINE)]) {
        return vec![Interpreter::OfScript(name)];
    }
    let part = |at: u64, length: usize| -> Option<Vec<u8>> {
        let start = usize::try_from(at).ok()?;
        if let Some(part) = head.get(start..start.checked_add(length)?) {
            return Some(part.to_vec());
        }
        let mut part = vec![0; length];
        (rustix::io::pread(file, &mut part, at) == Ok(length)).then_some(part)
    };
    // KERNEL: e_machine says which layout is meant, and EI_CLASS nothing: so both are tried, whatever the file calls itself.
    let loaders = [&WIDE, &NARROW].into_iter().filter_map(|layout| layout.loader(head, part));
    loaders.map(Interpreter::Loader).collect()
}

/// KERNEL: fs/binfmt_script.c
fn of_script(text: &[u8]) -> Option<CString> {
    let line = text.strip_prefix(b"#!")?.split(|byte| matches!(byte, b'\n' | 0)).next()?;
    let name = line.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())?;
    CString::new(name).ok()
}

/// Where a number stands, and its bytes.
type Field = (usize, usize);

/// Of an ELF file. KERNEL: include/uapi/linux/elf.h
struct Layout {
    headers: Field,
    header_size: Field,
    header_count: Field,
    /// Bytes of a program header.
    header: usize,
    offset: Field,
    size: Field,
}

const WIDE: Layout = Layout {
    headers: (32, 8),
    header_size: (54, 2),
    header_count: (56, 2),
    header: 56,
    offset: (8, 8),
    size: (32, 8),
};

const NARROW: Layout = Layout {
    headers: (28, 4),
    header_size: (42, 2),
    header_count: (44, 2),
    header: 32,
    offset: (4, 4),
    size: (16, 4),
};

impl Layout {
    fn loader(&self, head: &[u8], part: impl Fn(u64, usize) -> Option<Vec<u8>>) -> Option<CString> {
        head.strip_prefix(b"\x7fELF")?;
        if number(head, self.header_size)? != self.header as u64 {
            return None;
        }
        let length = number(head, self.header_count)? as usize * self.header;
        if length > MOST_HEADERS {
            return None;
        }
        let headers = part(number(head, self.headers)?, length)?;
        // The first alone counts.
        let header = headers.chunks(self.header).find(|header| number(header, (0, 4)) == Some(LOADER))?;
        let size = number(header, self.size).filter(|size| (2..=libc::PATH_MAX as u64).contains(size))?;
        let name = part(number(header, self.offset)?, size as usize)?;
        let name = name.strip_suffix(b"\0")?.split(|byte| *byte == 0).next()?;
        CString::new(name).ok()
    }
}

/// In this machine's order of bytes.
fn number(bytes: &[u8], (at, length): Field) -> Option<u64> {
    let bytes = bytes.get(at..at + length)?;
    Some(match length {
        2 => u16::from_ne_bytes(bytes.try_into().ok()?).into(),
        4 => u32::from_ne_bytes(bytes.try_into().ok()?).into(),
        _ => u64::from_ne_bytes(bytes.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> OwnedFd {
        let file = rustix::fs::memfd_create("program", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&file, bytes).unwrap();
        file
    }

    fn put(bytes: &mut [u8], (at, length): Field, value: u64) {
        bytes[at..at + length].copy_from_slice(&value.to_ne_bytes()[..length]);
    }

    /// A program whose second header names a loader; its headers stand at `headers`, the name at `name`.
    fn elf(layout: &Layout, class: u8, (headers, name): (usize, usize), text: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 8192];
        bytes[..5].copy_from_slice(&[0x7f, b'E', b'L', b'F', class]);
        put(&mut bytes, layout.headers, headers as u64);
        put(&mut bytes, layout.header_size, layout.header as u64);
        put(&mut bytes, layout.header_count, 2);
        let header = &mut bytes[headers + layout.header..];
        put(header, (0, 4), LOADER);
        put(header, layout.offset, name as u64);
        put(header, layout.size, text.len() as u64);
        bytes[name..name + text.len()].copy_from_slice(text);
        bytes
    }

    #[test]
    fn loaders_are_found_near_and_far_whatever_the_class() {
        let wanted = [Interpreter::Loader(c"/ld".to_owned())];
        for layout in [&WIDE, &NARROW] {
            for class in [0, 1, 2] {
                for places in [(64, 512), (64, 5000), (4000, 512), (4000, 7000)] {
                    assert_eq!(
                        all(&file(&elf(layout, class, places, b"/ld\0"))),
                        wanted,
                        "{class} {places:?}"
                    );
                }
            }
            // The kernel takes the name up to its first NUL.
            assert_eq!(all(&file(&elf(layout, 2, (64, 512), b"/ld\0x\0"))), wanted);
        }
    }

    #[test]
    fn broken_programs_have_none() {
        let whole = elf(&WIDE, 2, (64, 512), b"/ld\0");
        assert_eq!(all(&file(&elf(&WIDE, 2, (64, 512), b"/ld"))), []);
        assert_eq!(all(&file(&elf(&WIDE, 2, (64, 512), b"\0"))), []);
        for length in [0, 3, 4, 20, 60, 100, 513] {
            assert_eq!(all(&file(&whole[..length])), [], "{length}");
        }
        for (field, value) in [(WIDE.headers, u64::MAX), (WIDE.header_count, 0xffff), (WIDE.header_size, 57)]
        {
            let mut bytes = whole.clone();
            put(&mut bytes, field, value);
            assert_eq!(all(&file(&bytes)), [], "{value:#x}");
        }
    }

    #[test]
    fn scripts_have_the_first_word_of_their_line() {
        for text in ["#!/bin/sh", "#! /bin/sh -e\nmore", "#!\t/bin/sh\0x"] {
            assert_eq!(
                all(&file(text.as_bytes())),
                [Interpreter::OfScript(c"/bin/sh".to_owned())],
                "{text:?}"
            );
        }
        assert_eq!(all(&file(b"#!\n/bin/sh")), []);
    }
}

//! Numbers of system calls by name, for all architectures at once: a hash table that is made when this is compiled.
//!
//! The names and numbers are the crate `syscalls`'s; its own look-up compares with every name of the same length, which for a
//! profile of 400 names costs more than all the rest. Made of offsets and not of pointers: the position-independent program
//! would relocate those at each start.

use syscalls::{aarch64, arm, x86, x86_64};

use super::arch::{Arch, X32_BIT};

/// What a name stands for.
#[derive(Clone, Copy)]
pub struct Entry {
    start: u16,
    length: u8,
    /// On 32-bit x86 also reached through `socketcall` or `ipc`.
    multiplexed: Option<Multiplexed>,
    /// By [`column()`]; [`NONE`] where the architecture lacks it.
    numbers: [u16; ARCHS],
}

/// A call that 32-bit x86 makes through another one, whose first argument tells which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Multiplexed {
    /// Argument 0 of socketcall(2). KERNEL: include/uapi/linux/net.h
    Socketcall(u8),
    /// Argument 0 of ipc(2). KERNEL: include/uapi/linux/ipc.h
    Ipc(u8),
}

/// All numbers are below this, but for [`ARM_PRIVATE`].
pub const SPAN: usize = 560;
/// First of ARM's own system calls, of which there are fewer than 16. KERNEL: arch/arm/include/uapi/asm/unistd.h
pub const ARM_PRIVATE: u32 = 0xf_0000;

const ARCHS: usize = 5;
const NONE: u16 = u16::MAX;
/// Marks numbers above [`ARM_PRIVATE`].
const PRIVATE: u16 = 0x8000;

static TABLE: Table = Table::new();

/// The entry of a name; `None`: no architecture here has such a system call.
pub fn find(name: &str) -> Option<&'static Entry> {
    let name = name.as_bytes();
    let mut slot = slot(name);
    loop {
        let entry = TABLE.entries.get(usize::from(TABLE.slots[slot]))?;
        let start = usize::from(entry.start);
        if is_equal(&TABLE.names[start..start + usize::from(entry.length)], name) {
            return Some(entry);
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// Eight bytes at a time: musl's memcmp goes byte by byte.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match (a.first_chunk::<8>(), b.first_chunk::<8>(), a.last_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(a_head), Some(b_head), Some(a_tail), Some(b_tail)) => {
            a_head == b_head && a_tail == b_tail && (a.len() <= 16 || a[8..a.len() - 8] == b[8..b.len() - 8])
        }
        _ => a.iter().eq(b),
    }
}

impl Entry {
    /// Its number on `arch`, with x32's bit.
    pub fn number(&self, arch: Arch) -> Option<u32> {
        let number = self.numbers[column(arch)];
        match number {
            NONE => None,
            number if number & PRIVATE != 0 => Some(ARM_PRIVATE + u32::from(number & !PRIVATE)),
            number if arch == Arch::X32 => Some(X32_BIT | u32::from(number)),
            number => Some(number.into()),
        }
    }

    /// How 32-bit x86 reaches it too.
    pub fn multiplexed(&self, arch: Arch) -> Option<Multiplexed> {
        self.multiplexed.filter(|_| arch == Arch::X86)
    }
}

const fn column(arch: Arch) -> usize {
    match arch {
        Arch::X86_64 => 0,
        Arch::X86 => 1,
        Arch::X32 => 2,
        Arch::Aarch64 => 3,
        Arch::Arm => 4,
    }
}

const SLOTS: usize = 2048;
const MOST_NAMES: usize = 500;
const MOST_LETTERS: usize = 6144;

struct Table {
    names: [u8; MOST_LETTERS],
    letters: usize,
    entries: [Entry; MOST_NAMES],
    count: usize,
    /// Index into `entries`, or [`NONE`]; open addressing.
    slots: [u16; SLOTS],
}

macro_rules! add_all {
    ($table:ident, $arch:ident, $at:expr) => {
        let mut id = 0;
        while id <= $arch::Sysno::last().id() {
            if let Some(call) = $arch::Sysno::new(id as usize) {
                $table.add(call.name().as_bytes(), $at, id as u16);
            }
            id += 1;
        }
    };
}

impl Table {
    const fn new() -> Self {
        let empty = Entry { start: 0, length: 0, multiplexed: None, numbers: [NONE; ARCHS] };
        let mut table = Self {
            names: [0; MOST_LETTERS],
            letters: 0,
            entries: [empty; MOST_NAMES],
            count: 0,
            slots: [NONE; SLOTS],
        };
        add_all!(table, x86_64, column(Arch::X86_64));
        add_all!(table, x86, column(Arch::X86));
        add_all!(table, aarch64, column(Arch::Aarch64));
        add_all!(table, arm, column(Arch::Arm));
        table.derive_x32();
        table.correct_arm();
        table.multiplex();
        table
    }

    /// x32 has x86_64's numbers, but of some calls numbers of its own from 512 on, and some not at all.
    /// KERNEL: arch/x86/entry/syscalls/syscall_64.tbl, the lines of abi `x32` and `64`.
    const fn derive_x32(&mut self) {
        const FIRST_OWN: u16 = 512;
        const OWN: [u16; 36] = [
            13, 15, 16, 19, 20, 45, 46, 47, 59, 101, 127, 128, 129, 131, 222, 244, 246, 247, 273, 274, 278,
            279, 295, 296, 297, 299, 307, 310, 311, 54, 55, 206, 209, 322, 327, 328,
        ];
        const ABSENT: [u16; 14] = [134, 156, 174, 177, 178, 180, 205, 211, 214, 215, 236, 335, 336, 453];
        let mut at = 0;
        while at < self.count {
            let number = self.entries[at].numbers[column(Arch::X86_64)];
            let mut x32 = number;
            let mut own = 0;
            while own < OWN.len() {
                if OWN[own] == number {
                    x32 = FIRST_OWN + own as u16;
                }
                if own < ABSENT.len() && ABSENT[own] == number {
                    x32 = NONE;
                }
                own += 1;
            }
            self.entries[at].numbers[column(Arch::X32)] = x32;
            at += 1;
        }
    }

    /// What the crate's tables for ARM lack or have too much, compared with the kernel's.
    const fn correct_arm(&mut self) {
        let mut at = 0;
        while at < self.count {
            // KERNEL: scripts/syscall.tbl: 403 to 423 are for 32 bits only.
            let number = self.entries[at].numbers[column(Arch::Aarch64)];
            if number >= 403 && number <= 423 {
                self.entries[at].numbers[column(Arch::Aarch64)] = NONE;
            }
            at += 1;
        }
        self.add(b"newfstatat", column(Arch::Aarch64), 79);
        self.add(b"fstatat", column(Arch::Aarch64), NONE);
        let private: [&[u8]; 6] = [b"breakpoint", b"cacheflush", b"usr26", b"usr32", b"set_tls", b"get_tls"];
        let mut at = 0;
        while at < private.len() {
            self.add(private[at], column(Arch::Arm), PRIVATE | (at as u16 + 1));
            at += 1;
        }
        self.add(b"break", column(Arch::X86), 17);
    }

    const fn multiplex(&mut self) {
        let socketcall: [&[u8]; 20] = [
            b"socket",
            b"bind",
            b"connect",
            b"listen",
            b"accept",
            b"getsockname",
            b"getpeername",
            b"socketpair",
            b"send",
            b"recv",
            b"sendto",
            b"recvfrom",
            b"shutdown",
            b"setsockopt",
            b"getsockopt",
            b"sendmsg",
            b"recvmsg",
            b"accept4",
            b"recvmmsg",
            b"sendmmsg",
        ];
        let mut at = 0;
        while at < socketcall.len() {
            self.entry(socketcall[at]).multiplexed = Some(Multiplexed::Socketcall(at as u8 + 1));
            at += 1;
        }
        let ipc: [(&[u8], u8); 12] = [
            (b"semop", 1),
            (b"semget", 2),
            (b"semctl", 3),
            (b"semtimedop", 4),
            (b"msgsnd", 11),
            (b"msgrcv", 12),
            (b"msgget", 13),
            (b"msgctl", 14),
            (b"shmat", 21),
            (b"shmdt", 22),
            (b"shmget", 23),
            (b"shmctl", 24),
        ];
        let mut at = 0;
        while at < ipc.len() {
            self.entry(ipc[at].0).multiplexed = Some(Multiplexed::Ipc(ipc[at].1));
            at += 1;
        }
    }

    const fn add(&mut self, name: &[u8], column: usize, number: u16) {
        assert!(number == NONE || number & PRIVATE != 0 || (number as usize) < SPAN);
        self.entry(name).numbers[column] = number;
    }

    const fn entry(&mut self, name: &[u8]) -> &mut Entry {
        let at = match self.find(name, slot(name)) {
            Ok(at) => at,
            Err(free) => {
                let at = self.count;
                self.slots[free] = at as u16;
                self.entries[at].start = self.letters as u16;
                self.entries[at].length = name.len() as u8;
                let mut letter = 0;
                while letter < name.len() {
                    self.names[self.letters] = name[letter];
                    self.letters += 1;
                    letter += 1;
                }
                self.count += 1;
                at
            }
        };
        &mut self.entries[at]
    }

    /// Index of the entry, or the free slot where it would be entered. [`find`], but slow: while the table is made.
    const fn find(&self, name: &[u8], mut slot: usize) -> Result<usize, usize> {
        while self.slots[slot] != NONE {
            let at = self.slots[slot] as usize;
            if self.is_named(&self.entries[at], name) {
                return Ok(at);
            }
            slot = (slot + 1) % SLOTS;
        }
        Err(slot)
    }

    const fn is_named(&self, entry: &Entry, name: &[u8]) -> bool {
        if entry.length as usize != name.len() {
            return false;
        }
        let mut letter = 0;
        while letter < name.len() {
            if self.names[entry.start as usize + letter] != name[letter] {
                return false;
            }
            letter += 1;
        }
        true
    }
}

/// Where a name's search begins: its first and last eight bytes and its length, mixed by a multiplication.
const fn slot(name: &[u8]) -> usize {
    let (head, tail) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
        _ => {
            let mut word = 0;
            let mut at = 0;
            while at < name.len() {
                word = word << 8 | name[at] as u64;
                at += 1;
            }
            (word, 0)
        }
    };
    let mixed = (head ^ tail.rotate_left(29) ^ (name.len() as u64) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 53) as usize
}

//! The floor's two programs for the kernel: the device program of a cgroup and a seccomp filter of the size that engines' profile takes.
//!
//! The filter allows what containerd's default profile allows to a container without extra capabilities, call by call; the profile's
//! few rules on arguments are left out, so that the floor stays a floor.

use crate::kernel::{Arg, Errno, address, call};
use libc as c;

/// Loads and attaches the program that lets the default devices through.
pub fn attach_devices(cgroup: i32) -> Result<(), Errno> {
    const LOAD: i32 = 5;
    const ATTACH: i32 = 8;
    let mut program = [0u64; 64];
    let length = device_program(&mut program);
    let license = *b"Apache-2.0\0\0\0\0\0\0";
    // union bpf_attr for BPF_PROG_LOAD: prog_type and insn_cnt, insns, license, …
    let mut load = [0u64; 9];
    load[0] = 15 | (length as u64) << 32;
    load[1] = address(&program);
    load[2] = address(&license);
    let loaded = call(c::SYS_bpf, [LOAD.into(), load[..].into(), (size_of_val(&load) as i64).into()])?;
    // target_fd and attach_bpf_fd, attach_type and attach_flags (ALLOW_MULTI)
    let attach = [cgroup as u64 | (loaded as u64) << 32, 6 | 2 << 32];
    call(c::SYS_bpf, [ATTACH.into(), attach[..].into(), (size_of_val(&attach) as i64).into()])?;
    call(c::SYS_close, [loaded.into()]).map(|_| ())
}

/// op, dst and src, offset, immediate of one eBPF instruction.
fn instruction(op: u8, registers: u8, offset: i16, immediate: i32) -> u64 {
    u64::from(op)
        | u64::from(registers) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(immediate.cast_unsigned()) << 32
}

/// One block for each rule: type, major, minor differ → next; else allowed.
fn device_program(program: &mut [u64; 64]) -> usize {
    const RULES: [(i32, i32, i32); 8] =
        [(2, 1, 3), (2, 1, 5), (2, 1, 7), (2, 1, 8), (2, 1, 9), (2, 5, 0), (2, 5, 2), (2, 136, -1)];
    let mut length = 0;
    let mut add = |code: u64| {
        program[length] = code;
        length += 1;
    };
    add(instruction(0x61, 0x12, 0, 0)); // r2 = access_type
    add(instruction(0x54, 0x02, 0, 0xffff)); // r2 &= type
    add(instruction(0x61, 0x14, 4, 0)); // r4 = major
    add(instruction(0x61, 0x15, 8, 0)); // r5 = minor
    for (kind, major, minor) in RULES {
        let rest = if minor < 0 { 2 } else { 3 };
        add(instruction(0x55, 0x02, rest + 1, kind));
        add(instruction(0x55, 0x04, rest, major));
        if minor >= 0 {
            add(instruction(0x55, 0x05, 2, minor));
        }
        add(instruction(0xb7, 0x00, 0, 1));
        add(instruction(0x95, 0x00, 0, 0));
    }
    add(instruction(0xb7, 0x00, 0, 0));
    add(instruction(0x95, 0x00, 0, 0));
    length
}

/// Calls that containerd's default profile refuses to a container with the default capabilities.
#[rustfmt::skip]
const REFUSED: [i64; 56] = [
    c::SYS_acct, c::SYS_add_key, c::SYS_bpf, c::SYS_clock_settime, c::SYS_clone3, c::SYS_delete_module,
    c::SYS_fanotify_init, c::SYS_finit_module, c::SYS_fsconfig, c::SYS_fsmount, c::SYS_fsopen, c::SYS_fspick,
    c::SYS_get_mempolicy, c::SYS_init_module, c::SYS_io_uring_enter, c::SYS_io_uring_register,
    c::SYS_io_uring_setup, c::SYS_ioperm, c::SYS_iopl, c::SYS_kcmp, c::SYS_kexec_file_load, c::SYS_kexec_load, c::SYS_keyctl,
    c::SYS_lookup_dcookie, c::SYS_mbind, c::SYS_migrate_pages, c::SYS_mount, c::SYS_mount_setattr, c::SYS_move_mount,
    c::SYS_move_pages, c::SYS_nfsservctl, c::SYS_open_by_handle_at, c::SYS_open_tree, c::SYS_perf_event_open,
    c::SYS_pivot_root, c::SYS_quotactl, c::SYS_quotactl_fd, c::SYS_reboot, c::SYS_request_key,
    c::SYS_set_mempolicy, c::SYS_setdomainname, c::SYS_sethostname, c::SYS_setns, c::SYS_settimeofday, c::SYS_swapoff,
    c::SYS_swapon, c::SYS_sysfs, c::SYS_syslog, c::SYS__sysctl, c::SYS_umount2, c::SYS_unshare, c::SYS_uselib,
    c::SYS_userfaultfd, c::SYS_ustat, c::SYS_vhangup, c::SYS_vserver,
];

/// Loads a filter: two architectures, a binary search over the intervals of allowed calls.
pub fn load_seccomp() -> Result<(), Errno> {
    const ALLOW: u32 = 0x7fff_0000;
    const REFUSE: u32 = 0x0005_0001;
    const NO_SUCH_CALL: u32 = 0x0005_0026;
    // First number of each interval and what it gives; the last call a profile of today knows is 462.
    let mut bounds = [(0u32, ALLOW); 128];
    let mut count = 1;
    let mut refused = REFUSED;
    refused.sort_unstable();
    for number in refused {
        let number = number as u32;
        if bounds[count - 1].0 == number {
            bounds[count - 1].1 = REFUSE;
        } else {
            bounds[count] = (number, REFUSE);
            count += 1;
        }
        bounds[count] = (number + 1, ALLOW);
        count += 1;
    }
    bounds[count] = (463, NO_SUCH_CALL);
    count += 1;
    let mut code = Filter { code: [0; 1024], length: 0 };
    code.add(0x20, 0, 0, 4); // load arch
    let jump = code.length;
    code.add(0x15, 0, 0, 0xc000_003e); // x86-64, else on
    code.add(0x20, 0, 0, 0); // load nr
    code.add(0x35, 0, 1, 0x4000_0000); // x32
    code.add(0x06, 0, 0, NO_SUCH_CALL);
    code.tree(&bounds[..count]);
    let here = code.length;
    code.code[jump] |= ((here - jump - 1) as u64) << 24;
    code.add(0x20, 0, 0, 4);
    code.add(0x15, 1, 0, 0x4000_0003); // i386
    code.add(0x06, 0, 0, 0);
    code.add(0x20, 0, 0, 0);
    code.tree(&bounds[..count]);
    // struct sock_fprog: length, pointer
    let program = [code.length as u64, address(&code.code)];
    call(c::SYS_seccomp, [1.into(), 0.into(), Arg::from(&program[..])]).map(|_| ())
}

struct Filter {
    code: [u64; 1024],
    length: usize,
}

impl Filter {
    /// code, jt, jf, k of one instruction.
    fn add(&mut self, op: u16, yes: u8, no: u8, k: u32) {
        self.code[self.length] =
            u64::from(op) | u64::from(yes) << 16 | u64::from(no) << 24 | u64::from(k) << 32;
        self.length += 1;
    }

    /// A search among intervals; leaves return.
    fn tree(&mut self, bounds: &[(u32, u32)]) {
        if let [(_, action)] = bounds {
            self.add(0x06, 0, 0, *action);
            return;
        }
        let (low, high) = bounds.split_at(bounds.len() / 2);
        let jump = self.length;
        self.add(0x35, 0, 0, high[0].0); // number at or above: skip the lower half
        self.tree(low);
        self.code[jump] |= ((self.length - jump - 1) as u64) << 16;
        self.tree(high);
    }
}

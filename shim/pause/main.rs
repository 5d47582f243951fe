//! The pause program: holds a pod's namespaces. Sleeps until SIGTERM or SIGINT, at which it ends at once; reaps what is reparented to it.
//!
//! No libc, no heap, no handlers: three system calls in a loop. It is built by the shim's build.rs and embedded in the shim.
//!
//! All signals are blocked and waited for, rather than handled: the kernel drops signals with a default action for the first
//! process of a PID namespace, but never those that are blocked.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

#[cfg(target_arch = "x86_64")]
mod number {
    pub const SIGPROCMASK: usize = 14;
    pub const WAIT4: usize = 61;
    pub const SIGTIMEDWAIT: usize = 128;
    pub const EXIT_GROUP: usize = 231;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub const EXIT_GROUP: usize = 94;
    pub const SIGPROCMASK: usize = 135;
    pub const SIGTIMEDWAIT: usize = 137;
    pub const WAIT4: usize = 260;
}

const SIGINT: isize = 2;
const SIGTERM: isize = 15;
const SIGCHLD: isize = 17;
const SIG_SETMASK: usize = 2;
const WNOHANG: usize = 1;
/// Bytes of the kernel's set of signals.
const SET: usize = 8;

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call {main}", main = sym pause);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, #0", "bl {main}", main = sym pause);

extern "C" fn pause() -> ! {
    let all = u64::MAX;
    let wanted = bit(SIGINT) | bit(SIGTERM) | bit(SIGCHLD);
    call(number::SIGPROCMASK, [SIG_SETMASK, &raw const all as usize, 0, SET]);
    loop {
        match call(number::SIGTIMEDWAIT, [&raw const wanted as usize, 0, 0, SET]) {
            SIGINT | SIGTERM => drop(call(number::EXIT_GROUP, [0; 4])),
            // Several may have ended for one signal.
            SIGCHLD => while call(number::WAIT4, [usize::MAX, 0, WNOHANG, 0]) > 0 {},
            _ => {} // a debugger interrupted the wait
        }
    }
}

const fn bit(signal: isize) -> u64 {
    1 << (signal - 1)
}

/// A system call; negative results are errors.
#[cfg(target_arch = "x86_64")]
fn call(number: usize, a: [usize; 4]) -> isize {
    let result;
    // SAFETY: the calls made here write no memory of ours: only sets of signals are read, and no result is asked for by address.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// A system call; negative results are errors.
#[cfg(target_arch = "aarch64")]
fn call(number: usize, a: [usize; 4]) -> isize {
    let result;
    // SAFETY: as for x86_64.
    unsafe {
        asm!("svc #0", in("x8") number, inlateout("x0") a[0] as isize => result, in("x1") a[1], in("x2") a[2],
            in("x3") a[3], options(nostack));
    }
    result
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    call(number::EXIT_GROUP, [1, 0, 0, 0]);
    loop {}
}

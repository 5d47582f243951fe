//! A program started straight in a cgroup: clone3(2) as vfork(2), which costs the same for a large process, and which a process
//! with threads may call. It is what posix_spawn(3) can't do before glibc 2.39, and decides nothing.

use std::arch::asm;
use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::Pid;

/// KERNEL(5.7); libc lacks it for musl.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// In 16 bytes: enough for the few calls below, and for a signal that cannot be blocked to be told.
const STACK: usize = 2048;

/// What to start: leader of a session of its own, with no signal blocked, and none ignored or caught but those that libc keeps to itself.
#[derive(Debug, Clone, Copy)]
pub struct Spawn<'a> {
    /// Its file.
    pub program: &'a CStr,
    /// Its arguments, the name first.
    pub args: &'a [CString],
    /// Its environment.
    pub environment: &'a [CString],
    /// What becomes descriptors 0 to 3, in this order: none may be one that is replaced before its turn.
    pub descriptors: [BorrowedFd<'a>; 4],
    /// The cgroup to be born in; `None`: the caller's.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// What the child works on. It runs in the caller's memory, on a stack of its own, while the calling thread waits.
#[repr(C)]
struct Order {
    program: *const c_char,
    args: *const *const c_char,
    environment: *const *const c_char,
    descriptors: [RawFd; 4],
    /// Why it could not be executed.
    errno: i32,
}

impl Spawn<'_> {
    /// Starts it; the error is that of what failed in the child too.
    pub fn call(&self) -> nix::Result<Pid> {
        let (args, environment) = (pointers(self.args), pointers(self.environment));
        let mut order = Order {
            program: self.program.as_ptr(),
            args: args.as_ptr(),
            environment: environment.as_ptr(),
            descriptors: self.descriptors.map(|fd| fd.as_raw_fd()),
            errno: 0,
        };
        let mut stack = vec![0u128; STACK];
        let cgroup = self.cgroup.map_or(0, |_| CLONE_INTO_CGROUP);
        let clone = libc::clone_args {
            flags: libc::CLONE_VM as u64 | libc::CLONE_VFORK as u64 | cgroup,
            pidfd: 0,
            child_tid: 0,
            parent_tid: 0,
            exit_signal: libc::SIGCHLD as u64,
            stack: stack.as_mut_ptr() as u64,
            stack_size: (STACK * size_of::<u128>()) as u64,
            tls: 0,
            set_tid: 0,
            set_tid_size: 0,
            cgroup: self.cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
        };
        // A handler of the caller's must not run in the child, whose memory is the caller's.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        // SAFETY: `clone`, `order`, all that it points at and the stack outlive the call: CLONE_VFORK holds this thread until the
        // child has executed its program or ended. No handler runs (all signals are blocked).
        let pid = unsafe { clone_and_run(&clone, &mut order) };
        before.thread_set_mask()?;
        if pid < 0 {
            return Err(Errno::from_raw(-pid as i32));
        }
        let pid = Pid::from_raw(pid as i32);
        if order.errno != 0 {
            nix::sys::wait::waitpid(pid, None)?;
            return Err(Errno::from_raw(order.errno));
        }
        Ok(pid)
    }
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// clone3; the child calls [`run`] and never returns. -errno is an error.
///
/// # Safety
/// `clone` asks for CLONE_VM, CLONE_VFORK and a stack of its own; all of `order` stays until this returns.
unsafe fn clone_and_run(clone: &libc::clone_args, order: *mut Order) -> isize {
    let pid: isize;
    // SAFETY: the kernel changes no register but those named. The child, on its own stack, does not get past the call.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r8",
            "call r9",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => pid,
            in("rdi") std::ptr::from_ref(clone),
            in("rsi") size_of_val(clone),
            in("r8") order,
            in("r9") run as extern "C" fn(*mut Order) -> !,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x2",
            "blr x3",
            "brk 1",
            "2:",
            inlateout("x0") std::ptr::from_ref(clone) => pid,
            in("x8") libc::SYS_clone3,
            in("x1") size_of_val(clone),
            in("x2") order,
            in("x3") run as extern "C" fn(*mut Order) -> !,
        );
    }
    pid
}

/// CHILD: in the caller's memory, which waits, with all signals blocked. System calls alone: no allocation, no lock.
extern "C" fn run(order: *mut Order) -> ! {
    // SAFETY: `order` is the caller's, which waits for this child; libc's functions here are async-signal-safe, and their errno is
    // the waiting thread's.
    unsafe {
        let order = &mut *order;
        libc::setsid();
        for signal in 1..=libc::SIGRTMAX() {
            // Those that can't be changed refuse.
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut done = true;
        for (at, from) in (0..).zip(order.descriptors) {
            // dup2 of a descriptor onto itself would leave it close-on-exec.
            let placed = if from == at { libc::fcntl(from, libc::F_SETFD, 0) } else { libc::dup2(from, at) };
            done &= placed >= 0;
        }
        if done {
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            libc::execve(order.program, order.args, order.environment);
        }
        order.errno = Errno::last_raw();
        libc::_exit(127)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;

    #[test]
    fn a_program_gets_its_descriptors_and_an_errno_comes_back() {
        let null = std::fs::File::open("/dev/null").expect("open");
        let (mut out, input) = std::io::pipe().expect("pipe");
        let fds = [null.as_fd(), input.as_fd(), input.as_fd(), null.as_fd()];
        let args = ["sh", "-c", "echo \"$X\""].map(|text| CString::new(text).expect("text"));
        let environment = [c"X=1".to_owned()];
        let spawn = Spawn {
            program: c"/bin/sh",
            args: &args,
            environment: &environment,
            descriptors: fds,
            cgroup: None,
        };
        let pid = spawn.call().expect("spawn");
        nix::sys::wait::waitpid(pid, None).expect("wait");
        let errno = Spawn { program: c"/no/such", ..spawn }.call().expect_err("no program");
        assert_eq!(errno, Errno::ENOENT);
        drop(input);
        let mut said = String::new();
        out.read_to_string(&mut said).expect("read");
        assert_eq!(said, "1\n");
    }
}

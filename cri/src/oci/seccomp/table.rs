//! The default profile's system calls by what they are for. What is not here is refused: modules, swap, reboot, mounts, namespaces,
//! keys, tracing of the kernel, other processes' memory, io_uring and userfaultfd, of which kernels have had to be saved too often.

use oci_spec::runtime::{Capability, LinuxSeccompOperator as Op};

/// Allowed to everyone: purpose, names on any machine (names that a machine lacks are ignored).
pub const ALWAYS: &[(&str, &str)] = &[
    (
        "open and make files",
        "creat open openat openat2 close close_range memfd_create memfd_secret mkdir mkdirat mknod mknodat \
         link linkat symlink symlinkat unlink unlinkat rmdir rename renameat renameat2 dup dup2 dup3 \
         name_to_handle_at umask",
    ),
    (
        "read and write",
        "read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek _llseek sendfile \
         sendfile64 copy_file_range splice tee vmsplice readahead fadvise64 fadvise64_64 truncate truncate64 \
         ftruncate ftruncate64 fallocate fsync fdatasync sync syncfs sync_file_range cachestat flock fcntl \
         fcntl64 ioctl",
    ),
    (
        "look at files and change their attributes",
        "access faccessat faccessat2 stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx \
         statfs statfs64 fstatfs fstatfs64 statmount listmount readlink readlinkat getdents getdents64 getcwd \
         chdir fchdir chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32 \
         utime utimes futimesat utimensat utimensat_time64 getxattr lgetxattr fgetxattr getxattrat setxattr \
         lsetxattr fsetxattr setxattrat listxattr llistxattr flistxattr listxattrat removexattr lremovexattr \
         fremovexattr removexattrat inotify_init inotify_init1 inotify_add_watch inotify_rm_watch \
         fanotify_mark",
    ),
    (
        "wait for descriptors",
        "poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create epoll_create1 \
         epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd \
         signalfd4 pipe pipe2 io_setup io_submit io_cancel io_destroy io_getevents io_pgetevents \
         io_pgetevents_time64",
    ),
    (
        "memory",
        "brk mmap mmap2 munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock munlockall \
         remap_file_pages mseal map_shadow_stack pkey_alloc pkey_free pkey_mprotect membarrier rseq \
         process_mrelease",
    ),
    // KERNEL(4.8): seccomp is checked before ptrace, so a tracer can't get around the filter.
    (
        "processes and threads",
        "fork vfork execve execveat exit exit_group wait4 waitid waitpid getpid getppid gettid getpgid \
         getpgrp setpgid getsid setsid set_tid_address set_robust_list get_robust_list set_thread_area \
         get_thread_area futex futex_time64 futex_wait futex_waitv futex_wake futex_requeue prctl pidfd_open \
         pidfd_send_signal uretprobe ptrace process_vm_readv process_vm_writev",
    ),
    (
        "scheduling and limits",
        "sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam \
         sched_setparam sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min \
         sched_rr_get_interval sched_rr_get_interval_time64 getpriority setpriority ioprio_get ioprio_set \
         getcpu getrlimit ugetrlimit setrlimit prlimit64 getrusage times sysinfo uname",
    ),
    (
        "signals",
        "kill tkill tgkill rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_tgsigqueueinfo \
         rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 sigaltstack sigprocmask sigreturn \
         pause restart_syscall",
    ),
    (
        "who one is",
        "getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid \
         getresgid32 getgroups getgroups32 setuid setuid32 setgid setgid32 setreuid setreuid32 setregid \
         setregid32 setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 \
         setgroups setgroups32 capget capset seccomp landlock_create_ruleset landlock_add_rule \
         landlock_restrict_self lsm_get_self_attr lsm_set_self_attr lsm_list_modules",
    ),
    (
        "time; setting it needs CAP_SYS_TIME anyway",
        "time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep \
         clock_nanosleep_time64 clock_adjtime clock_adjtime64 adjtimex nanosleep alarm getitimer setitimer \
         timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime \
         timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64",
    ),
    (
        "sockets; `socket` itself is below, and socketcall is refused",
        "socketpair bind connect listen accept accept4 shutdown getsockname getpeername getsockopt \
         setsockopt send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64",
    ),
    (
        "messages, semaphores, shared memory",
        "ipc msgget msgsnd msgrcv msgctl semget semop semctl semtimedop semtimedop_time64 shmget shmat shmdt \
         shmctl mq_open mq_unlink mq_notify mq_getsetattr mq_timedsend mq_timedsend_time64 mq_timedreceive \
         mq_timedreceive_time64",
    ),
    ("randomness", "getrandom"),
];

/// What only this machine's processors have.
#[cfg(target_arch = "x86_64")]
pub const OF_THIS_MACHINE: &[&str] = &["arch_prctl", "modify_ldt"];
/// What only this machine's processors have.
#[cfg(target_arch = "aarch64")]
pub const OF_THIS_MACHINE: &[&str] =
    &["arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls"];
/// What only this machine's processors have.
#[cfg(target_arch = "riscv64")]
pub const OF_THIS_MACHINE: &[&str] = &["riscv_flush_icache", "riscv_hwprobe"];
/// What only this machine's processors have.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
pub const OF_THIS_MACHINE: &[&str] = &[];

/// A container that was given a capability may make the calls that it is good for.
pub const WITH_CAPABILITY: &[(Capability, &str)] = &[
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "clone clone3 unshare setns mount umount umount2 mount_setattr move_mount open_tree fsopen fsconfig \
         fsmount fspick sethostname setdomainname quotactl quotactl_fd fanotify_init lookup_dcookie bpf \
         perf_event_open syslog",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "init_module finit_module delete_module"),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_madvise"),
    (Capability::SysRawio, "iopl ioperm"),
    (Capability::SysTime, "settimeofday stime clock_settime clock_settime64"),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::SysNice, "get_mempolicy set_mempolicy mbind set_mempolicy_home_node"),
    (Capability::Syslog, "syslog"),
    (Capability::Bpf, "bpf"),
    (Capability::Perfmon, "perf_event_open"),
];

/// PER_LINUX, PER_LINUX32, both with UNAME26, and the question what it is now.
pub const PERSONALITIES: &[u64] = &[0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// All but AF_ALG (38) and AF_VSOCK (40): the kernel's crypto, which had its holes, and the hypervisor, which no namespace hides.
pub const SOCKET_FAMILIES: &[(Op, u64)] = &[(Op::ScmpCmpLt, 38), (Op::ScmpCmpEq, 39), (Op::ScmpCmpGt, 40)];

/// CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
pub const NEW_NAMESPACES: u64 = 0x7e02_0000;

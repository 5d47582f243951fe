//! Names for the kernel's numbers: capabilities, resource limits, system calls.
//!
//! Only names; what is asked of the kernel is in `sys`.

const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The capability's name as configs write it.
pub fn capability(number: u32) -> String {
    match CAPABILITIES.get(number as usize) {
        Some(name) => format!("CAP_{name}"),
        None => format!("CAP_{number}"),
    }
}

/// Resource limits in the order of their numbers on x86-64 and arm64.
pub const LIMITS: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

macro_rules! calls {
    ($($name:ident)*) => {
        /// The number of a system call that tests try.
        pub fn syscall(name: &str) -> Option<i64> {
            $(if name == stringify!($name) { return Some(paste_number::$name); })*
            name.strip_prefix("0x").map_or_else(|| name.parse().ok(), |hex| i64::from_str_radix(hex, 16).ok())
        }
    };
}

#[rustfmt::skip]
calls!(getpid getppid uname reboot kexec_load mount umount2 unshare setns clone clone3 keyctl add_key request_key
    personality ptrace bpf userfaultfd perf_event_open open_by_handle_at name_to_handle_at init_module finit_module
    delete_module swapon swapoff sethostname setdomainname mkdirat unlinkat mknodat chroot pivot_root acct
    settimeofday clock_settime quotactl syslog socket getcwd chdir fchdir dup openat faccessat setuid setgid
    setresuid setgroups capset prctl seccomp io_uring_setup open_tree move_mount fsopen fsmount mount_setattr
    process_vm_readv kcmp lookup_dcookie vhangup nice setpriority sched_setscheduler mlock execve memfd_create
    fchmodat2 landlock_create_ruleset sync getrandom shmget msgget semget fchownat fchmodat linkat symlinkat renameat2);

/// The numbers themselves, under the bare names.
#[allow(non_upper_case_globals)]
mod paste_number {
    macro_rules! take {
        ($($name:ident = $number:ident)*) => { $(pub const $name: i64 = libc::$number;)* };
    }
    take! {
        getpid = SYS_getpid getppid = SYS_getppid uname = SYS_uname reboot = SYS_reboot kexec_load = SYS_kexec_load
        mount = SYS_mount umount2 = SYS_umount2 unshare = SYS_unshare setns = SYS_setns clone = SYS_clone
        clone3 = SYS_clone3 keyctl = SYS_keyctl add_key = SYS_add_key request_key = SYS_request_key
        personality = SYS_personality ptrace = SYS_ptrace bpf = SYS_bpf userfaultfd = SYS_userfaultfd
        perf_event_open = SYS_perf_event_open open_by_handle_at = SYS_open_by_handle_at
        name_to_handle_at = SYS_name_to_handle_at init_module = SYS_init_module finit_module = SYS_finit_module
        delete_module = SYS_delete_module swapon = SYS_swapon swapoff = SYS_swapoff sethostname = SYS_sethostname
        setdomainname = SYS_setdomainname mkdirat = SYS_mkdirat unlinkat = SYS_unlinkat mknodat = SYS_mknodat
        chroot = SYS_chroot pivot_root = SYS_pivot_root acct = SYS_acct settimeofday = SYS_settimeofday
        clock_settime = SYS_clock_settime quotactl = SYS_quotactl syslog = SYS_syslog socket = SYS_socket
        getcwd = SYS_getcwd chdir = SYS_chdir fchdir = SYS_fchdir dup = SYS_dup openat = SYS_openat
        faccessat = SYS_faccessat setuid = SYS_setuid setgid = SYS_setgid setresuid = SYS_setresuid
        setgroups = SYS_setgroups capset = SYS_capset prctl = SYS_prctl seccomp = SYS_seccomp
        io_uring_setup = SYS_io_uring_setup open_tree = SYS_open_tree move_mount = SYS_move_mount
        fsopen = SYS_fsopen fsmount = SYS_fsmount mount_setattr = SYS_mount_setattr
        process_vm_readv = SYS_process_vm_readv kcmp = SYS_kcmp lookup_dcookie = SYS_lookup_dcookie
        vhangup = SYS_vhangup nice = SYS_setpriority setpriority = SYS_setpriority
        sched_setscheduler = SYS_sched_setscheduler mlock = SYS_mlock execve = SYS_execve
        memfd_create = SYS_memfd_create fchmodat2 = SYS_fchmodat2
        landlock_create_ruleset = SYS_landlock_create_ruleset sync = SYS_sync getrandom = SYS_getrandom
        shmget = SYS_shmget msgget = SYS_msgget semget = SYS_semget fchownat = SYS_fchownat
        fchmodat = SYS_fchmodat linkat = SYS_linkat symlinkat = SYS_symlinkat renameat2 = SYS_renameat2
    }
}

//! Mistakes of the seccomp profile, of hooks and of resources.

use super::{Mistake, check};
use tests::*;

#[test]
fn mistakes_of_seccomp_hooks_and_limits() {
    only_rt!("the words are its own");
    let case = case!();
    check(
        &case,
        &[
            Mistake {
                name: "unknown action",
                make: |b| b.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_SHRUG" }),
                says: "rt: run container \"{id}\": linux.seccomp.defaultAction: unknown action \"SCMP_ACT_SHRUG\" (known: SCMP_ACT_ALLOW, SCMP_ACT_ERRNO, SCMP_ACT_KILL, SCMP_ACT_KILL_PROCESS, SCMP_ACT_KILL_THREAD, SCMP_ACT_LOG, SCMP_ACT_TRACE, SCMP_ACT_TRAP)",
            },
            Mistake {
                name: "unknown architecture",
                make: |b| {
                    b.config["linux"]["seccomp"] =
                        json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"] });
                },
                says: "rt: run container \"{id}\": linux.seccomp.architectures[0]: unknown architecture \"SCMP_ARCH_VAX\" (known: SCMP_ARCH_AARCH64, SCMP_ARCH_ARM, SCMP_ARCH_LOONGARCH64, SCMP_ARCH_M68K, SCMP_ARCH_MIPS, SCMP_ARCH_MIPS64, SCMP_ARCH_MIPS64N32, SCMP_ARCH_MIPSEL, SCMP_ARCH_MIPSEL64, SCMP_ARCH_MIPSEL64N32, SCMP_ARCH_PARISC, SCMP_ARCH_PARISC64, SCMP_ARCH_PPC, SCMP_ARCH_PPC64, SCMP_ARCH_PPC64LE, SCMP_ARCH_RISCV64, SCMP_ARCH_S390, SCMP_ARCH_S390X, SCMP_ARCH_SH, SCMP_ARCH_SHEB, SCMP_ARCH_X32, SCMP_ARCH_X86, SCMP_ARCH_X86_64)",
            },
            Mistake {
                name: "unknown operator",
                make: |b| {
                    b.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["uname"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_ISH" }] }] });
                },
                says: "rt: run container \"{id}\": linux.seccomp.syscalls[0].args[0].op: unknown operator \"SCMP_CMP_ISH\" (known: SCMP_CMP_EQ, SCMP_CMP_GE, SCMP_CMP_GT, SCMP_CMP_LE, SCMP_CMP_LT, SCMP_CMP_MASKED_EQ, SCMP_CMP_NE)",
            },
            Mistake {
                name: "argument that no call has",
                make: |b| {
                    b.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["uname"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 6, "value": 1, "op": "SCMP_CMP_EQ" }] }] });
                },
                says: "rt: run container \"{id}\": linux.seccomp.syscalls[0].args[0].index: 6 is not in 0..=5",
            },
            Mistake {
                name: "unknown filter flag",
                make: |b| {
                    b.config["linux"]["seccomp"] =
                        json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_FUN"] });
                },
                says: "rt: run container \"{id}\": linux.seccomp.flags[0]: unknown flag \"SECCOMP_FILTER_FLAG_FUN\" (known: SECCOMP_FILTER_FLAG_LOG, SECCOMP_FILTER_FLAG_SPEC_ALLOW, SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)",
            },
            Mistake {
                name: "notification",
                make: |b| {
                    b.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/none.sock",
            "syscalls": [{ "names": ["uname"], "action": "SCMP_ACT_NOTIFY" }] });
                },
                says: "rt: run container \"{id}\": linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY is not supported yet (take the rules that notify out of the profile)",
            },
            Mistake {
                name: "hook missing",
                make: |b| b.config["hooks"] = json!({ "createRuntime": [{ "path": "/no/hook" }] }),
                says: "rt: run container \"{id}\": run hook createRuntime[0] /no/hook: start it: no such file or directory (ENOENT) (the hook, or the interpreter in its first line, is missing)",
            },
            Mistake {
                name: "hook with a relative path",
                make: |b| b.config["hooks"] = json!({ "createRuntime": [{ "path": "hook" }] }),
                says: "rt: run container \"{id}\": hooks.createRuntime[0].path \"hook\" is not absolute",
            },
            Mistake {
                name: "hook that fails",
                make: |b| b.config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/false" }] }),
                says: "rt: run container \"{id}\": run hook createRuntime[0] /bin/false: exit status 1",
            },
            Mistake {
                name: "hook that fails and says why",
                make: |b| b.config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", "echo no such network >&2; exit 7"] }] }),
                says: "rt: run container \"{id}\": run hook createRuntime[0] /bin/sh: exit status 7, output: \"no such network\"",
            },
            Mistake {
                name: "hook with a bad timeout",
                make: |b| {
                    b.config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/true", "timeout": 0 }] });
                },
                says: "rt: run container \"{id}\": hooks.createRuntime[0].timeout must be above 0 seconds",
            },
            Mistake {
                name: "unknown unified file",
                make: |b| b.config["linux"]["resources"]["unified"] = json!({ "coffee.max": "1" }),
                says: "rt: run container \"{id}\": limit linux.resources.unified.coffee.max: the coffee controller is missing at /sys/fs/cgroup: this kernel does not have it (a kernel that is configured with it)",
            },
            Mistake {
                name: "unified file with a path",
                make: |b| b.config["linux"]["resources"]["unified"] = json!({ "../cgroup.kill": "1" }),
                says: "rt: run container \"{id}\": linux.resources.unified: \"../cgroup.kill\" is no file of a cgroup (such as memory.high)",
            },
            Mistake {
                name: "swap below the limit",
                make: |b| b.config["linux"]["resources"]["memory"] = json!({ "limit": 2000, "swap": 1000 }),
                says: "rt: run container \"{id}\": linux.resources.memory.swap 1000 is below memory.limit 2000: it is the sum of memory and swap",
            },
            Mistake {
                name: "realtime budget",
                make: |b| b.config["linux"]["resources"]["cpu"] = json!({ "realtimeRuntime": 1000 }),
                says: "rt: run container \"{id}\": linux.resources.cpu.realtimeRuntime: cgroup2 has no realtime limits (remove it, or set process.scheduler)",
            },
            Mistake {
                name: "unknown page size",
                make: |b| {
                    b.config["linux"]["resources"]["hugepageLimits"] =
                        json!([{ "pageSize": "3MB", "limit": 1 }]);
                },
                says: "rt: run container \"{id}\": limit linux.resources.hugepageLimits: there is no /sys/fs/cgroup{cgroup}/hugetlb.3MB.max, though the hugetlb controller is there (this kernel lacks the feature)",
            },
            Mistake {
                name: "bad device rule",
                make: |b| {
                    b.config["linux"]["resources"]["devices"] = json!([{ "allow": true, "access": "rwx" }]);
                },
                says: "rt: run container \"{id}\": linux.resources.devices[0].access: unknown letter 'x' (the letters are r, w and m)",
            },
        ],
    );
}

//! The process that tests run inside a container: `probe report` prints what it sees as JSON, other verbs do one thing.
//!
//! It asserts nothing and never retries: what it saw or got (an errno included) is what it prints; judging is the tests' work.
//! It starts without Rust's runtime (`sys::main`), so that signal dispositions and descriptors are seen as they were inherited.
#![no_main]

mod acts;
mod burrow;
mod dev;
mod hold;
mod hunt;
mod judge;
mod links;
mod numbers;
mod race;
mod report;
mod sys;
mod watch;

const VERBS: &str = "\
probe report [FILE]                 what this process sees, as JSON, on stdout or into FILE
probe sleep [SECONDS]               wait for the time or a SIGTERM/SIGINT; reap children meanwhile
probe exit CODE | kill-self SIGNAL
probe read PATH… | write PATH TEXT | append PATH TEXT | stat PATH… | list PATH | open PATH FLAGS
probe try-syscall NAME|NUMBER ARG…  prints the result or errno; ARG: number, 0xHEX, s:TEXT, b:SIZE; `--` starts another call
probe old-socket FAMILY             socket(2) through socketcall, as a 32-bit program
probe listen PORT [COUNT] | connect PORT TEXT
probe shm-write NAME TEXT | shm-read NAME | sysv-write KEY TEXT | sysv-read KEY
probe signal-wait [COUNT]           prints `ready`, then each signal's number as it comes
probe notify TEXT | notify-descriptor | notify-flood SECONDS    sends it to $NOTIFY_SOCKET | a descriptor | as much as it can
probe print-lines BYTES | fill      lines of 100 bytes on stdout, 64 KiB at once | as much as there is room for
probe eat-memory BYTES | spin SECONDS | fork COUNT | orphan | tty-size
probe hook FILE [exit=N] [sleep=S]  writes what a hook is given (argv, env, stdin, namespaces) as JSON to FILE
probe hunt MARK                     looks into whatever process comes, until SIGTERM; MARK: a file of the host
probe watch SECONDS WORKERS KEY=VALUE…  what of the host all others in this PID namespace show; see judge.rs for the keys
probe hold SECONDS [all-]stop|trace|trace-exit    whoever is new in this PID namespace, or everybody, again and again
probe keep SECONDS [eat] | leave-keeper SECONDS   descriptors of all others, and what is in them; by a process that is left behind
probe reach MARKER | hit            what the working directory leads to | exit 42, and a file /hit
probe lease SECONDS [PID] | overwrite SECONDS [PID] | usurp SECONDS PID     of the executable of PID or of all others
probe exchange SECONDS A B [A B…]   swaps each A with its B as fast as it can
probe burrow below|wide|handler…   into user namespaces of its own; see burrow.rs; executed as /handler it says so: exit 42
probe guard MARKER NAME…            reach, and whether /proc and /sys, under whatever of these names, are masked; !NAME: not there
probe chain VERB ARG… [, VERB ARG…] one verb after the other";

/// What `sys::main` calls, with the arguments as they came; the result is the exit code.
fn run(args: &[String]) -> i32 {
    if args.first().is_some_and(|name| name == burrow::HANDLER) {
        return burrow::stand_in(args);
    }
    let Some((verb, rest)) = args.get(1..).and_then(|a| a.split_first()) else {
        eprintln!("{VERBS}");
        return 2;
    };
    match one(verb, rest) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("probe {verb}: {message}");
            1
        }
    }
}

fn one(verb: &str, rest: &[String]) -> Result<i32, String> {
    match verb {
        "report" => report::print(rest),
        "chain" => chain(rest),
        "hook" => acts::hook(rest),
        "hunt" => hunt::hunt(rest.first().ok_or("a mark is missing")?),
        "hold" => hold::hold(rest),
        "keep" => hold::keep(rest),
        "leave-keeper" => hold::leave_keeper(rest),
        "watch" => watch::watch(rest),
        "reach" => links::reach(rest),
        "hit" => links::hit(),
        "lease" => links::lease(rest),
        "overwrite" => links::overwrite(rest),
        "usurp" => links::usurp(rest),
        "exchange" => race::exchange(rest),
        "guard" => race::guard(rest),
        "burrow" => burrow::burrow(rest),
        _ => acts::act(verb, rest),
    }
}

fn chain(rest: &[String]) -> Result<i32, String> {
    for part in rest.split(|arg| arg == ",") {
        let Some((verb, args)) = part.split_first() else { continue };
        match one(verb, args)? {
            0 => {}
            code => return Ok(code),
        }
    }
    Ok(0)
}

//! The pause program, embedded: whoever makes a pod writes it into the directory that is the pause container's root file system.

/// A static executable of about a kilobyte; it needs no file beside it and takes no arguments. Mode 0755.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, ExitStatus};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::PROGRAM;

    /// Starts it, sends the signal, gives how it ended.
    fn ended_by(signal: Signal) -> ExitStatus {
        let path = std::env::temp_dir().join(format!("shim-pause.{}.{signal}", std::process::id()));
        fs::write(&path, PROGRAM).expect("write it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it executable");
        let mut child = Command::new(&path).spawn().expect("run it");
        // Blocked from its first instructions on; before that the default action ends it as well.
        let pid = Pid::from_raw(child.id() as i32);
        while !fs::read_to_string(format!("/proc/{pid}/wchan"))
            .is_ok_and(|wchan| wchan.contains("sigtimedwait"))
        {
            if fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|call| call.starts_with("128 ")) {
                break;
            }
            std::thread::yield_now();
        }
        kill(pid, signal).expect("send the signal");
        let status = child.wait().expect("wait for it");
        fs::remove_file(&path).expect("remove it");
        status
    }

    #[test]
    fn it_is_small() {
        assert!(PROGRAM.len() < 4096, "{} bytes", PROGRAM.len());
        assert_eq!(&PROGRAM[..4], b"\x7fELF");
    }

    #[test]
    fn it_ends_at_once_when_told_to() {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let status = ended_by(signal);
            assert_eq!((status.code(), status.signal()), (Some(0), None), "{signal}");
        }
    }
}

//! The signal that asks a container to end: the request's, else the image's, else SIGTERM.

use crate::api;
use crate::oci::degraded::Degraded;
use crate::table::shown;

const DEFAULT: &str = "SIGTERM";

/// Its name, as the shim takes it. What an image says that is no signal is none: the container can be stopped all the same.
pub fn stop_signal(asked: i32, image: Option<&str>) -> String {
    match name(api::Signal::try_from(asked).unwrap_or(api::Signal::RuntimeDefault)) {
        Some(name) => name,
        None => image.filter(|signal| is_signal(signal)).unwrap_or(DEFAULT).to_owned(),
    }
}

/// What an image's StopSignal is instead, where it is no signal.
pub fn degraded(asked: i32, image: Option<&str>) -> Option<Degraded> {
    let unknown = image.filter(|signal| !signal.is_empty() && !is_signal(signal) && asked == 0)?;
    Some(Degraded::new("the image's StopSignal", shown(unknown), format!("is no signal: {DEFAULT}")))
}

/// The signal of a record. Those of earlier versions have whatever an image said.
pub fn of_record(recorded: &str) -> &str {
    if is_signal(recorded) { recorded } else { DEFAULT }
}

fn is_signal(text: &str) -> bool {
    // As the shim reads it, which takes 0 for none.
    runtime::cli::signal(text).is_ok_and(|number| number > 0)
}

/// For statuses: the number of CRI's enum for a name.
pub fn number(name: &str) -> i32 {
    let numbered =
        name.parse::<i32>().ok().and_then(|number| nix::sys::signal::Signal::try_from(number).ok());
    let upper = numbered.map_or_else(|| name.to_ascii_uppercase(), |signal| signal.as_str().to_owned());
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let full = full.replace("RTMIN+", "RTMINPLUS").replace("RTMAX-", "RTMAXMINUS");
    api::Signal::from_str_name(&format!("SIGNAL_{full}")).unwrap_or(api::Signal::RuntimeDefault) as i32
}

fn name(signal: api::Signal) -> Option<String> {
    if signal == api::Signal::RuntimeDefault {
        return None;
    }
    let name = signal.as_str_name().trim_start_matches("SIGNAL_");
    Some(name.replace("RTMINPLUS", "RTMIN+").replace("RTMAXMINUS", "RTMAX-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_wins_over_the_image_and_that_over_the_default() {
        assert_eq!(stop_signal(api::Signal::Sigusr1 as i32, Some("SIGQUIT")), "SIGUSR1");
        assert_eq!(stop_signal(0, Some("SIGQUIT")), "SIGQUIT");
        assert_eq!(stop_signal(0, None), "SIGTERM");
        assert_eq!(stop_signal(api::Signal::Sigrtminplus3 as i32, None), "SIGRTMIN+3");
    }

    #[test]
    fn what_is_no_signal_is_told_and_never_sent() {
        for bad in ["SIGRTMIN+99", "9;rm", "-1", "0", "65", "SIGNONE", "SIGTERM\n"] {
            assert_eq!(stop_signal(0, Some(bad)), "SIGTERM", "{bad}");
            assert_eq!(of_record(bad), "SIGTERM", "{bad}");
            let told = degraded(0, Some(bad)).expect(bad).to_string();
            assert!(told.contains("is no signal: SIGTERM"), "{told}");
            assert_eq!(degraded(api::Signal::Sigusr1 as i32, Some(bad)), None, "the request's is taken");
        }
        for good in ["SIGQUIT", "quit", "15", "SIGRTMIN+3"] {
            assert_eq!((stop_signal(0, Some(good)).as_str(), of_record(good)), (good, good));
            assert_eq!(degraded(0, Some(good)), None);
        }
        assert_eq!(degraded(0, Some("")), None);
    }

    #[test]
    fn names_and_numbers_are_found_in_the_enum() {
        for (name, signal) in [
            ("SIGTERM", api::Signal::Sigterm),
            ("term", api::Signal::Sigterm),
            ("15", api::Signal::Sigterm),
            ("SIGRTMIN+3", api::Signal::Sigrtminplus3),
        ] {
            assert_eq!(number(name), signal as i32, "{name}");
        }
    }
}

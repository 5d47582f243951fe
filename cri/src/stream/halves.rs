//! A forwarded connection is two streams, `error` and `data`, which come one by one: here they find each other. What they carry is not
//! this file's.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::channel::Channel;

/// Streams of one session that wait for their other half, at most.
const MOST: usize = 1000;

/// How long one waits: as long as the kubelet's own server lets it.
pub const WAITING: Duration = Duration::from_secs(30);

/// One connection's streams.
pub struct Pair {
    /// The port in the pod.
    pub port: u16,
    /// Takes a word of what goes wrong.
    pub error: Channel,
    /// Carries the bytes.
    pub data: Channel,
}

/// Streams whose other half has not come yet.
pub struct Halves {
    waiting: HashMap<String, (Instant, Channel)>,
    limit: Duration,
}

impl Halves {
    /// None yet. Each waits as long as `limit`.
    pub fn new(limit: Duration) -> Self {
        Self { waiting: HashMap::new(), limit }
    }

    /// Takes a stream; gives a pair when its other half was there.
    pub fn complete(&mut self, channel: Channel) -> Result<Option<Pair>, Box<(Channel, String)>> {
        let is_error = match channel.header("streamtype") {
            Some("error") => true,
            Some("data") => false,
            other => {
                let error = format!("stream type {other:?}: only \"error\" and \"data\" are known");
                return Err(Box::new((channel, error)));
            }
        };
        let port = match channel.header("port").map(|port| (port, port.parse())) {
            Some((_, Ok(port))) if port > 0 => port,
            Some((text, _)) => {
                let error = format!("port {text:?}: not a number from 1 to 65535");
                return Err(Box::new((channel, error)));
            }
            None => return Err(Box::new((channel, "stream without a port".to_owned()))),
        };
        // Old clients send no request id; they open the error stream right before its data stream.
        let key = match channel.header("requestid") {
            Some(id) => id.to_owned(),
            None if is_error => format!("#{}", channel.stream),
            None => format!("#{}", channel.stream.saturating_sub(2)),
        };
        let Some((since, other)) = self.waiting.remove(&key) else {
            if self.waiting.len() >= MOST {
                return Err(Box::new((channel, format!("{MOST} streams wait for their other half already"))));
            }
            self.waiting.insert(key, (Instant::now(), channel));
            return Ok(None);
        };
        let other_is_error = other.header("streamtype") == Some("error");
        if other_is_error == is_error {
            let error = format!("request id {key:?}: this stream is there already");
            self.waiting.insert(key, (since, other));
            return Err(Box::new((channel, error)));
        }
        let (error, data) = if is_error { (channel, other) } else { (other, channel) };
        Ok(Some(Pair { port, error, data }))
    }

    /// Waits until one has waited too long, and gives it out. To be given up at any time.
    pub async fn overdue(&mut self) -> Channel {
        let oldest = self.waiting.iter().min_by_key(|(_, (since, _))| *since);
        if let Some((key, (since, _))) = oldest {
            let key = key.clone();
            sleep_until(*since + self.limit).await;
            if let Some((_, channel)) = self.waiting.remove(&key) {
                return channel;
            }
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::super::room::Room;
    use super::*;
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    fn channel(stream: u32, headers: &[(&str, &str)]) -> Channel {
        let (out, _) = mpsc::channel(1);
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Channel::new(stream, headers, out, &Room::new()).expect("room").0
    }

    #[test]
    fn streams_are_paired_by_request_id_and_without_one_by_number() {
        let mut halves = Halves::new(WAITING);
        for (first, second) in [
            (
                channel(1, &[("streamtype", "error"), ("port", "80"), ("requestid", "0")]),
                channel(7, &[("streamtype", "data"), ("port", "80"), ("requestid", "0")]),
            ),
            (
                channel(9, &[("streamtype", "error"), ("port", "80")]),
                channel(11, &[("streamtype", "data"), ("port", "80")]),
            ),
            (
                channel(15, &[("streamtype", "data"), ("port", "80"), ("requestid", "x")]),
                channel(13, &[("streamtype", "error"), ("port", "80"), ("requestid", "x")]),
            ),
        ] {
            assert!(matches!(halves.complete(first), Ok(None)));
            let pair = halves.complete(second).ok().flatten().expect("a pair");
            assert_eq!(pair.port, 80);
            assert_eq!(pair.error.header("streamtype"), Some("error"));
            assert_eq!(pair.data.header("streamtype"), Some("data"));
        }
        assert!(halves.waiting.is_empty());
    }

    #[test]
    fn bad_streams_are_told_what_is_wrong() {
        let mut halves = Halves::new(WAITING);
        for (headers, expected) in [
            (
                &[("streamtype", "stdin")][..],
                "stream type Some(\"stdin\"): only \"error\" and \"data\" are known",
            ),
            (&[("streamtype", "data")], "stream without a port"),
            (&[("streamtype", "data"), ("port", "0")], "port \"0\": not a number from 1 to 65535"),
            (&[("streamtype", "data"), ("port", "65536")], "port \"65536\": not a number from 1 to 65535"),
        ] {
            let Err(refused) = halves.complete(channel(1, headers)) else { panic!("{headers:?}") };
            let (_, error) = *refused;
            assert_eq!(error, expected);
        }
    }

    #[tokio::test]
    async fn halves_are_bounded_and_do_not_wait_for_ever() {
        let mut halves = Halves::new(Duration::from_secs(1));
        let half = |stream| channel(stream, &[("streamtype", "error"), ("port", "80")]);
        for number in 0..MOST as u32 {
            assert!(matches!(halves.complete(half(2 * number + 1)), Ok(None)));
        }
        assert!(halves.complete(half(9999)).is_err());
        assert!(timeout(Duration::from_millis(1), halves.overdue()).await.is_err());
        for _ in 0..MOST {
            timeout(Duration::from_secs(10), halves.overdue()).await.expect("overdue");
        }
        assert!(halves.waiting.is_empty());
    }
}

//! Progress bars of a pull, one for each layer, on a terminal. Elsewhere it shows nothing.

use crate::image::digest::Digest;
use crate::image::progress::{Event, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The bars.
pub struct Bars {
    all: MultiProgress,
    bars: Mutex<HashMap<Digest, ProgressBar>>,
}

impl Bars {
    /// None yet. indicatif hides them where stderr is no terminal.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { all: MultiProgress::new(), bars: Mutex::default() })
    }

    /// Takes them away.
    pub fn finish(&self) {
        for bar in self.bars.lock().unwrap_or_else(PoisonError::into_inner).values() {
            bar.finish_and_clear();
        }
    }

    fn bar(&self, digest: &Digest, size: u64) -> ProgressBar {
        let style = ProgressStyle::with_template("{prefix} {bar:40} {bytes:>10} of {total_bytes} {msg}");
        let bar = ProgressBar::new(size).with_prefix(digest.hex()[..12].to_owned());
        if let Ok(style) = style {
            bar.set_style(style);
        }
        self.all.add(bar)
    }
}

impl Progress for Bars {
    fn layer(&self, digest: &Digest, event: Event) {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Waiting(size) => {
                bars.entry(digest.clone()).or_insert_with(|| self.bar(digest, size));
            }
            Event::Received(bytes) => {
                bars.iter().filter(|(own, _)| *own == digest).for_each(|(_, bar)| bar.inc(bytes));
            }
            Event::Done => {
                let bar = bars.entry(digest.clone()).or_insert_with(|| self.bar(digest, 1));
                bar.set_message("done");
                bar.set_position(bar.length().unwrap_or(1));
            }
        }
    }
}

//! Stages of making something: each has a name that stands in errors, a deadline, a line in the timeline, and is a fail point in test
//! builds. It decides nothing about what happens after a failure.

use std::future::Future;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tracing::Instrument;

use crate::error::{Error, Kind, Result};
use crate::paths;
use crate::record::Mark;
use crate::traces;

/// The stages of one piece of work on one object.
#[derive(Debug)]
pub struct Stages {
    work: &'static str,
    marks: Mutex<Vec<Mark>>,
}

impl Stages {
    /// `work` names the fail points: `run`, `create`.
    pub fn new(work: &'static str) -> Self {
        Self { work, marks: Mutex::default() }
    }

    /// Does one stage.
    pub async fn at<T>(
        &self,
        stage: &'static str,
        limit: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let (at, began) = (paths::now(), Instant::now());
        fail_point(self.work, stage)?;
        let span = tracing::debug_span!(target: traces::ONLY, "stage", work = self.work, stage);
        let result = match tokio::time::timeout(limit, work).instrument(span).await {
            Ok(result) => result.map_err(|error| error.during(stage)),
            Err(_) => {
                Err(Error::new(Kind::Timeout, format!("{stage}: not done after {} s", limit.as_secs()))
                    .cure("the work is undone; ask again"))
            }
        };
        let took = began.elapsed();
        crate::metrics::stage(self.work, stage, result.is_ok(), took);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        tracing::debug!(stage, took_us, ok = result.is_ok(), "{}", self.work);
        let mark = Mark { stage: stage.to_owned(), at, took_us };
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).push(mark);
        result
    }

    /// The timeline so far.
    pub fn marks(&self) -> Vec<Mark> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Dies or fails here, if a test wants that: `RT_CRI_DIE_AT=run/network`, `RT_CRI_FAIL_AT=run/network`.
pub fn fail_point(work: &str, stage: &str) -> Result<()> {
    #[cfg(feature = "failpoints")]
    {
        let here = format!("{work}/{}", stage.replace(' ', "-"));
        if std::env::var("RT_CRI_DIE_AT").is_ok_and(|at| at == here) {
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
        }
        if std::env::var("RT_CRI_FAIL_AT").is_ok_and(|at| at == here) {
            return Err(Error::internal(format!("fail point {here}")));
        }
    }
    let _ = (work, stage);
    Ok(())
}

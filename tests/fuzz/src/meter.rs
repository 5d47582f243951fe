//! What an input may cost: memory by what the allocator has given out, time by the processor's clock, which a busy machine doesn't move.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::{MEMORY, Outcome, Target};

/// The program of `hack/fuzz` is optimised, and each of its steps counted; tests are not optimised.
const PROCESSOR: Duration = Duration::from_secs(if cfg!(feature = "libfuzzer") { 2 } else { 10 });

/// Runs a target on one input, within what the input may cost.
///
/// # Panics
/// Something doesn't hold that must.
pub fn within(target: &Target, input: &[u8]) -> Outcome {
    // The measures are the process's: one input at a time.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    crate::surroundings::enter();
    let (before, began) = (MEMORY.current_usage(), processor());
    MEMORY.reset_peak_usage();
    let outcome = (target.run)(input);
    let (spent, taken) = (processor().saturating_sub(began), MEMORY.peak_usage().saturating_sub(before));
    let (base, each) = target.memory;
    let most = base + each * input.len();
    if crate::is_told() {
        println!("{}: {} bytes cost {taken} of at most {most} bytes, {spent:?}", target.name, input.len());
    }
    assert!(
        taken <= most,
        "{} bytes of input cost {taken} bytes of memory, at most {most} may be",
        input.len()
    );
    assert!(spent <= PROCESSOR, "{} bytes of input cost {spent:?} of processor", input.len());
    outcome
}

fn processor() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

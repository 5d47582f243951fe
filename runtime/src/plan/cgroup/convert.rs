//! Numbers of cgroup v1, which the config is written in, as cgroup2 has them. Nothing else.

/// `cpu.shares` (2 to 262144) → `cpu.weight` (1 to 10000): a curve through (2, 1), (1024, 100) and (262144, 10000), so that both
/// defaults mean the same. Source: opencontainers/cgroups, pull request 20; runc ≥ 1.3.2, crun ≥ 1.23.
pub fn cpu_weight(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let log = (shares as f64).log2();
    let exact = 10f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0);
    // Where the curve meets a whole number, the last bit of a libm must not decide.
    (exact - 1e-9).ceil() as u64
}

/// blkio weight (10 to 1000) → `io.weight` (1 to 10000), linear.
pub fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

/// Quota and period in microseconds → systemd's microseconds per second, which it wants in steps of 10 ms: rounded up.
pub fn quota_per_second(quota: u64, period: u64) -> u64 {
    let exact = u128::from(quota) * 1_000_000 / u128::from(period.max(1));
    u64::try_from(exact.div_ceil(10_000) * 10_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights() {
        for (shares, weight) in [
            (1, 1),
            (2, 1),
            (10, 4),
            (102, 17),
            (256, 35),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (4096, 303),
            (22_000, 1204),
            (65_536, 3023),
            (262_144, 10_000),
            (1 << 40, 10_000),
        ] {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
    }

    #[test]
    fn weights_never_fall_and_stay_in_range() {
        let mut last = 0;
        for shares in 0..=262_200 {
            let weight = cpu_weight(shares);
            assert!(weight >= last && (1..=10_000).contains(&weight), "{shares}: {weight} after {last}");
            last = weight;
        }
    }

    #[test]
    fn block_weights_are_linear() {
        for (weight, expected) in [(10, 1), (100, 910), (500, 4950), (1000, 10_000)] {
            assert_eq!(io_weight(weight), expected, "{weight}");
        }
    }

    #[test]
    fn quotas_are_rounded_up_for_systemd() {
        for (quota, period, expected) in [
            (50_000, 100_000, 500_000),
            (200_000, 100_000, 2_000_000),
            (5_000, 100_000, 50_000),
            (5_100, 100_000, 60_000),
            (33_333, 100_000, 340_000),
            (1_000, 1_000_000, 10_000),
        ] {
            assert_eq!(quota_per_second(quota, period), expected, "{quota}/{period}");
        }
    }
}

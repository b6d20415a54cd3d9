"""Which images form which batch, on which rank: functions of (seed, epoch)."""

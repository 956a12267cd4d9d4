"""What to do when no rollout succeeds: certified bounds on the pass rate, likelihood-based optimism, counts."""

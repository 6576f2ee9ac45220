"""Floor 2: live A/B tests: assignment, outcomes, statistics, reports. Never imports torch."""

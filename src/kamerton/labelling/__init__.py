"""Floor 2: labels by a teacher: what to ask, what to keep, what to review. Never imports torch."""

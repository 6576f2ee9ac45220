"""Floor 2: tasks, checks, metrics, paired statistics and the report. Never imports torch."""

"""Floor 8: one readable file per verb."""

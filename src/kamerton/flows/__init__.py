"""Floor 7: one readable file per verb."""

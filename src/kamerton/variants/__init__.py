"""Floor 6: a variant stands alone: load, verify, probe, export, combine; no recipe needed."""

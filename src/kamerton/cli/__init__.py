"""Floor 8: the verbs, their tables, progress bars and hints."""

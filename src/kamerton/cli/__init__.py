"""Floor 9: the verbs, their tables, progress bars and hints."""

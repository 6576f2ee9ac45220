"""Floor 1: SQL tables and migrations, variant folders. Never imports torch."""

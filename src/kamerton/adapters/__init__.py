"""Floor 4: adapters, one file per method: attach, train, merge, save, load."""

"""Floor 4: adapters, one file per method, a folder per family: attach, train, merge, save, load."""

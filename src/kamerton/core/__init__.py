"""Floor 0: errors, settings, protocols, events, files, seeds. Imports nothing of Kamerton."""

"""Floor 1: reading, formats, audit, rendering with loss masks, privacy. Never imports torch."""

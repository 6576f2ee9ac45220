"""Floor 1: formats, audit, rendering with loss masks, split, redaction. Never imports torch."""

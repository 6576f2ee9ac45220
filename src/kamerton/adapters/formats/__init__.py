"""File formats of others: PEFT, AdapterHub, GGUF."""

"""Examples as token ids and loss masks, by the base's own chat template."""

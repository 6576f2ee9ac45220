"""Floor 7: the OpenAI-compatible gateway before an engine process. Never imports torch."""

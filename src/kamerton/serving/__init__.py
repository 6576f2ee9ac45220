"""Floor 7: the gateway, an OpenAI-compatible server before an engine process. Never imports torch."""

"""GGUF, the file format of llama.cpp, Ollama and LM Studio: written, read, used as a base."""

"""The LoRA family: LoRA, rsLoRA, DoRA, LoRA+, PiSSA, LoftQ."""

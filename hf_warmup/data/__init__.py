"""Data sets as tasks and as images: what they are called in a YAML, and the tensors that come of it."""

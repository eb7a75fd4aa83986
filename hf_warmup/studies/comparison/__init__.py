"""The comparison: the same tasks, learning rates and seeds for every optimizer and warmup."""

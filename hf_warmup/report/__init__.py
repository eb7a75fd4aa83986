"""Reports, model cards and pictures, from stored results alone."""

"""Statistics of paired runs and of proportions: numbers in, numbers and verdicts out."""

"""The networks behind the metrics: each loads real checkpoints and nothing else, from a path."""

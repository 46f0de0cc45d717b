"""A run of the benchmark: its plan, its jobs, who works on them."""

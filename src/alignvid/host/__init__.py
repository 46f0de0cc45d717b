"""What is known of a live model and of who runs it: transformers, step, pass, caches, key norms."""

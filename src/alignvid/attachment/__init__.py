"""A recipe in force on a model: resolved, installed, counted, undone."""

"""A run: its recipe, its course, its checkpoints."""

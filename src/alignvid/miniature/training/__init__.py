"""How the miniature was trained: in the repository, not in the wheel."""

"""How the miniature is trained: its data, its losses and its stages; left out of the wheel."""

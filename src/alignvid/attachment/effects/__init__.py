"""What each kind of modulation does to a module's input or output: one file per kind."""

"""Clinical metrics by models of others, each in a process with its own packages."""

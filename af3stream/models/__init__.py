"""Find, download, assemble and check checkpoints."""

"""Models: finding, pulling, assembling and checking checkpoints."""

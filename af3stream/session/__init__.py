"""One conversation: its audio, captions, questions and answers. No clock, no socket, no model."""

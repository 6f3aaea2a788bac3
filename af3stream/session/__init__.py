"""One conversation: what was heard, captioned, asked and answered. No clock, no socket, no model."""

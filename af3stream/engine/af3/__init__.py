"""Audio Flamingo 3: alignment, encoder, fusion, the persistent KV prefix, and decoding."""

"""Programs for people: captions over the desktop, a microphone in the terminal, a meeting bot, and the demo."""

"""The OpenAI API's requests about files: transcriptions, translations, and chat about audio."""

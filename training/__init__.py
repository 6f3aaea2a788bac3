"""Train ``mini``, the embedded Audio Flamingo 3 checkpoint, from packages alone.

``python -m training`` runs these steps in order, and continues where it was stopped:

1. ``corpus``: synthesise texts (``texts``) in voices (``voices``), and store shards of 16 kHz clips.
2. ``listen``: train the projector with CTC to output token embeddings of the language model, over speech that
   ``augment`` places in rooms, on telephones and in noise.
3. ``read``: train low-rank adapters of the language model to transcribe, to answer questions (``questions``) about
   speech, and to name sounds (``sounds``).
4. ``export``: write the trained weights as the safetensors that ``af3stream.models.mini`` puts over its public parts.
5. ``assemble``: write the whole checkpoint as a folder that ``af3stream serve --model FOLDER`` runs.

``python -m training.evaluate`` measures the result. ``config`` holds all numbers, and ``sources`` all inputs with their
licences.
"""

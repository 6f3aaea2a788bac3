"""Trains ``mini``, the embedded Audio Flamingo 3 checkpoint, from packages alone.

``python -m training`` does everything, in this order, and goes on where it was stopped:

1. ``corpus``: texts (``texts``) become speech (``voices``), kept as shards of 16 kHz clips.
2. ``listen``: the encoder and the projector learn to write each frame in the language model's own token embeddings
   (CTC), over speech that ``augment`` places in rooms, on telephones and in noise.
3. ``read``: the language model learns, through low-rank adapters, to transcribe, to answer questions (``questions``)
   about what was said, and to name sounds (``sounds``).
4. ``export``: what changed, as the safetensors that ``af3stream.models.mini`` lays over its public parts.
5. ``assemble``: both together, as a folder that ``af3stream serve --model FOLDER`` runs.

The middle stages may run side by side, each in a process of its own: the reading stage takes the newest encoder
whenever there is one. ``python -m training.evaluate`` measures the result. ``config`` holds every number, ``sources``
what everything is made of and under which licence.
"""

"""The meeting bot: ``python -m clients.meeting_bot``. ``docs/meeting-bot.md`` tells how to use it.

::

    sources.open_source     sound, and who spoke when, from a file, FFmpeg, standard input or Attendee
      -> recording.Recording  on disk first: nothing waits in memory, however long the service is away
      -> bot.Bot._send        from the disk to the service; the chapters' questions stand between two samples
      -> events.Rules         captions, watch hits and answers to events
      -> state.State          the event in the outbox, and the number it was heard under, in one transaction
      -> delivery.Deliverer   webhook, command or file, until it is taken or given up
    minutes.write           at the end: minutes, transcript, recording
"""

"""The meeting bot: ``python -m clients.meeting_bot``. ``docs/meeting-bot.md`` tells how to use it.

::

    sources.open_source     sound, and who spoke when, from a file, FFmpeg, standard input or Attendee
      -> recording.Recording  on disk first: nothing waits in memory, however long the service is away
         intake.Intake
      -> telling.Telling      from the disk to the service; questions where a passage ends (passages.cut)
      -> events.Rules         captions, watch hits and answers to events
      -> outbox.Outbox        the event, and the number it was heard under, in one transaction of the state
      -> delivery.Deliverer   webhook, command or file, until it is taken or given up
    minutes.write           at the end: minutes, transcript, recording
      digest.of               the replies as summary, decisions, action items and open questions
      grounding.ground        what of a reply was said, and where

:class:`.bot.Bot` holds one session after another until one has heard everything, and finishes.
"""

"""Take minutes of a meeting and report events: ``af3stream-bot``. See ``docs/meeting-bot.md``.

    sources.open_source               audio, and who spoke when, from a file, FFmpeg, standard input or Attendee
      -> audio_receiver.AudioReceiver   to disk first (recording.Recording), so that a long outage needs no memory
      -> service_session.ServiceSession from disk to the service; questions at the end of a passage (passages)
      -> events.RuleEngine              events from captions, watch hits and answers
      -> outbox.Outbox                  the event and its cause in one transaction of the state
      -> delivery.Deliverer             to a webhook, command or file, with retries and dead letters
    minutes.write                     at the end: minutes, transcript, recording
      digest.build                      replies as summary, decisions, action items and open questions
      grounding.ground                  the parts of a reply that captions support

``.bot.Bot`` runs one session after another until the service has heard the whole recording, then finishes.
"""

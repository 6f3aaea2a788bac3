"""What must survive: audio as it was sent, final captions, answers, and the facts of a session.

    <folder>/lock                                  held by the server that writes
    <folder>/sessions/<id>/facts.json              what the session is, its token and its state; replaced as a whole
    <folder>/sessions/<id>/events.log              its events, in commits
    <folder>/sessions/<id>/segments.log            which segments are sealed, in commits
    <folder>/sessions/<id>/000003-960000.raw       records from frame 960000 on, as they came
    <folder>/sessions/<id>/000002.flac, .zlib      a minute that is closed
    <folder>/sessions/<id>/mark, events.mark, segments.mark     how much of the audio, or of a log, is acknowledged

A record's way: ``Journal.append`` -> ``Writer`` (a thread, a bounded queue) -> ``Store.commit`` -> ``SegmentLog``
(write, one fdatasync a file), then ``Catalog`` (one commit and one fdatasync a log) -> ``done(Commit)``; later
``Sealer`` makes FLAC of it.

Audio is synced before the events of the same commit are written, and each commit of events names the frames that were
durable then. So an event on disk implies its audio, and audio below that position that is missing is a loss.

Three places know how far a session was acknowledged. A segment's name: everything before its first frame was. The
marks: rewritten after each fdatasync and not synced themselves, so exact after the death of the process, and some
seconds late after a power cut. The event log and the facts: with every event and end. So a commit of audio costs one
fdatasync. Whole records above the mark count, and are written again before they do; what is not whole is a torn tail
above the mark, and a loss below it. A log is treated in the same way: a process appends only to a log that it has
written and synced itself, and first replaces the log that an earlier process left. What a power cut and a failing disk
together hide in the seconds between is seen by the client, whose own offset is ahead.
"""

"""What must survive: audio as it was sent, final captions, answers, and the facts of a session.

::

    <folder>/lock                          held by the server that writes
    <folder>/journal.db                    facts, events, sealed segments        SQLite, WAL, synchronous=FULL
    <folder>/sessions/<id>/mark            the acknowledged offset
    <folder>/sessions/<id>/000003-960000.raw       records from frame 960000 on, as they came
    <folder>/sessions/<id>/000002.flac, .zlib      a minute that is closed

A record's way: ``Journal.append`` -> ``Writer`` (a thread, a bounded queue) -> ``Store.commit`` -> ``SegmentLog``
(write, one fdatasync a file) and ``Database`` (one transaction) -> ``done(Commit)``; later ``Sealer`` makes FLAC of it.

Three places know how far a session was acknowledged. A segment's name: everything before its first frame was. The
``mark`` file: rewritten after each fdatasync and not synced itself, so exact after the death of the process, and some
seconds late after a power cut. SQLite: with every event, sealed segment and end, in transactions that happen anyway. So
a commit of audio costs one fdatasync. Whole records above the mark count, and are written again before they do; what is
not whole is a torn tail above the mark, and a loss below it. What a power cut and a failing disk together hide in the
seconds between is seen by the client, whose own offset is ahead.
"""

"""Keep sessions on disk: audio as it was sent, final captions, answers, and the facts of each session.

    <folder>/lock                                  held by the server that writes
    <folder>/sessions/<id>/facts.json              what the session is, its token and its state; replaced as a whole
    <folder>/sessions/<id>/events.log              its events, in commits
    <folder>/sessions/<id>/segments.log            which segments are sealed, in commits
    <folder>/sessions/<id>/000003-960000.raw       records from frame 960000 on, as they arrived
    <folder>/sessions/<id>/000002.flac, .zlib      a sealed segment: a minute of audio
    <folder>/sessions/<id>/mark, events.mark, segments.mark     how much of the audio, or of a log, is acknowledged

The path of a record: ``Journal.append`` -> ``Writer`` (a thread with a bounded queue) -> ``Store.commit`` ->
``SegmentLog`` (write, one fdatasync per file), then ``Catalog`` (one commit and one fdatasync per log) ->
``done(Commit)``. Later, ``Sealer`` encodes the segment as FLAC.

Audio is synced before the events of the same commit are written, and each commit of events names the number of frames
that are durable at that time. So an event on disk implies its audio. Audio that is missing below that number is a loss.

Three places record how far a session was acknowledged:

- The name of a segment: everything before its first frame was acknowledged.
- The marks. They are rewritten after each fdatasync and not synced themselves. So they are exact after a crash of the
  process, and may be some seconds old after a power cut.
- The event log and the facts, at each event and at the end of the session.

So a commit of audio costs one fdatasync. Whole records above the mark count, and recovery writes them again before it
relies on them. An incomplete record is a torn tail if it is above the mark, and a loss if it is below. Logs are treated
in the same way: a process appends only to a log that it has written and synced itself, and first replaces a log of an
earlier process. A power cut together with a failing disk may hide the last seconds; the client detects that, because
its own offset is ahead.

Several servers may share a folder. Then each owner of a session writes in a subfolder of its own, and checks its lease
between the last sync of a commit and ``done(Commit)``; `af3stream.journal.ownership` describes this. A new owner
(``Store.take``) reads in this order: facts, events, audio. It copies the event log, so each log is complete. Of the
audio it copies the last file if that is raw, because its earlier owner may still write it; all files before are
complete. Its facts say which files of lower fences count, and replace theirs at once.
"""

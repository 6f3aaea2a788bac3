"""Show live captions over the desktop: ``af3stream-captions``. See ``docs/desktop.md``.

The model of a session (``.transcript``, ``.questions``, ``.session_status``) depends on neither windows nor
sockets. The session runs on an event loop in a thread of its own (``.session_worker``), and reports to the windows
through Qt signals.
"""

from af3stream_clients.captions.singleton_refcounts import pin_singletons

pin_singletons()

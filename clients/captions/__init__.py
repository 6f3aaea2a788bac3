"""Live captions over the desktop: ``python -m clients.captions``. The pages of ``docs/desktop.md`` tell how to use it.

What is known of a session (:mod:`.transcript`, :mod:`.questions`, :mod:`.standing`) knows neither windows nor sockets;
the session itself runs on an event loop in a thread of its own (:mod:`.link`) and speaks to the windows in Qt signals.
"""

from clients.captions.singleton_refcounts import pin_singletons

pin_singletons()

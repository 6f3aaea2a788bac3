"""The package's logger."""

import logging

logger = logging.getLogger("livekit.plugins.af3stream")

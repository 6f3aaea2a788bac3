"""Exit with 0 if the server of this machine is ready, else with 1 and the reason; a container's health check.

$AF3STREAM_HEALTH_URL is asked, by default http://127.0.0.1:8765/readyz. The name in the server's certificate is that of
its clients, so the certificate is not verified: ask an address of this machine only.
"""

from __future__ import annotations

import os
import ssl
import sys
import urllib.request

URL = "http://127.0.0.1:8765/readyz"
TIMEOUT_S = 4.0


def main() -> int:
    """Ask once, and return the exit code."""
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    try:
        urllib.request.urlopen(os.environ.get("AF3STREAM_HEALTH_URL", URL), timeout=TIMEOUT_S, context=unverified)
    except OSError as error:  # refused, timed out, or another status
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

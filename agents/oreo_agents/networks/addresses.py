"""Addresses of servers, as settings give them.

Knows: their form. Does not know: who listens there.
"""

from urllib.parse import urlsplit


def require_url(name: str, url: object) -> None:
    """Refuse what is no address of a server.

    Raises:
        ValueError: it is none.
    """
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        sound = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        parts, sound = None, False
    if parts is None or not sound or parts.query or parts.fragment:
        raise ValueError(f"{name} must be an address such as http://127.0.0.1:8000, got {url!r}")
    if parts.path.rstrip("/").endswith("/v1"):
        raise ValueError(f"{name}={url}: leave out /v1, which is added")

"""Addresses of servers, as users give them."""

from __future__ import annotations

from urllib.parse import urlsplit


def host_of(url: str) -> str | None:
    """The host of a server at `url`; None where it is no address of HTTP that a client could call."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # which raises for a port that is none
        (host or "").encode("idna")  # raises for a name that none can have
    except ValueError:
        return None
    plain = url.isprintable() and " " not in url
    return host if plain and parts.scheme in {"http", "https"} else None

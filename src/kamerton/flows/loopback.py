"""Tell whether an address is this machine: what is sent there leaves nothing."""

from ipaddress import ip_address
from urllib.parse import urlsplit

__all__ = ["is_loopback"]


def is_loopback(url: str) -> bool:
    """Tell whether an address is this machine.

    Args:
        url: The address.

    Returns:
        Whether what is sent there stays here.
    """
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

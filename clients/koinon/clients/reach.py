"""Can a federation's server be reached: its name, its port and its certificate, each named apart."""

from __future__ import annotations

import socket
import ssl

from koinon.errors import ResourceError

__all__ = ["check_server", "split_address"]

SECONDS = 5.0
_NOT_YET_VALID = 9
"""X509_V_ERR_CERT_NOT_YET_VALID"""


def split_address(address: str) -> tuple[str, int]:
    """``host:port`` as host (an IPv6 one without brackets) and port."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def check_server(address: str, ca_certificate: str) -> None:
    """Look a server's name up, connect to its port, and let it prove itself to the federation's authority.

    Parameters
    ----------
    address
        ``host:port``.
    ca_certificate
        PEM of the only authority that is believed.

    Raises
    ------
    ResourceError
        K826 the name is not found, K827 nobody answers at the port, K828 who answers cannot prove to be the
        federation's server, K829 by this machine's clock it cannot yet.
    """
    host, port = split_address(address)
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ResourceError(
            "K826",
            f"The name {host} is not found: {error.strerror or error}.",
            "Check the name and this machine's DNS.",
        ) from error
    try:
        connection = socket.create_connection((host, port), SECONDS)
    except OSError as error:
        raise ResourceError(
            "K827",
            f"Nobody answers at {address}: {error.strerror or error}.",
            "Is the server running, and does a firewall let this port through?",
        ) from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca_certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        with connection, context.wrap_socket(connection, server_hostname=host):
            return
    except (ssl.SSLError, OSError) as error:
        if getattr(error, "verify_code", 0) == _NOT_YET_VALID:
            raise ResourceError(
                "K829",
                f"By this machine's clock the certificate of {address} is not valid yet.",
                "Set the clock, e.g. by NTP (`timedatectl set-ntp true`).",
            ) from error
        said = getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)
        raise ResourceError(
            "K828",
            f"Who answers at {address} cannot prove to be the federation's server: {said}.",
            "Do not go on: compare the invitation with the operator, and ask whether somebody stands between.",
        ) from error

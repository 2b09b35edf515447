"""TLS as a client: whom to trust, and a certificate of one's own."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bpfd import options
from bpfd.errors import ActionError
from bpfd.event import printable

if TYPE_CHECKING:
    import ssl

SETTINGS = {
    "ca_file": "the certificates to trust, in PEM; left out: the system's",
    "cert_file": "a certificate of our own, in PEM, for servers that want one",
    "key_file": "its key, in PEM, without a passphrase",
}


def files(settings: Mapping[str, Any]) -> dict[str, str]:
    """The paths of SETTINGS that are set. Raises `ActionError` for one that is none."""
    found = {key: options.text(settings, key) for key in SETTINGS if key in settings}
    for key, path in found.items():
        if not path.startswith("/"):
            raise ActionError(f"{key}: must be the absolute path of a file")
    if ("cert_file" in found) != ("key_file" in found):
        raise ActionError("cert_file: goes with key_file; set both")
    return found


def context(settings: Mapping[str, Any]) -> ssl.SSLContext:
    """A context that checks certificates and names. Raises `ActionError`, naming the key."""
    import ssl

    found = files(settings)
    try:
        made = ssl.create_default_context(cafile=found.get("ca_file"))
    except OSError as error:
        raise ActionError(f"ca_file: {reason(error)}") from None
    if "cert_file" in found:
        try:
            made.load_cert_chain(found["cert_file"], found["key_file"], password=_no_passphrase)
        except OSError as error:
            raise ActionError(f"cert_file: {reason(error)}") from None
    return made


def system_authorities() -> str:
    """Where the system's certificates are, for libraries with a TLS of their own."""
    import ssl

    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or paths.openssl_cafile


def is_here(host: str | None) -> bool:
    """True if `host` is this machine, so that nobody listens on the way."""
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def reason(error: BaseException) -> str:
    """What went wrong with a connection or a file, in a few words."""
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {printable(error.reason or 'no reason given')}"
    if isinstance(error, OSError):
        return error.strerror or "the connection failed"
    return printable(str(error)).removeprefix("nats: ")[:200] or "the connection failed"


def _no_passphrase() -> str:
    """Asked for when a key has one: there is nobody at the terminal of a daemon."""
    return ""

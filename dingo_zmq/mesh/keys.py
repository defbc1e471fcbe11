"""Who gets in: CURVE keys in files, and the gatekeeper that admits the owners of listed keys."""

from __future__ import annotations

import hashlib
import os
import shlex
import struct
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import zmq
from zmq.utils import z85

from dingo_zmq import config
from dingo_zmq.errors import ConfigError
from dingo_zmq.mesh.discovery.port import UNKEYED
from dingo_zmq.mesh.private import open_private, private_folder, private_temp
from dingo_zmq.protocol.guests import guest_name

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DOMAIN",
    "Gatekeeper",
    "Key",
    "callers_of",
    "find_key",
    "id_of",
    "is_public",
    "key_id",
    "load_key",
    "local_key",
    "mesh_key_path",
    "new_key",
    "put_new",
    "save_key",
    "secure_client",
    "secure_server",
]

DOMAIN = b"dingo-zmq"
"""The ZAP domain of every secured socket; the gatekeeper compares it exactly."""
_ZAP_ENDPOINT = "inproc://zeromq.zap.01"
_KEY_LENGTH = 40
_RAW_KEY_LENGTH = 32
_REQUEST_FRAMES = 6  # version, request, domain, address, identity, mechanism; then credentials
_FILE_LIMIT = 4096
_KEYGEN = "dingo-zmq keygen"
_COMMENT = "# A dingo-zmq {kind} key.  Keep it secret (mode 0600): whoever has it can run tasks."

Kind = Literal["local", "mesh", "guest"]
_KINDS: tuple[Kind, ...] = ("local", "mesh", "guest")


@dataclass(frozen=True, slots=True)
class Key:
    """
    One CURVE pair.  Holders of a mesh key use it as server key and as client key alike.

    Attributes:
        public: 40 bytes of z85 text.
        secret: 40 bytes of z85 text; never shown by `repr`.
        kind: "local" for the automatic key of one user on one machine, "mesh" for one that is shared, "guest" for
            one that nodes of a mesh key admit with less.
        path: the file it was read from, or None.
        mesh: of a guest's key, the public half of the mesh key that its nodes have; else None.
    """

    public: bytes
    secret: bytes = field(repr=False)
    kind: Kind
    path: Path | None = None
    mesh: bytes | None = None

    @property
    def server(self) -> bytes:
        """The public key of the nodes that it is for."""
        return self.mesh or self.public

    @property
    def is_guest(self) -> bool:
        """Whether it is for calling alone, and for what an entry at the nodes allows."""
        return self.kind == "guest"


def new_key(kind: Kind, mesh: bytes | None = None) -> Key:
    """Return a fresh random key that is in no file yet; `mesh` as for a `Key`."""
    public, secret = zmq.curve_keypair()
    return Key(public, secret, kind, mesh=mesh)


def local_key(folder: Path | str | None = None) -> Key:
    """
    Return this user's own key, made at first use; processes that make it at once end with the same one.

    Args:
        folder: where `local.key` lies; the default is DINGO_ZMQ_CONFIG_DIR, or else the user's folder
            for settings.

    Raises:
        ConfigError: if the folder or the file cannot be used; see `load_key`.
    """
    path = _config_folder(folder) / "local.key"
    if not os.path.lexists(path):
        _put(path, new_key("local"))
    return load_key(path, "local")


def mesh_key_path(folder: Path | str | None = None) -> Path:
    """Return where a mesh key is looked for unless told: `mesh.key` beside `local.key`; made folder and all."""
    return _config_folder(folder) / config.MESH_KEY


def find_key(path: Path | str | None = None) -> Key:
    """
    Return the mesh or guest key in a file, or else the one in its usual place, or else this user's own key.

    Raises:
        ConfigError: if a file that is there, or was named, cannot be used; see `load_key`.
    """
    if path is None:
        path = mesh_key_path()
        if not os.path.lexists(path):
            return local_key()
    return load_key(Path(path).expanduser(), "mesh", "guest")


def key_id(key: Key | None) -> str:
    """
    Return 8 hexadecimal digits that tell keys apart and say nothing about the secret; `UNKEYED` for no key.

    Nodes announce it, so that of a guest's key is the one of the nodes that it is for.
    """
    return UNKEYED if key is None else id_of(key.server)


def callers_of(key: Key | None) -> str:
    """Return what the names of callers with this key begin with: "" but for a guest, whom nodes hold to it."""
    return f"{guest_name(key.public)}." if key is not None and key.is_guest else ""


def id_of(public: bytes) -> str:
    """Return the same for the public half of a key."""
    return hashlib.sha256(b"dingo-zmq key " + public).hexdigest()[:8]


def _config_folder(folder: Path | str | None) -> Path:
    return private_folder(Path(folder or config.folder()), forbidden=0o022)


def save_key(path: Path | str, key: Key) -> Key:
    """
    Write a key into a new file of mode 0600 and return it as read back.

    Raises:
        ConfigError: if the file exists already (it is left as it is) or cannot be written.
    """
    path = Path(path)
    if not _put(path, key):
        raise ConfigError(f"{path} exists already and is left as it is; hint: take another name, or move it away")
    return load_key(path, key.kind)


def _put(path: Path, key: Key) -> bool:
    """Put the whole file there at once, unless there is one; return whether it was ours that won."""
    lines = [_COMMENT.format(kind=key.kind), f'kind = "{key.kind}"']
    if key.mesh is not None:
        lines.append(f'server = "{key.mesh.decode()}"')
    lines += [f'public = "{key.public.decode()}"', f'secret = "{key.secret.decode()}"', ""]
    return put_new(path, "\n".join(lines).encode())


def put_new(path: Path, content: bytes) -> bool:
    """
    Put a whole file of mode 0600 there at once, unless there is one; return whether it was ours that won.

    Raises:
        ConfigError: if it cannot be written.
    """
    fd, temp = private_temp(path.parent, content)
    try:
        os.fsync(fd)
        os.link(temp, path)
    except FileExistsError:
        return False
    except OSError as exc:
        raise ConfigError(f"cannot write {path}: {exc.strerror or exc}") from exc
    finally:
        os.close(fd)
        temp.unlink(missing_ok=True)
    return True


def load_key(path: Path | str, *kinds: Kind) -> Key:
    """
    Read a key file.

    Args:
        path: the file.
        kinds: those it may be of; none for any.

    Raises:
        ConfigError: if the file is missing, a link, foreign, open to group or others, not a whole key file,
            of the wrong kind, or its two halves do not belong together.  The text says how to repair it
            and never shows the secret.
    """
    path = Path(path)
    fd = open_private(path, f"{_KEYGEN} {shlex.quote(str(path))}")
    with open(fd, "rb") as file:
        raw = file.read(_FILE_LIMIT + 1)
    is_guest = b'kind = "guest"' in raw
    table = _parse(path, raw, guest=is_guest)
    allowed = kinds or _KINDS
    if table["kind"] not in allowed:
        wanted = " or ".join(filter(None, [", ".join(allowed[:-1]), allowed[-1]]))
        raise _broken(path, f"is of kind {table['kind'][:20]!r}, not a {wanted} key", guest=is_guest)
    mesh = table["server"].encode() if table["kind"] == "guest" else None
    key = Key(table["public"].encode(), table["secret"].encode(), table["kind"], path, mesh)
    if not _belongs(key):
        what = "is damaged: its public key does not belong to its secret key"
        raise _broken(path, what, guest=is_guest)
    if mesh is not None and not is_public(mesh):
        raise _broken(path, "is damaged: its server is no public key", guest=is_guest)
    return key


def _parse(path: Path, raw: bytes, *, guest: bool) -> dict[str, Any]:
    """Return the texts of a key file; the cause is cut off since it could quote the content."""
    try:
        table = tomllib.loads(raw.decode("ascii")) if len(raw) <= _FILE_LIMIT else {}
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError):
        raise _broken(path, "is not a key file, or only a part of one", guest=guest) from None
    guest = guest or table.get("kind") == "guest"
    for name in ("kind", *(("server",) if guest else ()), "public", "secret"):
        if not isinstance(table.get(name), str):
            what = f"is not a key file, or only a part of one: {name} is missing"
            raise _broken(path, what, guest=guest)
    return table


def is_public(text: bytes) -> bool:
    """Return whether this can be a public key: 40 bytes of z85 text."""
    if len(text) != _KEY_LENGTH:
        return False
    try:
        return len(z85.decode(text)) == _RAW_KEY_LENGTH and z85.encode(z85.decode(text)) == text
    except (KeyError, ValueError, struct.error):
        return False


def _belongs(key: Key) -> bool:
    if len(key.public) != _KEY_LENGTH or len(key.secret) != _KEY_LENGTH:
        return False
    try:
        return zmq.curve_public(key.secret) == key.public
    except (zmq.ZMQError, ValueError):
        return False


def _broken(path: Path, what: str, *, guest: bool) -> ConfigError:
    quoted = shlex.quote(str(path))
    if guest:
        return ConfigError(
            f"{path} {what}; hint: copy it again from where it works, or have a new one made "
            "where the mesh key is: dingo-zmq keys add"
        )
    return ConfigError(
        f"{path} {what}; hint: copy it again from a machine where it works, "
        f"or make a new one: mv {quoted} {quoted}.old && {_KEYGEN} {quoted}"
    )


def secure_server(socket: zmq.Socket[bytes], key: Key) -> None:
    """Make a socket admit CURVE clients only, and only through the gatekeeper.  Call it before bind."""
    socket.curve_server = True
    socket.curve_publickey = key.public
    socket.curve_secretkey = key.secret
    socket.zap_domain = DOMAIN
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def secure_client(socket: zmq.Socket[bytes], key: Key, server: bytes | None = None) -> None:
    """
    Make a socket prove that it owns `key`, to the owner of `server` alone.  Call it before connect.

    Args:
        socket: the socket.
        key: our own pair.
        server: the node's public key; the default is the one that `key` is for.
    """
    socket.curve_serverkey = server or key.server
    socket.curve_publickey = key.public
    socket.curve_secretkey = key.secret


class Gatekeeper:
    """
    The ZAP handler (RFC 27) of one context, run by whichever thread owns its sockets.

    It admits a client that speaks CURVE, in our domain, with a listed public key, and makes the key's z85
    text the user id of all that client's messages.  Everybody else gets 400; a malformed request gets 500.
    It must be there before the first socket with a domain binds, and answered as long as one is bound.

    Attributes:
        socket: readable when requests wait; for a poller.
    """

    def __init__(self, context: zmq.Context[Any], allowed: Iterable[bytes], domain: bytes = DOMAIN) -> None:
        """
        Bind the one ZAP endpoint of the context.

        Args:
            context: the context whose sockets are guarded.
            allowed: public keys, each 40 bytes of z85 text.
            domain: the only domain that is served.

        Raises:
            ConfigError: if the context has a ZAP handler already.
        """
        self._allowed = frozenset(allowed)
        self._domain = domain
        self.socket: zmq.Socket[bytes] = context.socket(zmq.REP)
        self.socket.linger = 0
        try:
            self.socket.bind(_ZAP_ENDPOINT)
        except zmq.ZMQError as exc:
            self.socket.close()
            raise ConfigError(f"this ZeroMQ context has a ZAP handler already: {exc}") from exc

    def admit(self, allowed: Iterable[bytes]) -> None:
        """Replace the set of admitted keys; connections that are open stay open."""
        self._allowed = frozenset(allowed)

    def answer(self) -> int:
        """Answer all waiting requests without blocking; return how many there were.  Never raises."""
        count = 0
        try:
            while True:
                self.socket.send_multipart(self._judge(self.socket.recv_multipart(zmq.NOBLOCK)), zmq.NOBLOCK)
                count += 1
        except zmq.ZMQError:  # nothing waits, or the context is closing
            return count

    def close(self) -> None:
        """Stop serving; sockets that enforce the domain then admit nobody."""
        self.socket.close()

    def _judge(self, frames: list[bytes]) -> list[bytes]:
        """Return the answer to one request."""
        request = frames[1] if len(frames) > 1 else b""
        if len(frames) < _REQUEST_FRAMES or frames[0] != b"1.0":
            return [b"1.0", request, b"500", b"malformed request", b"", b""]
        domain, mechanism, credentials = frames[2], frames[5], frames[_REQUEST_FRAMES:]
        if domain != self._domain or mechanism != b"CURVE":
            return [b"1.0", request, b"400", b"wrong domain or mechanism", b"", b""]
        if len(credentials) != 1 or len(credentials[0]) != _RAW_KEY_LENGTH:
            return [b"1.0", request, b"500", b"malformed key", b"", b""]
        text = bytes(z85.encode(credentials[0]))
        if text not in self._allowed:
            return [b"1.0", request, b"400", b"key is not listed", b"", b""]
        return [b"1.0", request, b"200", b"OK", text, b""]

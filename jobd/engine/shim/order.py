"""What a shim is told to run: `key=value` fields that end in NUL. Pure, and used by both sides."""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself costs a millisecond of every start
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


#: how every order ends, and where only: no other field is called so
END = b"\0end=\0"


class Order:
    """What is to be run, from `key=value` fields that end in NUL; `end` must be the last."""

    def __init__(self, data: bytes) -> None:
        """Raises ValueError where the order was cut short: whoever sent it died."""
        #: as it came
        self.data = data
        self.args: list[bytes] = []
        self.env: dict[bytes, bytes] = {}
        #: files to write `0` to, which moves a process into a cgroup
        self.cgroups: list[bytes] = []
        self.one: dict[str, bytes] = {}
        fields = data.split(b"\0")
        if fields[-2:] != [b"end=", b""]:
            raise ValueError("the order was cut short")
        for item in fields[:-2]:
            key, _, value = item.partition(b"=")
            if key == b"arg":
                self.args.append(value)
            elif key == b"env":
                name, _, text = value.partition(b"=")
                self.env[name] = text
            elif key == b"cgroup":
                self.cgroups.append(value)
            else:
                self.one[key.decode()] = value

    def number(self, key: str) -> int:
        """A number of the order."""
        return int(self.one[key])


def encode(
    args: Iterable[bytes],
    env: Mapping[bytes, bytes],
    cgroups: Iterable[bytes],
    one: Mapping[str, bytes | int],
) -> bytes:
    """An order as it goes over the shim's channel. Raises ValueError for a NUL inside."""
    fields = [b"arg=" + word for word in args]
    fields += [b"env=" + name + b"=" + text for name, text in env.items()]
    fields += [b"cgroup=" + path for path in cgroups]
    for key, value in one.items():
        text = value if isinstance(value, bytes) else b"%d" % value
        fields.append(key.encode() + b"=" + text)
    if any(b"\0" in field for field in fields):
        raise ValueError("a NUL character in an argument or variable")
    return b"\0".join([*fields, b"end=", b""])

"""Text from outside as a terminal may have it: nothing in it moves the cursor, changes colours or turns the order."""

from __future__ import annotations

import re

# In JSON all else is escaped already: DEL and C1, what is invisible or turns the order of signs, halves of pairs.
_HIDDEN = re.compile("[\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]")


def plain(text: str, *, keep: str = "") -> str:
    """Text in which every sign that cannot be seen (controls, bidi overrides, …) is written as `\\x1b` or `\\u202e`.

    Args:
        keep: signs that stay, for example line feeds of a message of several lines.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in keep else _escaped(sign) for sign in text)


def plain_json(text: str) -> str:
    """JSON in which such signs are escaped; it means the same."""
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escaped(sign: str) -> str:
    number = ord(sign)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"

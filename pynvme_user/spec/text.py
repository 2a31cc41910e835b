"""Text of a device, made fit to be shown."""

import re


def printable(text: str) -> str:
    r"""Return text with what is not a character from 20h to 7Eh written as ``\x1b`` or ``\u20ac``.

    What a device says may have escape sequences in it, which a terminal would obey. Everything of
    it that goes to a terminal, a page or an error message goes through here. NULs at the end,
    with which some devices pad against the specification, are left out.
    """
    text = text.rstrip("\0")
    return text if text.isascii() and text.isprintable() else re.sub(r"[^ -~]", _escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8: PEP 383
        code -= 0xDC00
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )

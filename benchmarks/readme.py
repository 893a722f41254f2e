"""Tables of the README and of pages that commands write, each between ``<!-- NAME -->`` and ``<!-- end NAME -->``."""

from __future__ import annotations

from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def put(name: str, text: str, check: bool = False, page: Path = README) -> bool:
    """Write the section, or only see: whether it was as it should be."""
    from snnergy.files import write_text

    begin, end = f"<!-- {name} -->\n", f"<!-- end {name} -->\n"
    before = page.read_text(encoding="utf-8")
    head, rest = before.split(begin)
    after = head + begin + text + end + rest.split(end)[1]
    if not check:
        write_text(page, after)
    return after == before

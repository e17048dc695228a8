"""Whether a reply refuses what was asked, so that a list in it is none of answers. English is understood alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import dropwhile, takewhile

_CANNOT = r"(?:can[’']?t|can ?not|won[’']?t|could not|unable|not able)"
_BEGINS = re.compile(
    rf"(?:i[’']?m |i am )?(?:(?:very |so |really )?sorry|afraid|unable|not able)\b|i apologi[sz]e|unfortunately\b|i {_CANNOT}\b"
    r"|as an ai\b",
    re.IGNORECASE,
)
_UNABLE = re.compile(rf"\b{_CANNOT}\b", re.IGNORECASE)
_NAMES = "observation|idea|concept|approache|way|method|solution|hint|insight|option|answer|response"
_OFFERS = re.compile(rf"\bhere(?:[’']s| is| are)\b|\b(?:but|however)\b.*\b(?:{_NAMES})s\b", re.IGNORECASE)
_ITEM = re.compile(r"[#*_> \t]*(?:\d{1,3}[.)]|[-–*•+][ \t])")


def is_refused(lines: Sequence[str]) -> bool:
    """Whether the first paragraph of a reply refuses, and does not say that what was asked for is below all the same."""
    said = dropwhile(lambda line: not line.strip(), lines)
    paragraph = " ".join(line.strip() for line in takewhile(lambda line: line.strip() and not _ITEM.match(line), said))
    return bool(_BEGINS.match(paragraph) and _UNABLE.search(paragraph)) and not _OFFERS.search(paragraph)

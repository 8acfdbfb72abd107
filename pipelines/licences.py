"""Licences: free text, classifiers and SPDX expressions, brought to one SPDX expression."""

from __future__ import annotations

import re
from collections.abc import Iterable

UNSTATED = "LicenseRef-unstated"

# names that people write, lower-cased and stripped to letters, digits, dots and +; ambiguous ones ("BSD") are absent
_ALIASES = {
    "apache": "Apache-2.0", "apache2": "Apache-2.0", "apache2.0": "Apache-2.0", "apachelicense": "Apache-2.0",
    "apachelicense2.0": "Apache-2.0", "apachelicenseversion2.0": "Apache-2.0", "apachesoftwarelicense": "Apache-2.0",
    "apachesoftwarelicense2.0": "Apache-2.0", "apachev2": "Apache-2.0", "apachev2.0": "Apache-2.0",
    "apachelicense2": "Apache-2.0", "apachelicensev2.0": "Apache-2.0", "asl2.0": "Apache-2.0",
    "mit": "MIT", "mitlicense": "MIT", "themitlicense": "MIT", "themitlicensemit": "MIT", "mitlicensemit": "MIT",
    "expat": "MIT", "expatlicense": "MIT", "mit0": "MIT-0", "mitnoattribution": "MIT-0",
    "bsd2": "BSD-2-Clause", "bsd2clause": "BSD-2-Clause", "2clausebsd": "BSD-2-Clause", "simplifiedbsd": "BSD-2-Clause",
    "bsd2clauselicense": "BSD-2-Clause", "freebsd": "BSD-2-Clause",
    "bsd3": "BSD-3-Clause", "bsd3clause": "BSD-3-Clause", "3clausebsd": "BSD-3-Clause", "newbsd": "BSD-3-Clause",
    "bsd3clauselicense": "BSD-3-Clause", "modifiedbsd": "BSD-3-Clause", "newbsdlicense": "BSD-3-Clause",
    "3clausebsdlicense": "BSD-3-Clause", "modifiedbsdlicense": "BSD-3-Clause", "0bsd": "0BSD",
    "isc": "ISC", "isclicense": "ISC", "isclicenseiscl": "ISC", "unlicense": "Unlicense", "theunlicense": "Unlicense",
    "theunlicenseunlicense": "Unlicense", "zlib": "Zlib", "zliblicense": "Zlib", "zlib/libpnglicense": "Zlib",
    "psf": "PSF-2.0", "psfl": "PSF-2.0", "psflicense": "PSF-2.0", "psf2.0": "PSF-2.0",
    "pythonsoftwarefoundationlicense": "PSF-2.0", "python2.0": "Python-2.0",
    "mpl2": "MPL-2.0", "mpl2.0": "MPL-2.0", "mozillapubliclicense2.0": "MPL-2.0",
    "mozillapubliclicense2.0mpl2.0": "MPL-2.0", "boostsoftwarelicense1.0": "BSL-1.0",
    "boostsoftwarelicense1.0bsl1.0": "BSL-1.0", "cc0": "CC0-1.0", "cc01.0": "CC0-1.0",
    "cc01.0universalcc01.0publicdomaindedication": "CC0-1.0", "ccby4.0": "CC-BY-4.0", "ccbysa4.0": "CC-BY-SA-4.0",
    "gpl2": "GPL-2.0-only", "gplv2": "GPL-2.0-only", "gpl3": "GPL-3.0-only", "gplv3": "GPL-3.0-only",
    "gplv2+": "GPL-2.0-or-later", "gplv3+": "GPL-3.0-or-later",
    "gnugeneralpubliclicensev2gplv2": "GPL-2.0-only", "gnugeneralpubliclicensev3gplv3": "GPL-3.0-only",
    "gnugeneralpubliclicensev2orlatergplv2+": "GPL-2.0-or-later",
    "gnugeneralpubliclicensev3orlatergplv3+": "GPL-3.0-or-later",
    "lgplv2.1": "LGPL-2.1-only", "lgplv2.1+": "LGPL-2.1-or-later", "lgplv3": "LGPL-3.0-only",
    "lgplv3+": "LGPL-3.0-or-later", "lgpl3": "LGPL-3.0-only",
    "gnulessergeneralpubliclicensev3lgplv3": "LGPL-3.0-only",
    "gnulessergeneralpubliclicensev3orlaterlgplv3+": "LGPL-3.0-or-later",
    "gnulessergeneralpubliclicensev2orlaterlgplv2+": "LGPL-2.1-or-later",
    "agplv3": "AGPL-3.0-only", "agplv3+": "AGPL-3.0-or-later", "gnuafferogeneralpubliclicensev3": "AGPL-3.0-only",
}  # fmt: skip

# phrases that only the text of that licence has
_PHRASES = (
    ("Apache-2.0", ("apache license", "version 2.0")),
    ("MPL-2.0", ("mozilla public license", "version 2.0")),
    ("MIT", ("permission is hereby granted, free of charge", "the above copyright notice and this permission notice")),
    ("ISC", ("permission to use, copy, modify, and/or distribute this software for any purpose with or without fee",
             "provided that the above copyright notice")),
    ("BSD-3-Clause", ("redistribution and use in source and binary forms", "endorse or promote products")),
    ("BSD-2-Clause", ("redistribution and use in source and binary forms",)),
    ("Unlicense", ("this is free and unencumbered software released into the public domain",)),
)  # fmt: skip
_OPENING = 2000  # characters: long lists of copyright holders may precede the text itself
_LONG = 200  # characters: what is longer is the text of a licence, not its name


def checked_licence(stated: str) -> str:
    """What a person states of a whole source: an SPDX expression, a name that leads to one, or nothing.

    Raises:
        ValueError: if it names no licence; taken as it is, it would pass for one.
    """
    if stated and spdx(stated) == UNSTATED != stated:
        raise ValueError(
            f"{stated!r} names no licence; give an SPDX expression, for example CC-BY-4.0 or 'MIT OR Apache-2.0', for "
            "one that SPDX does not list LicenseRef-NAME, or nothing, if the data state it"
        )
    return stated


def spdx(stated: str) -> str:
    """The SPDX expression of what somebody stated, or ``LicenseRef-unstated`` where it does not say which licence.

    "BSD" alone is unstated: the two- and the three-clause licence differ. Several classifiers come in through
    :func:`spdx_of_classifiers`.
    """
    stated = stated.strip()
    if not stated:
        return UNSTATED
    if len(stated) > _LONG:
        return spdx_of_text(stated)
    return _expression(stated) or _ALIASES.get(_squeezed(stated)) or _joined(stated) or spdx_of_text(stated)


def spdx_of_text(text: str) -> str:
    """The licence whose own text this is, told by phrases that no other common licence has.

    The first phrase must stand near the beginning: what comes later is the licence of something that is bundled.
    A text that begins with several licences is unstated.
    """
    flat = " ".join(text.lower().split())
    found = [n for n, phrases in _PHRASES if phrases[0] in flat[:_OPENING] and all(p in flat for p in phrases)]
    if "BSD-3-Clause" in found:
        found.remove("BSD-2-Clause")  # its text is a part of the other's
    return found[0] if len(found) == 1 else UNSTATED


def spdx_of_classifiers(classifiers: Iterable[str]) -> str:
    """Trove classifiers; several licences are joined by AND, the reading that grants least."""
    names = [c.split("::")[-1].strip() for c in classifiers if c.startswith("License ::")]
    found = sorted({spdx(name) for name in names if name != "OSI Approved"})
    return " AND ".join(found) or UNSTATED


def _expression(stated: str) -> str:
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        return str(canonicalize_license_expression(stated))
    except InvalidLicenseExpression:
        return ""


def _joined(stated: str) -> str:
    """Names in free text between "and", "or", "/" or "," ("MIT/Apache-2.0" is written for OR)."""
    words = re.split(r"\s+(and|or)\s+|\s*(/|,|&)\s*", stated, flags=re.IGNORECASE)
    words = [w for w in words if w]
    if len(words) < 3 or len(words) % 2 == 0:
        return ""
    names = [_expression(w) or _ALIASES.get(_squeezed(w), "") for w in words[::2]]
    if not all(names):
        return ""
    links = {" AND " if w.lower() in {"and", "&", ","} else " OR " for w in words[1::2]}
    return links.pop().join(names) if len(links) == 1 else ""


def _squeezed(stated: str) -> str:
    return re.sub(r"[^a-z0-9.+/]", "", stated.lower())

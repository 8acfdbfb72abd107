"""The rule families in plain Python, written from their papers and from what FineWeb's and DCLM's pipelines do."""

from __future__ import annotations

import re
from collections import Counter

from pipelines.filters.characters import SYMBOL, TERMINAL, flags
from pipelines.filters.gopher_quality import STOP_WORDS

_KEPT_WORDS = re.compile(r"\w+|[^\w\s]")
_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_COUNTER = re.compile(
    r"^\W*\d(?:,|\.|\d)*(?:k|m|b)?\s+(?:likes|shares|comments|retweets|reposts|quotes|bookmarks|upvotes|downvotes"
    r"|downloads|views|followers)\W*$"
)
_POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


def has(character, flag):
    return ord(character) < len(flags()) and bool(flags()[ord(character)] & flag)


def words_of(text):
    return _KEPT_WORDS.findall(text)


def share(part, whole):
    return part / whole if whole else 0.0


def quality(text):
    words, lines = words_of(text), text.splitlines()
    spoken = [w for w in words if any(not has(c, SYMBOL) for c in w)]
    return {
        "num_tokens": len(words),
        "num_words": len(spoken),
        "num_lines": len(lines),
        "mean_word_length": share(sum(map(len, spoken)), len(spoken)),
        "hash_ratio": share(text.count("#"), len(words)),
        "ellipsis_ratio": share(text.count("...") + text.count("…"), len(words)),
        "bullet_lines_ratio": share(sum(s.lstrip().startswith(("•", "-")) for s in lines), len(lines)),
        "ellipsis_lines_ratio": share(sum(s.rstrip().endswith(("...", "…")) for s in lines), len(lines)),
        "alpha_words_ratio": share(sum(any(c.isalpha() for c in w) for w in words), len(words)),
        "num_stop_words": len(set(STOP_WORDS) & set(words)),
    }


def duplicates(elements):
    seen, count, chars = set(), 0, 0
    for element in elements:
        if element in seen:
            count, chars = count + 1, chars + len(element)
        seen.add(element)
    return count, chars


def top_gram(words, n):
    grams = Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
    return max(((c, -i, len(g) * c) for i, (g, c) in enumerate(grams.items())), default=(0, 0, 0))[2]


def repeated_grams(words, n):
    seen, chars, at = set(), 0, 0
    while at <= len(words) - n:
        gram = "".join(words[at : at + n])
        chars, at = (chars + len(gram), at + n) if gram in seen else (chars, at + 1)
        seen.add(gram)
    return chars


def repetition(text):
    words = words_of(text)
    paragraphs, lines = re.split(r"\n{2,}", text.strip()), re.split(r"\n+", text)
    (num_paragraphs, paragraph_chars), (num_lines, line_chars) = duplicates(paragraphs), duplicates(lines)
    measured = {
        "num_chars": len(text),
        "duplicate_paragraphs_ratio": share(num_paragraphs, len(paragraphs)),
        "duplicate_paragraph_chars_ratio": share(paragraph_chars, len(text)),
        "duplicate_lines_ratio": share(num_lines, len(lines)),
        "duplicate_line_chars_ratio": share(line_chars, len(text)),
    }
    for n in (2, 3, 4):
        measured[f"top_{n}_gram_ratio"] = share(top_gram(words, n), len(text))
    for n in range(5, 11):
        measured[f"duplicate_{n}_gram_ratio"] = share(repeated_grams(words, n), len(text))
    return measured


def fineweb(text, short_chars=30):
    lines = [line for line in text.split("\n") if line.strip()]
    return {
        "num_visible_lines": len(lines),
        "punctuated_lines_ratio": share(sum(has(line[-1], TERMINAL) for line in lines), len(lines)),
        "short_lines_ratio": share(sum(len(line) <= short_chars for line in lines), len(lines)),
        "repeated_line_chars_ratio": share(duplicates(lines)[1], len(text.replace("\n", ""))),
        "newline_ratio": share(text.count("\n"), len(words_of(text))),
    }


def c4(text, terminal=False):
    """The kept lines joined, and how many lines have lorem ipsum, a curly bracket, the latter before the former."""
    kept, lorem, curly, early = [], 0, 0, 0
    for raw in text.splitlines():
        words, line = raw.split(), _CITATION.sub("", raw.strip())
        lower = line.lower()
        unterminated = not line.endswith((".", "?", "!", '"', "'")) or line.endswith("...")
        if any(len(w) > 1000 for w in words) or (terminal and unterminated) or len(words) < 3:
            continue
        lorem += "lorem ipsum" in lower
        if "javascript" in lower:
            continue
        curly += "{" in line
        early += "{" in line and not lorem
        if not any(phrase in lower for phrase in _POLICY):
            kept.append(line)
    return "\n".join(kept).strip(), lorem, curly, early


def refinedweb(text):
    """What is left of a text, and the share of its words that went."""
    left = _refined(text)
    before, after = _dclm_words(text), _dclm_words(left)
    return left, (before - after) / before if before else 1.0


def _dclm_words(text):
    return sum(w[0].isalnum() for w in re.split("[ \n\r\t\v\f\0]+", text) if w)


def _refined(text):
    def filtered(text, goes):
        return "\n".join(line for line in text.split("\n") if not goes(line))

    text = filtered(text, lambda s: s and sum(c.isupper() for c in s) / len(s) > 0.5).strip()
    text = filtered(text, lambda s: s and sum(c.isdigit() for c in s) / len(s) > 0.999999).strip()
    text = filtered(text, lambda s: _COUNTER.search(s.lower())).strip()
    text = filtered(text, lambda s: s and len(s.split()) < 2)
    for pattern in (r"\s?items in cart", r"\s?Read more...$", r"^Sign-in\s?"):
        lines = []
        for line in text.split("\n"):
            left = re.sub(pattern, "", line, flags=re.IGNORECASE) if len(line.split()) <= 10 else line
            if not line or left.strip() or len(line.split()) > 10:
                lines.append(left)
        text = "\n".join(lines).strip()
    return text

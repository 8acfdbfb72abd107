"""Secrets: keys and tokens by the prefix that their issuer gives them, signed web tokens, private keys, and long
random strings that are assigned to a name like ``api_key``; as kernels.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import string

import numpy as np
from numba import njit

from pipelines.privacy.text import ALNUM, DIGIT, NAME, byte, byte_set, run_end, starts_with

_URL_SAFE = byte_set(string.ascii_letters, string.digits, "-_")  # RFC 4648, section 5
_SETS = np.stack([ALNUM, NAME, _URL_SAFE, byte_set(string.ascii_letters, string.digits, "-_.")])
_ALNUM, _NAME, _SAFE, _DOTTED = range(4)

# As the issuers document them: prefix, which bytes follow, fewest and most of them (0: no limit).
PREFIXES = (
    ("AKIA", _ALNUM, 16, 16), ("ASIA", _ALNUM, 16, 16),  # AWS access keys (IAM user guide, unique identifiers)
    ("ghp_", _ALNUM, 36, 36), ("gho_", _ALNUM, 36, 36), ("ghu_", _ALNUM, 36, 36), ("ghs_", _ALNUM, 36, 36),
    ("ghr_", _ALNUM, 36, 76), ("github_pat_", _NAME, 22, 244),  # GitHub, "About authentication"
    ("glpat-", _SAFE, 20, 0), ("gldt-", _SAFE, 20, 0), ("glrt-", _SAFE, 20, 0),  # GitLab, "Token overview"
    ("xoxb-", _SAFE, 10, 0), ("xoxp-", _SAFE, 10, 0), ("xoxa-", _SAFE, 10, 0), ("xoxr-", _SAFE, 10, 0),
    ("xoxs-", _SAFE, 10, 0), ("xoxe-", _SAFE, 10, 0), ("xapp-", _SAFE, 10, 0),  # Slack, "Token types"
    ("AIza", _SAFE, 35, 35), ("GOCSPX-", _SAFE, 28, 28), ("ya29.", _SAFE, 20, 0),  # Google Cloud, API keys and OAuth
    ("sk_live_", _ALNUM, 16, 0), ("sk_test_", _ALNUM, 16, 0), ("rk_live_", _ALNUM, 16, 0),
    ("rk_test_", _ALNUM, 16, 0), ("whsec_", _ALNUM, 24, 0),  # Stripe, "API keys"
    ("sk-", _SAFE, 20, 0),  # OpenAI, Anthropic, OpenRouter and others
    ("hf_", _ALNUM, 30, 0), ("npm_", _ALNUM, 36, 36), ("pypi-", _SAFE, 50, 0), ("dckr_pat_", _SAFE, 27, 0),
    ("SG.", _DOTTED, 60, 0),  # SendGrid: SG., 22 characters, a dot, 43 characters
    ("shpat_", _ALNUM, 32, 32), ("shpss_", _ALNUM, 32, 32), ("dop_v1_", _ALNUM, 64, 64), ("dapi", _ALNUM, 32, 34),
    ("sq0atp-", _SAFE, 22, 0), ("sq0csp-", _SAFE, 43, 0), ("lin_api_", _ALNUM, 32, 0), ("ntn_", _ALNUM, 40, 0),
    ("PMAK-", _SAFE, 50, 0), ("NRAK-", _ALNUM, 27, 27), ("AGE-SECRET-KEY-1", _ALNUM, 58, 58),
)  # fmt: skip
_TEXT = np.zeros((len(PREFIXES), 16), np.uint8)
_FORM = np.array([(len(p), *form) for p, *form in PREFIXES], np.int64)
_FIRST = np.zeros(256, np.bool_)
for _row, (_prefix, *_) in enumerate(PREFIXES):
    _TEXT[_row, : len(_prefix)] = np.frombuffer(_prefix.encode(), np.uint8)
    _FIRST[ord(_prefix[0])] = True
_FIRST[ord("e")] = True  # eyJ

_NEAR = 64  # so that a text of nothing but sk-sk-sk- costs linear time

_JWT = np.frombuffer(b"eyJ", np.uint8)  # {" in base64: a JOSE header (RFC 7519)
_BEGIN, _END = (np.frombuffer(b"-----" + w, np.uint8) for w in (b"BEGIN ", b"END "))
_PRIVATE = np.frombuffer(b"PRIVATE KEY", np.uint8)
_DASHES = np.frombuffer(b"-----", np.uint8)
_CAPITALS = byte_set(string.ascii_uppercase, string.digits, " ")
_BASE64 = byte_set(string.ascii_letters, string.digits, "+/=")
_HEADER = byte_set(string.ascii_letters, string.digits, "+/=-:, ")
_BREAK = byte_set("\r\n\t \"'")
_PEM_HEADERS = 8  # lines like Proc-Type: 4,ENCRYPTED
_PEM_LINE = 32  # base64 characters in the first line of a key; PEM has 64 (RFC 7468)

VALUE = byte_set(string.ascii_letters, string.digits, "+/_-")  # = only pads the end
_KEY_NAME = byte_set(string.ascii_letters, string.digits, "_-.")
_KEY_WORDS = tuple(np.frombuffer(w, np.uint8) for w in (b"secret", b"token", b"passw", b"pwd", b"auth", b"credential"))
_KEY = np.frombuffer(b"key", np.uint8)
_SCHEMES = tuple(np.frombuffer(w, np.uint8) for w in (b"Bearer ", b"Basic "))
_VALUE_BYTES, _NAME_BYTES, _CHANGES = 16, 40, 4


@njit(cache=True, nogil=True)
def token_end(data, i, lo, hi):  # noqa: ANN001, ANN201
    """Where the token that begins at i ends, or -1: an issuer's prefix and as much as it puts behind it.

    At least one digit must be among the first 64 of it: sk-learn-contrib-something is a name.
    """
    if not _FIRST[data[i]] or NAME[byte(data, i - 1, lo, hi)]:
        return -1
    for row in range(_TEXT.shape[0]):
        if _TEXT[row, 0] != data[i] or not _has_prefix(data, i, hi, row):
            continue
        size, kind, fewest, most = _FORM[row, 0], _FORM[row, 1], _FORM[row, 2], _FORM[row, 3]
        near = run_end(data, i + size, min(hi, i + size + _NEAR), _SETS[kind])
        if near - i - size < min(fewest, _NEAR) or not _has_digit(data, i + size, near):
            continue
        end = run_end(data, near, min(hi, i + size + most + 1) if most else hi, _SETS[kind])
        if end - i - size >= fewest and not (most and end - i - size > most) and not NAME[byte(data, end, lo, hi)]:
            return end
    return -1 if _URL_SAFE[byte(data, i - 1, lo, hi)] else _web_token_end(data, i, hi)


@njit(cache=True, nogil=True)
def _has_prefix(data, i, hi, row):  # noqa: ANN001, ANN202
    for k in range(_FORM[row, 0]):  # noqa: SIM110
        if i + k >= hi or data[i + k] != _TEXT[row, k]:
            return False
    return True


@njit(cache=True, nogil=True)
def _has_digit(data, start, end):  # noqa: ANN001, ANN202
    for k in range(start, end):  # noqa: SIM110
        if DIGIT[data[k]]:
            return True
    return False


@njit(cache=True, nogil=True)
def _web_token_end(data, i, hi):  # noqa: ANN001, ANN202
    """JSON Web Token: header and claims, both JSON objects in base64url, and a signature (RFC 7519, RFC 7515)."""
    for part in range(3):
        if part < 2 and not starts_with(data, i, hi, _JWT):
            return -1
        end = run_end(data, i, hi, _URL_SAFE)
        if end - i < 10:
            return -1
        if part < 2:
            if end >= hi or data[end] != ord("."):
                return -1
            end += 1
        i = end
    return i


@njit(cache=True, nogil=True)
def private_key_end(data, i, hi):  # noqa: ANN001, ANN201
    """Where the private key whose -----BEGIN stands at i ends, or -1 (RFC 7468; RFC 1421's headers too).

    Without its -----END it goes as far as lines of base64 do: half a key is still a secret.
    """
    if not starts_with(data, i, hi, _BEGIN):
        return -1
    at = run_end(data, i + _BEGIN.size, min(hi, i + 60), _CAPITALS)
    is_private = starts_with(data, at - _PRIVATE.size, hi, _PRIVATE)
    is_private |= starts_with(data, at - _PRIVATE.size - 6, hi, _PRIVATE)  # PGP PRIVATE KEY BLOCK
    if not is_private or not starts_with(data, at, hi, _DASHES):
        return -1
    at, end = _body_start(data, at + _DASHES.size, hi), -1
    while True:
        stop = run_end(data, at, hi, _BASE64)
        if stop - at >= _PEM_LINE:
            end = stop
        following = _line_start(data, stop, hi)
        if end >= 0 and starts_with(data, following, hi, _END):
            name = run_end(data, following + _END.size, min(hi, following + 60), _CAPITALS)
            if starts_with(data, name, hi, _DASHES):
                return name + _DASHES.size
        if stop - at < _PEM_LINE:
            return end
        at = following


@njit(cache=True, nogil=True)
def _body_start(data, i, hi):  # noqa: ANN001, ANN202
    """Behind at most eight header lines."""
    i = _line_start(data, i, hi)
    for _ in range(_PEM_HEADERS):
        line = run_end(data, i, min(hi, i + 100), _HEADER)
        if line == i or run_end(data, i, line, _BASE64) - i >= _PEM_LINE:
            break
        i = _line_start(data, line, hi)
    return i


@njit(cache=True, nogil=True)
def _line_start(data, i, hi):  # noqa: ANN001, ANN202
    """Behind white space, quotation marks, and line breaks that are written out, as in JSON."""
    while i < hi:
        if _BREAK[data[i]]:
            i += 1
        elif data[i] == ord("\\") and i + 1 < hi and (data[i + 1] == ord("n") or data[i + 1] == ord("r")):
            i += 2
        else:
            return i
    return i


@njit(cache=True, nogil=True)
def assigned_secret(data, i, lo, hi):  # noqa: ANN001, ANN201
    """Start and end of the random string that the : or = at i assigns to a name like api_key, or (-1, -1).

    The name contains secret, token, passw, pwd, auth or credential, or ends with key. The string has 16 characters
    or more of base64 or base64url, two digits, and changes between digits, capitals and small letters four times:
    a name or a word does not.
    """
    start = i + 1
    start += start < hi and (data[start] == ord("=") or data[start] == ord(">"))
    start += start < hi and data[start] == ord(" ")
    start += start < hi and (data[start] == ord('"') or data[start] == ord("'"))
    for scheme in _SCHEMES:
        if starts_with(data, start, hi, scheme):
            start += scheme.size
    end = run_end(data, start, hi, VALUE)
    if end - start < _VALUE_BYTES or not _is_secret_name(data, i, lo, hi):
        return -1, -1
    changes, digits, last = 0, 0, -1
    for k in range(start, end):
        letter = data[k]
        kind = 0 if letter < 58 else 1 if letter < 91 else 2
        if not ALNUM[letter]:
            continue
        digits += kind == 0
        changes += last >= 0 and kind != last
        last = kind
    for _ in range(2):
        end += end < hi and data[end] == ord("=")
    return (start, end) if digits >= 2 and changes >= _CHANGES else (-1, -1)


@njit(cache=True, nogil=True)
def _is_secret_name(data, i, lo, hi):  # noqa: ANN001, ANN202
    end = i - (byte(data, i - 1, lo, hi) == ord(" "))
    last = byte(data, end - 1, lo, hi)
    end -= last == ord('"') or last == ord("'")
    start = end
    while start > lo and end - start < _NAME_BYTES and _KEY_NAME[data[start - 1]]:
        start -= 1
    for at in range(start, end - 2):
        if at == end - _KEY.size and _is_word(data, at, _KEY):
            return True
        for word in _KEY_WORDS:
            if at + word.size <= end and _is_word(data, at, word):
                return True
    return False


@njit(cache=True, nogil=True)
def _is_word(data, at, word):  # noqa: ANN001, ANN202
    for k in range(word.size):  # noqa: SIM110
        if (data[at + k] | 0x20) != word[k]:
            return False
    return True

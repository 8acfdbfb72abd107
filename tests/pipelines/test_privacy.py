"""Masks: addresses of people go, addresses of nobody stay, and no value is kept anywhere."""

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.privacy.masking import EMAIL, IP, IP_HINT, PrivacyRecipe, Span, masked, personal_spans

BOTH = PrivacyRecipe()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Write to jane.doe+x@mail.example.org.", "Write to <email>."),
        ("<jörg@müller.de>, 'a_b@c-d.io'", "<<email>>, '<email>'"),
        ("a@b.co@c.org", "<email>@c.org"),
        ("@property and a @ b and x@y and pkg@1.2.3", "@property and a @ b and x@y and pkg@1.2.3"),
        ("from 81.2.69.142 at", "from <ip> at"),
        ("ip=81.2.69.142 > 81.2.69.143", "ip=<ip> > <ip>"),
        ("http://81.2.69.142:8080/", "http://<ip>:8080/"),
        ("a@b.co1@c.org", "<email><email>"),
        ("[2a02:8109::1f] and 2a02:8109:9440:1::77", "[<ip>] and <ip>"),
    ],
)
def test_addresses_of_people_are_masked(before, after):
    assert masked(before, BOTH)[0] == after


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1 10.1.2.33 192.168.1.10 172.16.0.10 169.254.1.10 0.0.0.0 255.255.255.255 224.0.0.10",
        "192.0.2.10 198.51.100.17 203.0.113.99",  # for documentation
        "::1 fe80::1ff:fe23:4567:890a 2001:db8::8a2e:370:7334 fd00:aaaa:bbbb::1",
        "version 10.20.30.40, v81.2.69.142, foo==81.2.69.142, release: 81.2.69.142, section 81.2.69.142",
        "7.4.7.1 and 1.2.3.4",  # sections: four numbers of one digit
        "1.2.3.4.55 x1.22.3.4 300.1.22.3",
        "x[2000::5] std::vector 12:30:45 a:b:c 2026:11:22",
    ],
)
def test_addresses_of_nobody_stay(text):
    assert masked(text, BOTH) == (text, [])


def test_spans_tell_the_place_in_characters_and_the_rule():
    assert masked("é a@b.org 81.2.69.142", BOTH)[1] == [Span("masked_email", 2, 7), Span("masked_ip", 10, 11)]


def test_the_masks_of_addresses_can_be_switched_off():
    text = "a@b.org 81.2.69.142"
    assert masked(text, PrivacyRecipe(mask_ip=False))[0] == f"{EMAIL} 81.2.69.142"
    assert masked(text, PrivacyRecipe(mask_email=False))[0] == f"a@b.org {IP}"


LOCAL = st.from_regex(r"[a-z][a-z0-9._]{2,10}[a-z]", fullmatch=True)
FILLER = st.text(st.sampled_from(" ab.\n,:<>1-éß"), max_size=20)


@given(FILLER, LOCAL, FILLER, st.integers(0x50_00_00_0A, 0x5F_FF_FF_FF))
def test_a_planted_value_never_survives_and_the_rest_is_untouched(before, local, after, number):
    ip = str(ipaddress.ip_address(number))
    text = f"{before} {local}@mail.net {after} {ip} {before}"
    result, spans = masked(text, BOTH)
    assert f"{local}@" not in result
    assert f" {ip} " not in result
    rebuilt, end = [], 0
    for span in spans:
        rebuilt.append(text[end : span.start])
        end = span.start + span.length
    assert re.split(f"{EMAIL}|{IP}", result) == re.split(f"{EMAIL}|{IP}", "".join(
        part + (EMAIL if span.rule == "masked_email" else IP) for part, span in zip(rebuilt, spans, strict=True)
    ) + text[end:])  # fmt: skip
    assert personal_spans(result, BOTH) == []


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6, network="2000::/3")))
def test_the_quick_look_finds_every_text_in_which_something_is_masked(address):
    if personal_spans(f"at {address}.", BOTH):
        assert re.search(IP_HINT, f"at {address}.")


def test_a_long_run_of_address_characters_costs_linear_time():
    assert masked("x-y." * 250_000, BOTH)[1] == []  # its square would take an hour

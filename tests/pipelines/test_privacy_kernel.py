"""The kernels against a second implementation, and what holds for every text whatever it is made of."""

import os

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.privacy.masking import PLACEHOLDERS, RULES, PrivacyRecipe, masked, masked_column
from pipelines.privacy.payment_numbers import IBAN_LENGTHS
from tests.pipelines import reference_privacy as reference

DEEP = os.environ.get("STEMMA_DEEP") == "1"
LENGTHS = {entry[:2]: int(entry[2:]) for entry in IBAN_LENGTHS.split()}
ALL = PrivacyRecipe()
pytestmark = [pytest.mark.slow]
some = settings(max_examples=4000 if DEEP else 150, suppress_health_check=list(HealthCheck), deadline=None)


def only(rule):
    return PrivacyRecipe(**{f"mask_{name}": name == rule for name in RULES})


ANY = st.text(max_size=60)
NEAR_EMAIL = st.text(st.sampled_from("ab1_é日²٣.-%+@@@ <>\u200b\U0001d7d9İß"), max_size=30)
NEAR_IP = st.lists(st.sampled_from(
    ["81", ".", "2", "69", "142", "255", "256", "0", "01", "10", ":", "::", "2a02", "2001", "db8", "0db8", "3fff", "fff", " ",
     "v", "version ", "Sec. ", "==", "§", "é", "x", "_", "\u00a0", "٣", "1234567", "a", "=", '"']
), max_size=16).map("".join)  # fmt: skip
PIECES = st.lists(st.sampled_from(
    ["4111111111111111", "4111 1111 1111 1111", "5555-5555-5555-4444", "212-555-0123", "+44 20 7946 0958", "07700 900 123",
     "(212) 555-0123", "call ", "phone: ", "card ", "SSN ", "536-90-4399", "12345678Z", "X1234567L", "RSSMRA85T10A562S",
     "GB82 WEST 1234 5698 7654 32", "DE89370400440532013000", "81.2.69.142", "2a02:8109:9440:1::77", "2a02:8109::1:", "a@b.org",
     "x.y+z@mail.com", "AKIAIOSFODNN7EXAMPLE", "sk-abcdefghij0123456789", "api_key=", "q8Zr2LmX0vTn4WsKd91b",
     "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "eyJhbGciOiJIUzI1NiJ9", "529.982.247-25",
     "811228-9874", "12 34", "555", "0", "1", "19", "-", ".", " ", "  ", "/", ":", "::", ",", "+", "(", ")", "x", "é", "日", "\n",
     "<", ">", "<phone>", "<secret>", "@", "=", '"', "version ", "-----BEGIN PRIVATE KEY-----\n", "M" * 40, "isbn ", "467 3395"]
), max_size=9).map("".join)  # fmt: skip


@some
@given(st.one_of(ANY, NEAR_EMAIL))
def test_addresses_of_mail_are_those_that_the_expression_finds(text):
    assert [(s.start, s.start + s.length) for s in masked(text, only("email"))[1]] == reference.emails(text)


@some
@given(st.one_of(ANY, NEAR_IP))
def test_ip_addresses_are_those_that_the_expressions_find(text):
    assert [(s.start, s.start + s.length) for s in masked(text, only("ip"))[1]] == reference.ips(text)


@some
@given(st.integers(4 * 10**15, 6 * 10**15 - 1).filter(lambda n: n < 5 * 10**15 or 51 * 10**14 <= n < 56 * 10**14))
def test_of_sixteen_digits_of_an_issuer_those_with_the_right_last_one_are_a_card(number):
    assert (masked(f"{number}", only("credit_card"))[0] == "<credit_card>") == reference.luhn(str(number))


@some
@given(
    st.sampled_from(sorted(LENGTHS)),
    st.text("0123456789ABCXYZ", min_size=30, max_size=30),
    st.booleans(),
    st.integers(-1, 1),
)
def test_of_strings_of_a_country_those_that_are_one_modulo_97_are_an_iban(country, rest, spaced, change):
    body = rest[: LENGTHS[country] - 4]
    check = 98 - int("".join(str(int(c, 36)) for c in f"{body}{country}00")) % 97
    value = f"{country}{(check + change) % 100:02d}{body}"
    written = " ".join(value[k : k + 4] for k in range(0, len(value), 4)) if spaced else value
    assert (masked(written, only("iban"))[0] == "<iban>") == reference.is_iban(written, LENGTHS)


@some
@given(st.one_of(PIECES, NEAR_IP, NEAR_EMAIL, ANY))
def test_masking_twice_changes_nothing(text):
    once = masked(text, ALL)[0]
    assert masked(once, ALL) == (once, [])


@some
@given(st.lists(st.one_of(PIECES, ANY), max_size=5))
def test_spans_and_texts_agree_and_rows_do_not_depend_on_each_other(texts):
    column, spans = masked_column(pa.array(texts, pa.large_string()), ALL)
    for row, text in enumerate(texts):
        mine = [s for s in spans.to_pylist() if s["row"] == row]
        rebuilt, end = "", 0
        for span in mine:
            assert span["start"] >= end
            rebuilt += text[end : span["start"]] + PLACEHOLDERS[span["rule"]]
            end = span["start"] + span["length"]
        assert column[row].as_py() == rebuilt + text[end:] == masked(text, ALL)[0]


@pytest.mark.parametrize(
    "unit",
    ["1", "1 ", "12 ", "123 45 6789 ", "@", "a@", "a@b.co ", "sk-", "eyJ-", "eyJaaaaaaaa.", "=", "key=a1", "-", "1.2.3.", "2001:db8:",
     "(", "1((", "+1", "+(", ":", "-----BEGIN PRIVATE KEY-----\n:", "call 12345678 ", "x-y.", "4111111111111112 ", "a:", "0x"],
)  # fmt: skip
def test_a_megabyte_of_one_thing_is_read_to_its_end(unit):
    text = unit * (1_000_000 // len(unit))  # what is quadratic does not come back
    result, spans = masked(text, ALL)
    assert len(result) == len(text) + sum(len(PLACEHOLDERS[s.rule]) - s.length for s in spans)

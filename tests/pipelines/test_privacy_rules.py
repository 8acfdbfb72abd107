"""Numbers and codes of people: each by its standard, made-up values that pass it, and near misses that stay."""

import hashlib
import inspect
import re

import pyarrow as pa
import pytest

from pipelines.privacy import masking as privacy
from pipelines.privacy.masking import PLACEHOLDERS, RULES, PrivacyRecipe, masked, masked_column

ALL = PrivacyRecipe()
HEADER = "eyJhbGciOiJIUzI1NiJ9"
PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join(
    ["MIIEpAIBAAKCAQEAy8Dbv8prpJ/0kKhlGeJYozo2t60EG8L0561g13R29LvMR5hy"] * 2
)
PEM_END = "\nvGZlGJpmn65+A4xHXInJYiPuKzrKUnApeLZ+vw1HocOAZtWK0z3r26uA8kQYOKX9\nQt/DbCdvsF9wF8gRK0ptx9M6R13NvBxvVQAp\n-----END RSA PRIVATE KEY-----"

KNOWN = {
    "credit_card": [
        "4111111111111111", "4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005", "3782 822463 10005",
        "30569309025904", "6011111111111117", "3530111333300000", "2223003122003222", "6200000000000005",
        "My card 4222222222222", "card number 6304000000000000",
    ],
    "iban": [
        "GB82 WEST 1234 5698 7654 32", "GB82WEST12345698765432", "de89370400440532013000", "NO9386011117947",
        "FR14 2004 1010 0505 0001 3M02 606", "MT84MALT011000012345MTLCAST001S",
    ],
    "national_id": [
        "SSN: 536-90-4399", "social security number is 536904399", "ITIN 912-70-1234",
        "National Insurance AB123456C", "NI number AB 12 34 56 C", "DNI 12345678Z", "X1234567L", "RSSMRA85T10A562S",
        "1 84 12 76 451 089 46", "184127645108946", "PESEL 44051401359", "Aadhaar 2341 2341 2346", "PAN ABCPE1234F",
        "529.982.247-25", "CPF 52998224725", "BSN 111222333", "85.07.30-033.28", "811228-9874", "131052-308T",
        "756.9217.0769.85", "SIN 193 456 787", "TFN 123456782", "S1234567D", "11010519491231002X",
        "Steuer-ID 86095742719", "T.C. Kimlik 10000000146", "ID number 8001015009087",
        "BOXW310820HNERXN09",
    ],
    "secret": [
        "AKIAIOSFODNN7EXAMPLE", "ghp_" + "a1B2" * 9, "xoxb-2345-abcdefGHIJ", "AIza" + "Sy0_x-9" * 5,
        "sk-ant-api03-abcdefghij0123", f"{HEADER}.{HEADER}.dozjgNryP4J3jVmNHl0w5N", "hf_" + "aB3" * 11,
        "api_key = 'q8Zr2LmX0vTn4WsKd91b'", 'password: "x9F-k2Lq_7ZpTr3Vb8Ny"', "Authorization: Bearer q8Zr2LmX0vTn4WsKd91b",
        PEM + PEM_END, PEM,
    ],
    "crypto": [
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy",
        "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
        "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "wallet 0xfb6916095ca1df60bb79ce92ce3ea74c37c5d359",
    ],
    "phone": [
        "+44 20 7946 0958", "+442079460958", "+1 (212) 555-0123", "+49 30 123456", "+46 (0)8 928 571 38", "0049 30 123456",
        "(212) 555-0123", "212-555-0123", "212.555.0123", "1-212-555-0123", "212-555-0123 ext. 12", "(212)555-0123x459",
        "01 84 17 61 18", "07700 900 123", "020 7946 0958", "(02) 9876 5432", "044 668 18 00",
        "phone: 467 3395", "call me at 2125550123", "Tel. 60-56-85-91", "Fax 9498777106",
    ],
}  # fmt: skip

NEAR_MISSES = [
    # one digit off, another length, part of something longer
    "4111111111111112", "411111111111111", "41111111111111110", "x4111111111111111", "0.4111111111111111",
    "4111-1111 1111-1111", "4222222222222", "GB82 WEST 1234 5698 7654 33", "GB82WEST1234569876543", "ZZ82WEST12345698765432",
    "536-90-4399", "SSN 000-12-3456", "SSN 666-12-3456", "SSN 078-05-1120", "AB123456C", "NI DA123456C", "12345678A",
    "RSSMRA85T10A562T", "184127645108947", "PESEL 44051401358", "44051401359", "2341 2341 2346", "529.982.247-26",
    "111.111.111-11", "BSN 111222334", "85.07.30-033.29", "811228-9875", "131052-308U", "756.9217.0769.86",
    "S1234567E", "110105194912310021", "Steuer-ID 86095742718",
    "AKIAIOSFODNN7EXAMPL", "ghp_short1", "sk-learn-contrib-something-long", "monkey = abcdefghijklmnopqrst",
    "token = some_function_of_two_names", "key=lambda value: value", f"{HEADER}.{HEADER}",
    "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----", "-----BEGIN PUBLIC KEY-----",
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdp",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD", "0xfb6916095ca1df60bb79ce92ce3ea74c37c5d359",
    # no phone numbers: dates, versions, ISBNs, arXiv ids, decimal numbers, years, ranges
    "2019-03-04 10:20:30", "call of 2019-03-04 10:20", "01/02/2003 and 01.02.2003", "version 1.2.3.4 and 10.15.7",
    "ISBN 978-3-16-148410-0 and 0-306-40615-2", "arXiv:2101.00027", "3.14159265358979", "call 3.14159265", "call 1914-1918",
    "+10000000 and 1,234,567,890", "12345678901234567890", "in 1984, 2001 and 2010", "467 3395", "call 10 000 000",
    "01 02 03 04 05", "20170411 123456", "doi 10.1007/0171-123456",
]  # fmt: skip


@pytest.mark.parametrize(("rule", "value"), [(rule, value) for rule, values in KNOWN.items() for value in values])
def test_values_that_pass_their_standard_are_masked(rule, value):
    text, spans = masked(f"So it is {value}, or not.", ALL)
    assert [span.rule for span in spans] == [f"masked_{rule}"]
    assert text.endswith((f"<{rule}>, or not.", f"<{rule}>', or not.", f'<{rule}>", or not.'))


@pytest.mark.parametrize("text", NEAR_MISSES)
def test_near_misses_stay(text):
    assert masked(text, ALL) == (text, [])


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_can_be_switched_off(rule):
    values = {**KNOWN, "email": ["jane@mail.org"], "ip": ["81.2.69.142"]}
    only = PrivacyRecipe(**{f"mask_{name}": name == rule for name in RULES})
    without = PrivacyRecipe(**{f"mask_{rule}": False})
    text = " ; ".join(values[name][0] for name in RULES)
    assert {span.rule for span in masked(text, only)[1]} == {f"masked_{rule}"}
    assert {span.rule for span in masked(text, without)[1]} == set(PLACEHOLDERS) - {f"masked_{rule}"}


def test_the_email_address_wins_over_the_number_in_it_and_the_card_over_the_phone_number():
    assert masked("2125550123@mail.org", ALL)[0] == "<email>"
    assert masked("call 12 4111 1111 1111 1111", ALL)[0] == "call 12 <credit_card>"


def test_a_column_is_masked_row_by_row_and_tells_the_rows():
    texts = pa.array(["é +44 20 7946 0958", "", "none", "日本 4111111111111111 a@b.org"], pa.large_string())
    column, spans = masked_column(texts, ALL)
    assert column.to_pylist() == ["é <phone>", "", "none", "日本 <credit_card> <email>"]
    assert spans.to_pylist() == [
        {"row": 0, "rule": "masked_phone", "start": 2, "length": 16},
        {"row": 3, "rule": "masked_credit_card", "start": 3, "length": 16},
        {"row": 3, "rule": "masked_email", "start": 20, "length": 7},
    ]
    column, spans = masked_column(texts.slice(3), ALL)  # a slice has offsets that do not begin at 0
    assert column.to_pylist() == ["日本 <credit_card> <email>"]
    assert spans["row"].to_pylist() == [0, 0]


def test_a_missing_text_is_refused():
    with pytest.raises(ValueError, match="1 of 2 texts are null"):
        masked_column(pa.array(["x", None], pa.large_string()), ALL)


def test_a_span_has_no_field_for_the_value():
    column, spans = masked_column(pa.array(["a@b.org"], pa.large_string()), ALL)
    assert spans.column_names == ["row", "rule", "start", "length"]
    assert "a@b.org" not in str(spans) + str(column)
    assert not re.search(r"\b(print|logging|warnings|raise)\b", inspect.getsource(privacy).replace("Raises", ""))


def test_the_kernels_hash_as_the_standards_say():
    import numpy as np

    from pipelines.privacy.crypto_addresses import _keccak_256_of_lower, _sha_256

    for message in (b"", b"abc", bytes(range(55))):
        out = np.zeros(32, np.uint8)
        _sha_256(np.frombuffer(message + b"\0", np.uint8), len(message), out)
        assert bytes(out) == hashlib.sha256(message).digest()
    assert _keccak_256_of_lower(np.frombuffer(b"A" * 40, np.uint8), 0).dtype == np.uint64

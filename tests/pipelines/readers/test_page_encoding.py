import codecs

import pytest

from pipelines.readers.page_encoding import decoded, no_page, not_html

GERMAN = "<html><body><p>Größe, Übung und Maß</p></body></html>"
RUSSIAN = "<html><body><p>" + "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 4 + "</p></body></html>"
JAPANESE = "<html><body><p>" + "色は匂へど散りぬるを我が世誰ぞ常ならむ。" * 4 + "</p></body></html>"


def with_meta(page: str, charset: str) -> str:
    return page.replace("<html>", f'<html><head><meta charset="{charset}"></head>')


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_a_byte_order_mark_decides(encoding):
    mark = {"utf-8": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}[encoding]
    assert decoded(mark + GERMAN.encode(encoding), "windows-1251") == GERMAN


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_is_told_without_a_mark(encoding):
    payload = GERMAN.encode(encoding)
    assert not_html(payload) == ""
    assert decoded(payload) == GERMAN


def test_the_header_goes_before_the_page():
    page = with_meta(RUSSIAN, "iso-8859-1")
    assert decoded(page.encode("cp1251"), "windows-1251") == page


def test_the_page_goes_before_the_detector():
    page = with_meta(GERMAN, "windows-1250")
    assert decoded(page.encode("cp1250")) == page


def test_latin1_means_windows_1252_as_in_browsers():
    page = "<p>“quoted” €</p>"
    assert decoded(page.encode("cp1252"), "ISO-8859-1") == page


def test_valid_utf8_is_utf8_whatever_is_stated():
    page = with_meta(GERMAN, "iso-8859-1")
    assert decoded(page.encode(), "windows-1252") == page


@pytest.mark.parametrize(
    ("page", "encoding"), [(RUSSIAN, "cp1251"), (RUSSIAN, "koi8-r"), (JAPANESE, "shift_jis"), (JAPANESE, "euc_jp")]
)
def test_an_encoding_that_is_not_stated_is_detected(page, encoding):
    assert decoded(page.encode(encoding)) == page


def test_a_wrong_claim_of_utf8_gives_way_to_the_detector():
    page = with_meta(RUSSIAN, "utf-8")
    assert decoded(page.encode("cp1251"), "utf-8") == page


def test_iso_2022_jp_is_read_by_its_escapes():
    page = with_meta(JAPANESE, "iso-2022-jp")
    payload = page.encode("iso2022_jp")
    assert not_html(payload) == ""
    assert decoded(payload) == page


@pytest.mark.parametrize("charset", ["nonsense", "utf-7", "\0", " ", "x" * 1000, "utf-8; q=1"])
def test_a_charset_that_does_not_exist_is_no_charset(charset):
    assert decoded(GERMAN.encode("cp1252"), charset) == GERMAN
    assert decoded(b"<p>plain</p>", charset) == "<p>plain</p>"


def test_invalid_bytes_become_replacement_characters():
    assert decoded(b"<p>\xd0\x96 \xff</p>", "utf-16-le").count("\ufffd") <= 1
    assert "\ufffd" in decoded(codecs.BOM_UTF8 + b"<p>a\xffb</p>")


def test_nul_is_dropped_and_scattered_ones_are_no_binary_data():
    payload = b"<p>some \0words\0</p>" + b"<p>and more of them</p>" * 9
    assert not_html(payload) == ""
    assert "\0" not in decoded(payload)


def test_feeds_are_no_pages_and_xhtml_is_one():
    assert no_page("<?xml version='1.0'?>\n<feed xmlns='http://www.w3.org/2005/Atom'>") == "XML, <feed>"
    assert no_page("<?xml version='1.0'?>\n<!DOCTYPE html><html xmlns='http://www.w3.org/1999/xhtml'>") == ""
    assert no_page("<!-- <rss> --><html>") == ""


def test_white_space_before_the_first_tag_costs_no_quadratic_time():
    assert no_page(" \n" * 40_000 + "<p>") == "no tag in its first 64 KiB"
    assert no_page(" " * 60_000 + "<p>") == ""

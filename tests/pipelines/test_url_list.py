"""URL lists: domains with their subdomains, exact addresses, words in an address; one form of every host."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.instruments.url_list import REASONS, UrlList, UrlListError, UrlRecipe


def listed(tmp_path, **files: str) -> UrlList:
    folder = tmp_path / "lists"
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return UrlList.read(folder)


def reasons(found: UrlList, *urls: str, **options) -> list[str]:
    return found.blocks(pa.array(urls, pa.string()), **options).to_pylist()


@pytest.mark.parametrize(
    "url",
    [
        "http://bad.example/", "https://a.b.bad.example/page?x=1#y", "HTTP://WWW.BAD.EXAMPLE", "bad.example",
        "//bad.example/x", "https://user:word@bad.example:8080/", "http://bad.example./", "ftp://bad.example?q",
        "http://bad.example#top",
    ],
)  # fmt: skip
def test_a_domain_blocks_itself_and_its_subdomains_in_any_spelling(tmp_path, url):
    assert reasons(listed(tmp_path, domains="bad.example\n"), url) == ["url_domain"]


@pytest.mark.parametrize(
    "url",
    [
        "http://notbad.example/", "http://bad.example.org/", "http://good.example/bad.example", "",
        "http://good.example/?u=http://bad.example/", "http://bad.example@good.example/", "http://example/",
    ],
)  # fmt: skip
def test_a_domain_blocks_no_other(tmp_path, url):
    assert reasons(listed(tmp_path, domains="bad.example\n"), url) == [""]


def test_a_listed_subdomain_leaves_its_parent_alone(tmp_path):
    found = listed(tmp_path, domains="www.blog.host.example\n")
    urls = ("http://host.example", "http://blog.host.example", "http://x.blog.host.example")
    assert reasons(found, *urls) == ["", "url_domain", "url_domain"]


def test_a_dot_or_a_star_before_a_domain_says_nothing_more(tmp_path):
    found = listed(tmp_path, domains=".tail.example\n*.star.example\n")
    assert reasons(found, "tail.example", "x.tail.example", "star.example", "*.example") == ["url_domain"] * 3 + [""]


@pytest.mark.parametrize("entry", ["müller.example", "xn--mller-kva.example", "MÜLLER.example"])
def test_hosts_are_one_in_unicode_and_in_punycode(tmp_path, entry):
    urls = ("https://müller.example/straße", "http://XN--MLLER-KVA.example", "http://a.MÜLLER.example:80", "müller.de")
    assert reasons(listed(tmp_path, domains=entry), *urls) == ["url_domain"] * 3 + [""]


def test_an_address_is_blocked_exactly(tmp_path):
    found = listed(tmp_path, urls="http://host.example/~A/x\nhost.example/q?id=1\nsite.example/\n")
    blocked = (
        "https://www.HOST.example/~A/x/",
        "host.example/~A/x#part",
        "http://host.example:80/q?id=1",
        "site.example",
    )
    free = ("host.example/~a/x", "host.example/~A", "host.example/~A/x/y", "host.example/q?id=12", "site.example/a")
    assert reasons(found, *blocked) == ["url_listed"] * 4
    assert reasons(found, *free) == [""] * 5


def test_one_hard_word_or_two_soft_ones_block(tmp_path):
    found = listed(tmp_path, hard_words="Zork\n", soft_words="foo\nbar\n")
    urls = (
        "http://zork.example",
        "http://x.example/ZORK-1",
        "http://zorks.example",
        "foo.example",
        "foo.example/a_bar",
    )
    assert reasons(found, *urls) == ["url_hard_word", "url_hard_word", "", "", "url_soft_words"]
    assert reasons(found, "foo.example/foo", "foo.example/food") == ["url_soft_words", ""]
    assert reasons(found, "foo.example", "x.example", min_soft_words=1) == ["url_soft_words", ""]
    assert UrlRecipe().url_min_soft_words == 2


def test_the_first_reason_is_the_surest(tmp_path):
    found = listed(tmp_path, domains="d.example", urls="foo.example/bar", hard_words="zork", soft_words="foo\nbar")
    urls = ("d.example/zork/foo/bar", "foo.example/bar", "foo.example/bar/zork", "foo.example/bar/x")
    assert reasons(found, *urls) == list(REASONS[1:])


def test_a_folder_of_categories_is_read_and_other_files_are_not(tmp_path):
    for name, text in {
        "adult/domains": "a.example",
        "ads/urls.txt": "b.example/x",
        "ads/expressions": "(x|y",
        "usage": "black",
    }.items():
        (tmp_path / "ut1" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ut1" / name).write_text(text)
    found = UrlList.read(tmp_path / "ut1")
    assert found.sizes == {"domains": 1, "urls": 1, "hard_words": 0, "soft_words": 0}
    assert reasons(found, "a.example/q", "b.example/x", "b.example") == ["url_domain", "url_listed", ""]


def test_a_single_file_may_mix_domains_and_addresses(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes(b"# mine\r\n\r\na.example\r\nhttps://b.example/\r\nc.example/x\r\nhttp://d.example/y\r\n")
    found = UrlList.read(path)
    assert found.sizes == {"domains": 2, "urls": 2, "hard_words": 0, "soft_words": 0}
    assert reasons(found, "z.b.example", "c.example", "c.example/x", "d.example/y") == [
        "url_domain", "", "url_listed", "url_listed",
    ]  # fmt: skip


def test_the_digest_is_of_names_and_bytes(tmp_path):
    one = listed(tmp_path, domains="a.example").digest
    assert UrlRecipe(url_list_digest=one).url_list_digest == listed(tmp_path, domains="a.example").digest
    assert listed(tmp_path, domains="b.example").digest != one


@pytest.mark.parametrize(
    ("kind", "data", "line"),
    [
        ("domains", b"a.example\n127.0.0.1 secret.example\n", 2),
        ("domains", b"secret\n", 1),
        ("urls", b"\n# x\nhttp://secret\xff.example/\n", 3),
        ("hard_words", b"secret-word\n", 1),
        ("domains", b"secret." * 50 + b"example\n", 1),
    ],
)
def test_errors_name_file_and_line_and_never_the_entry(tmp_path, kind, data, line):
    (tmp_path / kind).write_bytes(data)
    with pytest.raises(UrlListError, match=rf"^{kind}:{line}: ") as error:
        UrlList.read(tmp_path)
    assert "secret" not in str(error.value)


def test_nothing_to_read_is_an_error(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UrlListError, match=r"no entry|no such file"):
            UrlList.read(path)


LABEL = st.text("ab", min_size=1, max_size=2)
HOST = st.lists(LABEL, min_size=2, max_size=4).map(".".join)
URL = st.builds("{}{}{}".format, st.sampled_from(["", "http://", "https://www."]), HOST, st.text("/ab-?#.", max_size=8))


def reference(url: str, domains: set[str], words: set[str]) -> str:
    host = re.split(r"[/?#]", url.partition("://")[2] if "://" in url else url)[0].removeprefix("www.").rstrip(".")
    labels = host.split(".")
    if any(".".join(labels[at:]) in domains for at in range(len(labels))):
        return "url_domain"
    return "url_hard_word" if words & set(re.split(r"[^a-z]+", url)) else ""


@settings(max_examples=200)
@given(domains=st.sets(HOST, min_size=1, max_size=4), words=st.sets(LABEL, max_size=2), urls=st.lists(URL, max_size=5))
def test_the_walk_equals_a_plain_reading(tmp_path_factory, domains, words, urls):
    urls = [url for url in urls if not url.startswith("/")]
    folder = tmp_path_factory.getbasetemp() / "hypothesis-urls"
    folder.mkdir(exist_ok=True)
    (folder / "domains").write_text("\n".join(domains))
    (folder / "hard_words").write_text("\n".join(words))
    assert reasons(UrlList.read(folder), *urls) == [reference(url, domains, words) for url in urls]


@settings(max_examples=100)
@given(urls=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=5))
def test_any_text_can_stand_where_a_url_is_expected(tmp_path_factory, urls):
    folder = tmp_path_factory.getbasetemp() / "any-urls"
    folder.mkdir(exist_ok=True)
    (folder / "domains").write_text("a.example")
    found = UrlList.read(folder)
    whole = pa.array(urls, pa.string())
    assert found.blocks(pa.chunked_array([whole, whole])).to_pylist() == found.blocks(whole).to_pylist() * 2

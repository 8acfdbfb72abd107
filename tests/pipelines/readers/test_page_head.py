import pytest

from pipelines.readers.page_head import head_of, language, links, published, stated, title


def page_of(html: str):
    head = head_of(html)
    return head, stated(head)


def date_of(html: str) -> str:
    return published(html, page_of(html)[1])


def links_of(html: str, url: str = "https://a.example/dir/page", max_links: int = 100):
    return links(html, head_of(html), url, max_links)


def test_meta_tags_are_read_in_any_order_of_attributes_and_quotes():
    _, meta = page_of("""<META content="a &amp; b" NAME='Author'><meta property=og:title content="T"><meta name="author"
        content="second"><meta charset="utf-8"><meta name="empty" content="">""")
    assert meta == {"author": "a & b", "og:title": "T"}


def test_the_title_for_others_goes_before_that_of_the_window():
    assert title(*page_of("<title>Flood - Valley News</title><meta property='og:title' content='Flood'>")) == "Flood"
    assert title(*page_of("<TITLE>\n Flood &amp;\tfire </TITLE>")) == "Flood & fire"
    assert title(*page_of("<p>no title</p>")) == ""
    assert len(title(*page_of(f"<title>{'x' * 3000}</title>"))) == 500


def test_a_title_carries_no_control_characters():
    assert title(*page_of("<title>a&#x7;b\x01c&#xD800;</title>")).isprintable()


@pytest.mark.parametrize(
    ("html", "date"),
    [
        ('<meta property="article:published_time" content="2019-05-03T07:00:00+02:00">', "2019-05-03"),
        ('<meta name="date" content="20190503">', "2019-05-03"),
        ('<meta itemprop="datePublished" content="2019-05-03">', "2019-05-03"),
        ('<script type="application/ld+json">{"datePublished": "2019-05-03T00:00Z"}</script>', "2019-05-03"),
        ('<p>x</p><time itemprop="datePublished" datetime="2019-05-03">May</time>', "2019-05-03"),
        ('<time datetime="2019-05-03">any time</time>', ""),
        ('<meta name="date" content="2019-02-30">', ""),
        ('<meta name="date" content="03.05.2019">', ""),
        ('<meta name="date" content="soon"><meta name="pubdate" content="2019-05-03">', "2019-05-03"),
        ("<p>published on 2019-05-03</p>", ""),
    ],
)
def test_dates_are_stated_ones_that_exist(html, date):
    assert date_of(html) == date


@pytest.mark.parametrize(
    ("html", "code"),
    [
        ('<html lang="de">', "de"),
        ("<HTML class=x LANG=pt_BR>", "pt-br"),
        ('<html xml:lang="zh-Hant-TW">', "zh-hant-tw"),
        ('<html><meta http-equiv="Content-Language" content="fr, en">', "fr"),
        ('<html><meta property="og:locale" content="en_US">', "en-us"),
        ('<html lang="{{language}}">', ""),
        ('<html data-lang="x">', ""),
    ],
)
def test_the_language_is_a_tag_or_nothing(html, code):
    assert language(*page_of(html)) == code


def test_links_are_absolute_distinct_and_in_order():
    html = """<a href="/b?x=1&amp;y=2#part">b</a> <a class=k href=c.html>c</a> <A HREF='//cdn.example/d'>d</A>
        <a href="https://e.example">e</a> <a href="/b?x=1&y=2">again</a> <a href="../up">up</a>"""
    assert links_of(html) == (
        "https://a.example/b?x=1&y=2",
        "https://a.example/dir/c.html",
        "https://cdn.example/d",
        "https://e.example",
        "https://a.example/up",
    )


@pytest.mark.parametrize(
    "address", ["#top", "javascript:go()", "mailto:a@b.example", "tel:1", "", "http://", "http://[x"]
)
def test_what_is_no_web_address_is_no_link(address):
    assert links_of(f'<a href="{address}">x</a>') == ()


def test_a_page_does_not_link_to_itself():
    assert links_of('<a href="/dir/page#comments">x</a>') == ()


def test_a_base_moves_relative_links():
    assert links_of('<base href="https://z.example/q/"><a href="r">x</a>') == ("https://z.example/q/r",)


def test_without_an_address_only_absolute_links_are_kept():
    assert links_of('<a href="/a">a</a><a href="http://b.example/">b</a>', url="") == ("http://b.example/",)


def test_links_are_bounded():
    html = "".join(f'<a href="/{n}">x</a>' for n in range(50))
    assert links_of(html, max_links=3) == tuple(f"https://a.example/{n}" for n in range(3))
    assert links_of(html, max_links=0) == ()

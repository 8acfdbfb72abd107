import pytest

from pipelines.readers.pruning import Block, blocks, is_prose, is_sentence, pruned, text_of

PROSE = "<p>The river rose in the night, and by the morning the lower meadows stood under a foot of brown water.</p>"
OTHER = "<p>Nobody in the village could remember a flood as early in the year as this one, not even the old miller.</p>"


def kept(markup: str) -> str:
    return text_of(pruned(blocks(markup)))


def plain(markup: str) -> str:
    return text_of(blocks(markup))


def test_blocks_know_their_element_their_text_and_their_share_of_links():
    found = blocks('<h2>Title</h2>\n\n<p>half <a href="/x">link</a></p>\n\n<ul>\n  <li>item</li>\n</ul>\nline')
    assert [(b.kind, b.text) for b in found] == [
        ("h2", "Title"),
        ("p", "half link"),
        ("li", "item"),
        ("text", "line"),
    ]
    assert [round(b.link_ratio, 2) for b in found] == [0, 0.44, 0, 0]


def test_character_references_and_runs_of_spaces_become_plain_text():
    assert plain("<p>a &lt;b&gt;  &amp;amp;\xa0c</p>") == "a <b> &amp; c"


def test_preformatted_text_keeps_its_lines_and_indents():
    assert plain("<pre>def f():\n    return 1\n\n    x</pre>") == "def f():\n    return 1\n\n    x"


def test_a_line_break_inside_a_paragraph_stays_one():
    assert plain("<p>one<br>\ntwo</p>") == "one\ntwo"


def test_paragraphs_stand_apart_and_list_items_below_each_other():
    assert plain("<p>one</p>\n\n<p>two</p>\n\n<ul>\n<li>a</li>\n<li>b</li>\n</ul>\n") == "one\n\ntwo\n\n- a\n- b"


def test_a_link_without_an_end_does_not_swallow_the_page():
    found = blocks('<p>see <a href="/picture"></p>\n\n<p>this is no link</p>\n\n<p><a href="/x">this is</a></p>')
    assert [round(b.link_ratio, 1) for b in found] == [0, 0, 1]


def test_end_tags_without_a_beginning_are_ignored():
    assert plain("</p></li>text</h1></ul> more") == "text\n\nmore"


@pytest.mark.parametrize(
    "text",
    ["He left.", "Left?", "“So it is.”", "終わりました。", "هل جاء؟", "वह गया।", "Ende …", "(Really!)"],
)
def test_sentences_end_in_every_script(text):
    assert is_sentence(Block("p", text, 0.0, gap=True))


@pytest.mark.parametrize("text", ["By A. Writer", "12 March 2019", "Share this", "Notes:"])
def test_labels_are_no_sentences(text):
    assert not is_sentence(Block("p", text, 0.0, gap=True))


def test_thirty_ideographs_are_prose():
    text = "昨夜の大雨で川の水位が上がり、朝には村の低い草地が水に浸かっていた"
    assert len(text) < 80
    assert is_prose(Block("p", text, 0.0, gap=True))


def test_the_title_byline_and_date_before_the_article_go():
    assert kept(f"<h1>Flood</h1>\n\nBy A. Writer\n3 May 2019\n\n{PROSE}\n\n{OTHER}") == plain(f"{PROSE}\n\n{OTHER}")


def test_lines_of_links_go_and_links_in_sentences_stay():
    related = '<p>Read on: <a href="/1">Ten years after the great flood of the lower valley</a></p>'
    linked = PROSE.replace("river", '<a href="/river">river</a>')
    assert kept(f"{linked}\n\n{related}\n\n{OTHER}") == plain(f"{linked}\n\n{OTHER}")


def test_a_list_of_links_goes_with_its_heading_and_a_list_of_words_stays_with_its_own():
    menu = '<ul>\n<li><a href="/a">Weather</a></li>\n<li><a href="/b">Sport</a></li>\n</ul>'
    tools = "<ul>\n<li>a shovel</li>\n<li>sand, as for a <a href='/s'>dam</a></li>\n</ul>"
    page = f"{PROSE}\n\n<h3>What to bring</h3>\n\n{tools}\n\n{OTHER}\n\n<h3>More</h3>\n\n{menu}"
    assert kept(page) == plain(f"{PROSE}\n\n<h3>What to bring</h3>\n\n{tools}\n\n{OTHER}")


def test_a_heading_over_a_deeper_heading_stays_and_one_over_nothing_goes():
    page = f"{PROSE}\n\n<h2>Part</h2>\n\n<h3>Chapter</h3>\n\n{OTHER}\n\n<h2>Comments</h2>\n\n<h2>Also</h2>"
    assert kept(page) == plain(f"{PROSE}\n\n<h2>Part</h2>\n\n<h3>Chapter</h3>\n\n{OTHER}")


def test_a_label_alone_between_two_paragraphs_goes_and_a_verse_stays():
    verse = "the rain came down\nthe river rose\nthe miller slept"
    assert kept(f"{PROSE}\n\nAnzeige\n\n{OTHER}") == plain(f"{PROSE}\n\n{OTHER}")
    assert kept(f"{PROSE}\n\n{verse}\n\n{OTHER}") == plain(f"{PROSE}\n\n{verse}\n\n{OTHER}")


def test_a_broken_sentence_stays_whole():
    opening = PROSE.replace("<p>", "").replace(".</p>", ",")
    assert kept(f"{opening}\nas it always did\n{OTHER}") == plain(f"{opening}\nas it always did\n{OTHER}")


def test_a_label_that_comes_three_times_goes_and_one_that_comes_twice_stays():
    thrice = f"{PROSE}\nshort\nRating 5\nline\nRating 5\nlast\nRating 5\n{OTHER}"
    assert "Rating" not in kept(thrice)
    assert kept(thrice.replace("Rating 5", "Rating 4", 1)).count("Rating") == 3


def test_after_the_last_prose_a_heading_ends_the_article():
    page = f"{PROSE}\n\n{OTHER}\n\n<p>He smiled.</p>\n\n<h3>Author</h3>\n\n<p>A. Writer is a writer.</p>\n\n12 shares"
    assert kept(page) == plain(f"{PROSE}\n\n{OTHER}\n\n<p>He smiled.</p>")


def test_copyright_lines_and_markup_shown_as_text_go():
    pixel = "&lt;img width=1 src=http://count.example/pixel.gif?a=1&amp;b=2 alt=counting-pixel-of-the-page&gt;"
    assert kept(f"{pixel}\n\n{PROSE}\n\n<p>© 2019 Example. All rights reserved.</p>") == plain(PROSE)


def test_a_page_of_short_lines_is_left_but_for_its_links():
    page = '<h1>Prices</h1>\n\nbread 2.00\nmilk 1.10\n<a href="/">Home</a>\neggs 2.40'
    assert kept(page) == "Prices\n\nbread 2.00\nmilk 1.10\neggs 2.40"


def test_a_table_with_one_long_remark_is_no_frame_around_the_remark():
    rows = "\n".join(f"row {n}\t\t{n * 17}\t\tunit" for n in range(30))
    labels = "\n".join(f"<p>Label number {n}</p>" for n in range(30))
    assert "row 29" in kept(f"{PROSE}\n\n{rows}")
    assert "Label number 0" in kept(f"{labels}\n\n{PROSE}\n\n{labels}")


def test_pruning_twice_is_pruning_once():
    page = f"<h1>Flood</h1>\n\nBy A. Writer\n\n{PROSE}\n\nAnzeige\n\n{OTHER}\n\n<h3>More</h3>\n\n12 shares"
    once = pruned(blocks(page))
    assert pruned(once) == once

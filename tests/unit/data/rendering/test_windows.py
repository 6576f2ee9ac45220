"""Long texts are cut at the best border there is."""

from hypothesis import given
from hypothesis import strategies as st

from kamerton.data.rendering.windows import cut_text


def letters(text: str) -> int:
    return sum(not character.isspace() for character in text)


def test_a_text_that_fits_is_one_window() -> None:
    assert cut_text(" a b\n", letters, 2) == [" a b\n"]


def test_windows_end_at_paragraphs_where_they_are_half_full() -> None:
    assert cut_text("aaaa\n\nbb bb\n\ncc", letters, 6) == ["aaaa", "bb bb\n\ncc"]
    # Else the paragraph itself is cut, so that no window is nearly empty.
    assert cut_text("a\n\nbbb bbb. bb", letters, 6) == ["a\n\nbbb", " bbb. bb"]


def test_windows_end_at_lines_sentences_and_words() -> None:
    assert cut_text("aaa\nbbb\nccc", letters, 6) == ["aaa\nbbb", "ccc"]
    assert cut_text("aa. bb. cc.", letters, 6) == ["aa. bb.", " cc."]
    assert cut_text("один два три", letters, 7) == ["один два", " три"]
    assert cut_text("一二。三四。五", letters, 4) == ["一二。", "三四。五"]


def test_a_word_longer_than_a_window_is_cut() -> None:
    assert cut_text("abcdefgh ij", letters, 4) == ["abcd", "efgh", " ij"]


def test_pieces_that_grow_when_they_are_joined_still_fit() -> None:
    def growing(text: str) -> int:
        return len(text.split()) + text.count(" ")

    windows = cut_text("a b c d e f", growing, 3)
    assert all(growing(window) <= 3 for window in windows)
    assert " ".join(windows).split() == list("abcdef")


@given(st.text(alphabet="ab .\n。", max_size=60), st.integers(1, 9))
def test_nothing_is_lost(text: str, limit: int) -> None:
    windows = cut_text(text, letters, limit)
    assert all(letters(window) <= limit for window in windows)
    assert "".join("".join(windows).split()) == "".join(text.split())

"""Statistics, and the text that they are shown in."""

import pytest

from bench.table import Aim, Row, markdown, ratios


def test_a_row_tells_count_median_min_and_max() -> None:
    row = Row(what="preview", values=[2.0, 9.5, 1.25, 3.0], unit="s")
    assert row.cells() == ("preview", "4", "2.50 s", "1.25 s", "9.50 s", "", "")


@pytest.mark.parametrize(("median", "verdict"), [(1.1, "met"), (1.15, "met"), (1.16, "missed")])
def test_an_aim_is_met_up_to_its_bound(median: float, verdict: str) -> None:
    row = Row(what="a : b", values=[0.5, median, 9.0], unit="x", aim=Aim(most=1.15, text="<= 1.15 x"))
    assert row.cells()[-2:] == ("<= 1.15 x", verdict)


def test_a_ratio_is_taken_within_each_round() -> None:
    # the machine became half as fast in the middle: the ratio knows nothing of it
    assert ratios([2.0, 4.0], [1.0, 2.0]) == [2.0, 2.0]


def test_a_ratio_of_uneven_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_the_table_is_aligned_markdown() -> None:
    rows = [
        Row(what="memory", values=[100.4], unit="MiB", digits=0),
        Row(what="prod : empty", values=[2.0], unit="x", aim=Aim(most=1, text="<= 1 x")),
    ]
    assert markdown(rows).splitlines() == [
        "| measured     | runs |  median |     min |     max |    aim |        |",
        "| ------------ | ---: | ------: | ------: | ------: | -----: | -----: |",
        "| memory       |    1 | 100 MiB | 100 MiB | 100 MiB |        |        |",
        "| prod : empty |    1 |  2.00 x |  2.00 x |  2.00 x | <= 1 x | missed |",
    ]

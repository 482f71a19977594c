import pytest

from submillion.data.problems import SHOWN, Place, Problems
from submillion.errors import DataError


def error_of(problems: Problems) -> str:
    with pytest.raises(DataError) as caught:
        problems.check()
    return str(caught.value)


def test_nothing_wrong_is_no_error():
    Problems("a.csv").check()


def test_causes_are_told_in_order_each_with_its_count_and_first_rows():
    problems = Problems("a.csv")
    for row in range(1, 8):
        problems.add(f"row {row} (line {row + 1}): the text is empty")
    problems.add("row 9: the label is missing")
    problems.add("line 12: a blank line between rows")
    problems.add("line 15: a blank line between rows")
    assert error_of(problems) == (
        "a.csv: 10 problems\n"
        "  row 1 (line 2): the text is empty; 7 times in all, also row 2 (line 3), row 3 (line 4), row 4 (line 5), "
        "row 5 (line 6), ...\n"
        "  row 9: the label is missing\n"
        "  line 12: a blank line between rows; 2 times in all, also line 15\n"
        "fix: correct or remove these rows"
    )
    assert (problems.count, len(problems.worded)) == (10, 3)


def test_problems_of_one_kind_are_one_cause_however_they_are_worded():
    problems = Problems("a.csv")
    for row in (2, 4):
        problems.add(f"row {row}: byte {row} is not UTF-8", kind="not UTF-8")
    assert problems.worded == ["row 2: byte 2 is not UTF-8; 2 times in all, also row 4"]


@pytest.mark.parametrize("causes", [SHOWN, SHOWN + 1, 3 * SHOWN])
def test_many_causes_are_counted_beyond_the_first(causes):
    problems = Problems("a.csv")
    for row in range(causes):
        problems.add(f"row {row + 1}: label 'x{row}' is none of a, b")
    error = error_of(problems)
    assert error.count("is none of") == SHOWN
    assert (f"and {causes - SHOWN} more" in error) == (causes > SHOWN)


def test_the_advice_fits_each_cause():
    problems = Problems("a.csv")
    problems.add("row 1: the text is empty")
    problems.add("row 2: the separator is lost", fix="fix: --data.separator ';'")
    problems.add("row 3: the text is empty")
    assert error_of(problems).splitlines()[-2:] == ["fix: correct or remove these rows", "fix: --data.separator ';'"]
    stopped = str(Problems("b.csv").stop("row 1: a quoted field is never closed"))
    assert stopped.endswith("reading stopped here\nfix: correct the file there, or save it again")
    assert "rows" not in stopped.splitlines()[-1]


def test_problems_of_parts_are_one_list_that_names_the_part():
    whole = Problems("train-00000-of-00002.csv to train-00001-of-00002.csv")
    for part in ("train-00000-of-00002.csv", "train-00001-of-00002.csv"):
        problems = Problems(part)
        problems.add("row 2 (line 3): the text is empty")
        problems.add("row 4: byte 4 is not UTF-8", kind="not UTF-8", fix="fix: save it as UTF-8")
        problems.add("the file is odd")
        whole.take(problems, part)
    assert whole.count == 6
    assert whole.worded == [
        "row 2 (line 3) of train-00000-of-00002.csv: the text is empty; 2 times in all, also row 2 (line 3) of "
        "train-00001-of-00002.csv",
        "row 4 of train-00000-of-00002.csv: byte 4 is not UTF-8; 2 times in all, also row 4 of "
        "train-00001-of-00002.csv",
        "the file is odd; 2 times in all",
    ]
    assert error_of(whole).endswith("fix: correct or remove these rows\nfix: save it as UTF-8")


def test_every_place_is_known_with_its_reason():
    problems = Problems("a.csv")
    problems.add("row 3 (line 7): the text is empty")
    problems.add("line 9: a blank line between rows")
    problems.add("the file is odd")
    assert list(problems.by_place()) == [
        (Place(3, 7), "the text is empty"),
        (Place(0, 9), "a blank line between rows"),
    ]
    assert str(Place(3, 7, "train-00001-of-00002.csv")) == "row 3 (line 7) of train-00001-of-00002.csv"
    assert "the file is odd" in error_of(problems)

"""The plan is saved before the run and keeps units as they were."""

from relope.extract.plan import PART_SAMPLES, make_plan, read_plan
from relope.types import Sample


def sample(number, words=3):
    return Sample(f"s{number}", "d", "test", "word " * words, ("x",))


def test_every_sample_is_in_one_unit_sorted_by_length(tmp_path):
    asked = [sample(n, words=n % 7) for n in range(20)]
    (unit,) = make_plan(tmp_path / "plan.json", asked, set(), 8, 128)
    assert sorted(unit.ids) == sorted(s.id for s in asked)
    lengths = [int(name[1:]) % 7 for name in unit.ids]
    assert lengths == sorted(lengths)
    assert [len(batch) for batch in unit.batches()] == [8, 8, 4]


def test_parts_are_bounded(tmp_path):
    asked = [sample(n) for n in range(PART_SAMPLES + 5)]
    units = make_plan(tmp_path / "plan.json", asked, set(), 8, 128)
    assert [len(unit.ids) for unit in units] == [PART_SAMPLES, 5]
    wide = make_plan(tmp_path / "wide.json", asked, set(), 8, 4096)
    assert max(len(unit.ids) for unit in wide) * 4096 * 2 * 1500 <= 512 << 20


def test_resuming_keeps_units_whatever_the_batch_size_is_now(tmp_path):
    path, asked = tmp_path / "plan.json", [sample(n) for n in range(PART_SAMPLES * 2)]
    first = make_plan(path, asked, set(), 8, 128)
    again = make_plan(path, asked, set(first[0].ids), 32, 128)
    assert again == first[1:]
    assert read_plan(path) == first


def test_a_larger_limit_adds_units_behind(tmp_path):
    path, asked = tmp_path / "plan.json", [sample(n) for n in range(30)]
    first = make_plan(path, asked[:10], set(), 8, 128)
    more = make_plan(path, asked, set(first[0].ids), 8, 128)
    assert sorted(name for unit in more for name in unit.ids) == sorted(s.id for s in asked[10:])
    assert read_plan(path) == [*first, *more]


def test_nothing_to_do(tmp_path):
    asked = [sample(n) for n in range(3)]
    assert make_plan(tmp_path / "plan.json", asked, {s.id for s in asked}, 8, 128) == []
    assert not (tmp_path / "plan.json").exists()

"""The agents' own features of a day: each agent has its own limit."""

import numpy as np

from feedback_pipeline.storage.custom_features import MAX_CUSTOM_FEATURES, CustomColumns, custom_columns
from feedback_pipeline.storage.named_numbers import NamedNumbers


def numbers(*rows: dict[str, float]) -> NamedNumbers:
    names = sorted({name for row in rows for name in row}, key=lambda name: name[::-1])
    entries = [(index, names.index(name), value) for index, row in enumerate(rows) for name, value in row.items()]
    row, code, value = zip(*entries, strict=True) if entries else ((), (), ())
    return NamedNumbers(np.array(row, dtype=np.int64), np.array(code, dtype=np.int64), np.array(value, dtype=float), names)


def spread(custom: NamedNumbers, rows: list[int], agent: list[int]) -> CustomColumns:
    return custom_columns(custom, np.array(rows, dtype=np.int64), np.array(agent, dtype=np.int64))


def test_values_stand_with_their_outputs_and_columns_in_the_order_of_names() -> None:
    custom = numbers({"zeta": 1, "alpha": 2}, {"alpha": 9}, {}, {"beta": 0})
    found = spread(custom, [0, 2, 3], [0, 1, 1])
    assert {name: values.to_pylist() for name, values in found.columns.items()} == {
        "alpha": [2.0, None, None],
        "beta": [None, None, 0.0],
        "zeta": [1.0, None, None],
    }
    assert list(found.columns) == ["alpha", "beta", "zeta"]
    assert found.cut == {}


def test_a_flooding_agent_loses_its_rarest_features_and_nobody_else_any() -> None:
    flood = {f"f{index:03}": float(index) for index in range(MAX_CUSTOM_FEATURES + 3)}
    frequent = {"f052": 7.0, "f051": 8.0}
    custom = numbers(flood, frequent, {"f050": 5.0, "own": 1.0})
    found = spread(custom, [0, 1, 2], [0, 0, 1])
    assert found.cut == {0: ["f048", "f049", "f050"]}
    assert found.columns["f050"].to_pylist() == [None, None, 5.0]
    assert found.columns["f051"].to_pylist() == [51.0, 8.0, None]
    assert found.columns["own"].to_pylist() == [None, None, 1.0]
    assert len(found.columns) == MAX_CUSTOM_FEATURES + 2
    assert "f048" not in found.columns


def test_exactly_as_many_as_allowed_are_kept() -> None:
    found = spread(numbers({f"f{index}": 1.0 for index in range(MAX_CUSTOM_FEATURES)}), [0], [0])
    assert (len(found.columns), found.cut) == (MAX_CUSTOM_FEATURES, {})


def test_nothing_gives_nothing() -> None:
    nothing = CustomColumns({}, {})
    assert spread(numbers({}), [0], [0]) == spread(numbers({"a": 1.0}), [], []) == nothing
    assert spread(numbers({"a": 1.0}, {}), [1], [0]) == nothing

import base64
import io

import matplotlib.image
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from feedback_pipeline.orchestration.drawing import markdown
from feedback_pipeline.orchestration.pictures import MAX_AGENTS, correlation_heat_map, feature_distributions

LIMIT = 400_000


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(matplotlib.image.imread(io.BytesIO(png), format="png"))


def _findings(n_agents: int) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        [
            (f"agent-{agent:03d}", feature, aspect)
            for agent in range(n_agents)
            for feature in ("cost", "word_count", "own_measure")
            for aspect in ("content_quality", "overall")
        ],
        columns=["agent_name", "feature", "aspect"],
    )
    frame["r_shrunk"] = rng.uniform(-0.5, 0.5, len(frame))
    frame["published"] = frame["r_shrunk"].abs() > 0.3
    return frame


def test_distributions_are_a_modest_picture() -> None:
    rng = np.random.default_rng(1)
    table = pa.table({"cost": rng.lognormal(size=5000), "word_count": [None, *rng.normal(300, 40, 4999)], "tone": ["dry"] * 5000})
    png = feature_distributions(table, "5,000 reviewed outputs")
    assert _pixels(png).shape[1] == 1150
    assert len(png) < LIMIT
    assert _pixels(png).std() > 0


NAN, INF, HUGE = float("nan"), float("inf"), 1.7e308


@pytest.mark.parametrize(
    "values",
    [
        [1.0],
        [2.0, 2.0],
        [0.0, 0.0],
        [-5.0, 5.0, None],
        [0.7, 0.6999999999999998],
        [1e17, 1e17 + 16, 1e17 + 64],
        [-1e17, -1e17 - 16],
        [0.0, 1e300],
        [HUGE],
        [-HUGE, HUGE],
        [-HUGE] * 50 + [HUGE] * 50 + [1.0],
        [1.0] * 999 + [HUGE],
        [0.0, 5e-324],
        [1e-310, 2e-310],
        [1.0, NAN, INF, -INF],
        [1.0, 2.0, NAN, INF, -INF, None],
    ],
)
def test_distributions_of_extreme_values(values: list[float | None]) -> None:
    assert _pixels(feature_distributions(pa.table({"cost": pa.array(values, pa.float64())}), "few")).std() > 0


@pytest.mark.parametrize("values", [[None, None], [NAN, INF]])
def test_a_column_without_a_number_is_left_out(values: list[float | None]) -> None:
    without = pa.table({"cost": pa.array(values, pa.float64()), "word_count": pa.array([1.0, 2.0])})
    assert feature_distributions(without, "one") == feature_distributions(without.drop_columns("cost"), "one")


def test_nearly_equal_values_share_a_bar_and_others_do_not() -> None:
    def picture(*values: float) -> bytes:
        return feature_distributions(pa.table({"cost": values}), "two")

    assert picture(0.7, 0.6999999999999998) == picture(0.7, 0.7)
    assert picture(0.7, 0.6999) != picture(0.7, 0.7)


def test_distributions_without_any_values() -> None:
    assert len(feature_distributions(pa.table({"cost": pa.array([None, None], pa.float64())}), "none")) > 1000


@pytest.mark.slow
def test_the_heat_map_grows_with_the_agents_up_to_a_limit() -> None:
    few, many, more = (_pixels(correlation_heat_map(_findings(n))).shape[0] for n in (3, MAX_AGENTS, 3 * MAX_AGENTS))
    assert few < many
    assert more == many
    assert len(correlation_heat_map(_findings(3 * MAX_AGENTS))) < LIMIT


@pytest.mark.slow
def test_the_heat_map_shows_the_strongest_aspects_of_too_many() -> None:
    findings = pd.concat([_findings(1).assign(aspect=f"aspect {n:03d}", r_shrunk=n / 1000) for n in range(300)])
    picture = correlation_heat_map(findings)
    assert _pixels(picture).shape[0] < 3000
    weakest_changed = findings.assign(published=findings["published"] | (findings["aspect"] == "aspect 000"))
    assert correlation_heat_map(weakest_changed) == picture


def test_pairs_without_a_number_are_left_out_of_the_heat_map() -> None:
    findings = _findings(1)
    broken = [findings.head(1).assign(agent_name="broken", r_shrunk=value) for value in (NAN, INF, -INF)]
    assert correlation_heat_map(pd.concat([findings, *broken])) == correlation_heat_map(findings)


def test_a_heat_map_of_one_cell() -> None:
    assert _pixels(correlation_heat_map(_findings(1).head(1))).std() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["costs $5", r"a$\frac{b$", "one\ntwo\t\x00", "n" * 5000, "評審", "", "_", "100% ^ {x}"])
def test_a_heat_map_of_agents_with_any_name(name: str) -> None:
    findings = _findings(1).head(2).assign(agent_name=name)
    pixels = _pixels(correlation_heat_map(findings))
    assert pixels.shape == _pixels(correlation_heat_map(findings.assign(agent_name="plain"))).shape


def test_the_heat_map_depends_on_the_numbers_and_not_on_the_order_of_rows() -> None:
    findings = _findings(1)
    picture = correlation_heat_map(findings)
    assert correlation_heat_map(findings.sample(frac=1, random_state=1)) == picture
    assert correlation_heat_map(findings.assign(r_shrunk=-findings["r_shrunk"])) != picture
    assert correlation_heat_map(findings.assign(published=False)) != picture


def test_the_fleet_is_not_an_agent() -> None:
    findings = _findings(1)
    fleet = findings.head(3).assign(agent_name="*", r_shrunk=0.9)
    assert correlation_heat_map(pd.concat([findings, fleet])) == correlation_heat_map(findings)


@pytest.mark.parametrize("findings", [_findings(2).assign(r_shrunk=NAN), _findings(2).assign(r_shrunk=INF), _findings(2).head(0)])
def test_a_heat_map_of_nothing(findings: pd.DataFrame) -> None:
    assert len(correlation_heat_map(findings)) > 500


def test_a_picture_is_a_data_uri() -> None:
    text = markdown(b"\x89PNG", "what it shows")
    assert text.startswith("![what it shows](data:image/png;base64,")
    assert base64.b64decode(text.split("base64,")[1].rstrip(")")) == b"\x89PNG"

import base64
import io

import matplotlib.image
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from feedback_pipeline.orchestration.pictures import MAX_AGENTS, correlation_heat_map, feature_distributions, markdown

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


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], [0.0, 1e300], [-5.0, 5.0, None]])
def test_distributions_of_few_or_equal_values(values: list[float | None]) -> None:
    assert len(feature_distributions(pa.table({"cost": pa.array(values, pa.float64())}), "few")) > 1000


def test_distributions_without_values() -> None:
    assert len(feature_distributions(pa.table({"cost": pa.array([None, None], pa.float64())}), "none")) > 1000


def test_the_heat_map_grows_with_the_agents_up_to_a_limit() -> None:
    few, many, more = (_pixels(correlation_heat_map(_findings(n))).shape[0] for n in (3, MAX_AGENTS, 3 * MAX_AGENTS))
    assert few < many
    assert more == many
    assert len(correlation_heat_map(_findings(3 * MAX_AGENTS))) < LIMIT


def test_the_heat_map_depends_on_the_numbers_and_not_on_the_order_of_rows() -> None:
    findings = _findings(5)
    picture = correlation_heat_map(findings)
    assert correlation_heat_map(findings.sample(frac=1, random_state=1)) == picture
    assert correlation_heat_map(findings.assign(r_shrunk=-findings["r_shrunk"])) != picture
    assert correlation_heat_map(findings.assign(published=False)) != picture


def test_the_fleet_is_not_an_agent() -> None:
    findings = _findings(4)
    fleet = findings.head(3).assign(agent_name="*", r_shrunk=0.9)
    assert correlation_heat_map(pd.concat([findings, fleet])) == correlation_heat_map(findings)


def test_a_heat_map_of_nothing() -> None:
    assert len(correlation_heat_map(_findings(2).assign(r_shrunk=np.nan))) > 500
    assert len(correlation_heat_map(_findings(2).head(0))) > 500


def test_a_picture_is_a_data_uri() -> None:
    text = markdown(b"\x89PNG", "what it shows")
    assert text.startswith("![what it shows](data:image/png;base64,")
    assert base64.b64decode(text.split("base64,")[1].rstrip(")")) == b"\x89PNG"

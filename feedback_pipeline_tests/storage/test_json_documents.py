import json
import math
from types import MappingProxyType

import numpy as np
import pytest

from feedback_pipeline.storage.json_documents import json_document


def test_numbers_of_numpy_are_numbers_and_undefined_ones_are_null() -> None:
    known = {"n": np.int64(3), "share": np.float32(0.5), "sure": np.bool_(True), "curve": np.array([[1.0, 2.0]]), "text": "é"}
    assert json.loads(json_document(known)) == {"n": 3, "share": 0.5, "sure": True, "curve": [[1.0, 2.0]], "text": "é"}
    unknown = {"r2": math.nan, "high": np.float64(math.inf), "within": [np.array([1.0, np.nan]), (-math.inf, {"low": np.nan})]}
    expected = {"r2": None, "high": None, "within": [[1.0, None], [None, {"low": None}]]}
    for document in (unknown, MappingProxyType(unknown)):
        assert json.loads(json_document(document)) == expected
    assert json_document(math.nan) == "null"


def test_what_is_no_part_of_a_document_is_named() -> None:
    for value in ({"odd": object()}, {"odd": [object(), math.nan]}):
        with pytest.raises(TypeError, match="object is no part of a JSON document"):
            json_document(value)

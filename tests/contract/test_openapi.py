import json
from pathlib import Path

from annotate_server.api.app import description, routed
from annotate_server.api.openapi import PLACE, openapi_text

ROOT = Path(__file__).parents[2]


def test_the_description_in_the_repository_is_that_of_the_code() -> None:
    assert (ROOT / PLACE).read_text(encoding="utf-8") == openapi_text(), "run: make openapi"


def test_every_operation_says_which_problems_it_answers_with() -> None:
    for path, methods in description(routed())["paths"].items():
        for method, operation in methods.items():
            if path.startswith("/api/"):
                assert {"401", "403", "422", "429", "503"} <= set(operation["responses"]), (method, path)
                assert operation["security"], (method, path)
            for status, response in operation["responses"].items():
                if int(status) >= 400 and path != "/health/ready":
                    assert list(response["content"]) == ["application/problem+json"], (method, path, status)


def test_every_name_in_the_description_leads_somewhere() -> None:
    found = description(routed())
    text = json.dumps(found)
    for name in found["components"]["schemas"]:
        assert f"#/components/schemas/{name}" in text, name
    operations = [o["operationId"] for methods in found["paths"].values() for o in methods.values()]
    assert len(operations) == len(set(operations))

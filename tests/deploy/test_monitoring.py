"""The dashboard and the alert rules query metrics that the service has, by labels that they have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from af3stream.metrics import Metrics

MONITORING = Path(__file__).parents[2] / "deploy/monitoring"
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "grafana/dashboards/af3stream.json").read_text())
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
GUIDE = (MONITORING.parents[1] / "docs/deploy.md").read_text()
OF_TARGETS = {"instance", "job"}  # labels that Prometheus adds
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def series() -> dict[str, set[str]]:
    """The labels of every series of the service, and of `up`, which Prometheus adds for each target."""
    found = {"up": set(OF_TARGETS)}
    for metric in {*Metrics().registry._collector_to_names}:
        [told] = metric.describe()
        for suffix in SUFFIXES[told.type]:
            found[told.name + suffix] = {*metric._labelnames, *OF_TARGETS, *(["le"] if suffix == "_bucket" else [])}
    return found


SERIES = series()
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = {
    f"panel {panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]
}
QUERIES |= {f"alert {rule['alert']}": rule["expr"] for rule in RULES}


def parts(query: str) -> list[Any]:
    """Every node of a query, with Grafana's interval replaced by one of Prometheus."""
    return nodes(promql.parse(query.replace("$__rate_interval", "5m")))


def nodes(expression: Any) -> list[Any]:
    found: list[Any] = []
    promql.walk(expression, found.append)
    return found


def selectors(expression: Any) -> Iterator[Any]:
    for node in nodes(expression):
        if isinstance(node, promql.MatrixSelector):
            yield node.vector_selector
        elif isinstance(node, promql.VectorSelector):
            yield node


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_queries_use_series_and_labels_that_exist(query: str) -> None:
    selected = [*selectors(promql.parse(query.replace("$__rate_interval", "5m")))]
    assert selected
    for selector in selected:
        assert {matcher.name for matcher in selector.matchers.matchers} <= SERIES[selector.name]
    for node in parts(query):
        if isinstance(node, promql.AggregateExpr) and node.modifier:
            for selector in selectors(node.expr):
                assert {*node.modifier.labels} <= SERIES[selector.name]


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_quantiles_are_of_buckets(query: str) -> None:
    for node in parts(query):
        if isinstance(node, promql.Call) and node.func.name == "histogram_quantile":
            assert "le" in node.args[1].modifier.labels
            assert all(selector.name.endswith("_bucket") for selector in selectors(node.args[1]))


def test_variables_list_labels_that_exist() -> None:
    variables = {each["name"]: each["query"] for each in DASHBOARD["templating"]["list"] if each["type"] == "query"}
    for name, query in variables.items():
        name_of, label = query["query"].removeprefix("label_values(").removesuffix(")").split(", ")
        assert label == name and label in SERIES[name_of]


def test_the_dashboard_has_a_row_for_each_part_of_the_service() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Sessions", "Delays", "Engines", "Journal", "HTTP and processes"]


def test_panels_do_not_overlap() -> None:
    taken = set[tuple[int, int]]()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert cells.isdisjoint(taken) and max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alerts_say_how_severe_they_are_and_what_happened(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    assert f"`{rule['alert']}`" in GUIDE, "docs/deploy.md says what to do"

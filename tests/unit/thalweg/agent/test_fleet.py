from collections import Counter
from pathlib import Path

import pytest

from thalweg.agent.figures import UnknownRegionError, load_figures
from thalweg.agent.fleet import (
    FleetError,
    ForeignMemory,
    NodeLoad,
    NodeSpec,
    host_fleet,
    host_load,
    link_samples,
    node_samples,
    read_fleet,
    simulated_fleet,
)

REGION = "aws:us-east-1"


def test_a_simulated_region_has_the_tables_nodes_links_and_prices() -> None:
    figures = load_figures()
    fleet = simulated_fleet(REGION, figures)
    counted = Counter((node.gpu_model, node.spot) for node in fleet.nodes.values())
    assert counted == {(model, spot): count for model, spot, count in figures.nodes_per_region}
    assert set(fleet.links) == set(figures.regions) - {REGION}
    assert fleet.prices["A100", False] == figures.usd_per_gpu_hour["aws", "A100", False]


@pytest.mark.parametrize("wanted", [1, 5, 14, 15, 1_000])
def test_any_number_of_nodes_is_that_many_with_ids_of_their_own(wanted: int) -> None:
    figures = load_figures()
    fleet = simulated_fleet(REGION, figures, nodes=wanted)
    assert len(fleet.nodes) == wanted
    if wanted == 1_000:
        share = sum(node.gpu_model == "T4" for node in fleet.nodes.values()) / wanted
        usual = sum(count for model, _, count in figures.nodes_per_region if model == "T4") / 14
        assert share == pytest.approx(usual, abs=0.02)


def test_a_region_without_figures_is_named_with_those_that_have_some() -> None:
    with pytest.raises(
        UnknownRegionError, match=r"'mars:north-1' has no published figures.*aws:us-east-1.*--fleet FILE"
    ):
        simulated_fleet("mars:north-1", load_figures())


def test_the_host_is_a_node_with_its_real_size_and_load() -> None:
    fleet = host_fleet("home", load_figures())
    (node,) = fleet.nodes.values()
    assert node.cpus >= 1
    assert node.memory_gb > 0.1
    load = host_load()
    assert load.cpu_utilisation is not None and 0 <= load.cpu_utilisation <= 1
    assert load.memory_used_gb is not None and 0 < load.memory_used_gb <= node.memory_gb
    (sample,) = node_samples(fleet, {node.node_id: load})
    assert sample.memory_used_gb == load.memory_used_gb


def test_probes_spread_around_the_published_figures_and_repeat_with_their_seed() -> None:
    import random

    figures = load_figures()
    fleet = simulated_fleet(REGION, figures)
    first = link_samples(fleet, random.Random(1))
    assert first == link_samples(fleet, random.Random(1))
    for sample in first:
        published = figures.links[REGION, sample.dst_region or ""]
        assert sample.rtt_ms is not None and published.rtt_ms <= sample.rtt_ms + 0.01 < 1.2 * published.rtt_ms + 0.02


def test_a_fleet_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(
        "nodes:\n- {node_id: a, gpu_model: H100, gpus: 8, cpus: 192, memory_gb: 2048}\n- {node_id: b, cpus: 8}\n"
        "links: {'aws:us-east-1': {rtt_ms: 12, gbps: 10, usd_per_gb: 0.01}}\n"
        "prices: [{gpu_model: H100, usd_per_gpu_hour: 2.5}]\n"
    )
    fleet = read_fleet(file, "home")
    assert fleet.nodes["a"].gpus == 8
    assert fleet.links["aws:us-east-1"].rtt_ms == 12
    assert fleet.prices == {("H100", False): 2.5}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nodes: []", r"length >= 1 - at `\$.nodes`; wanted is a list `nodes` of node_id"),
        ("nodes: [{node_id: a}, {node_id: a}]", "node_id 'a' stands twice"),
        ("nodes: [{name: a}]", "unknown field `name`.*wanted is a list `nodes` of node_id"),
        ("machines: []", "unknown field `machines`"),
        ("[1, 2]", "Expected `object`, got `array`"),
        ("nodes: {", "fleet"),
        ("3", "wanted is a list `nodes`"),
        ("", "got `null`"),
        ("nodes: [{node_id: no}]", r"Expected `str`, got `bool` - at `\$.nodes\[0\].node_id`.*needs quotes"),
        ("nodes: [{node_id: 0101}]", "Expected `str`, got `int`.*needs quotes"),
        ("nodes: [{node_id: 2026-01-01}]", "node_id"),
        ("nodes: [{node_id: a, gpu_model: 4090}]", "gpu_model.*needs quotes"),
        ("nodes: [{node_id: a, gpus: -8}]", "`int` >= 0"),
        ("nodes: [{node_id: a, gpus: '8'}]", "Expected `int`, got `str`"),
        ("nodes: [{node_id: a, gpus: 100000}]", "gpus"),
        ("nodes: [{node_id: a, cpus: .nan}]", r"`float` >= 0.0 - at `\$.nodes\[0\].cpus`"),
        ("nodes: [{node_id: a, memory_gb: .inf}]", "memory_gb"),
        ("nodes: [{node_id: a, spot: 1}]", "spot"),
        ("nodes: [{node_id: a}]\nlinks: {no: {rtt_ms: 1, gbps: 1, usd_per_gb: 0}}", "needs quotes"),
        ("nodes: [{node_id: a}]\nlinks: {b: {rtt_ms: -1, gbps: 1, usd_per_gb: 0}}", "rtt_ms"),
        ("nodes: [{node_id: a}]\nprices: [{gpu_model: A, usd_per_gpu_hour: .nan}]", "usd_per_gpu_hour"),
        ("nodes: [{node_id: a}]\nprices: [{gpu_model: A, usd_per_gpu_hour: -1}]", "usd_per_gpu_hour"),
        ("nodes: [{node_id: a}]\nprices: [{gpu_model: A, usd_per_gpu_hour: 1" + "0" * 400 + "}]", "fleet"),
        ("nodes: " + "[" * 5_000, "fleet"),
    ],
)
def test_a_file_that_is_no_fleet_says_what_is_wanted(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(text)
    with pytest.raises(FleetError, match=words):
        read_fleet(file, "home")


def test_memory_that_others_use_is_not_offered_and_nobody_is_revoked_for_it() -> None:
    node, foreign = NodeSpec(node_id="host", cpus=8, memory_gb=64), ForeignMemory()
    used = [(0.0, 3.2), (0.0, 3.9), (0.0, 12.5), (20.0, 32.4), (20.0, 60.0), (20.0, 24.0)]
    left = [foreign.left(node, NodeLoad(memory_used_gb=gb), held).memory_gb for held, gb in used]
    assert left == [60, 60, 51, 51, 24, 60]
    assert foreign.left(node, NodeLoad(memory_used_gb=64.0), 50.0).memory_gb == 50, "what is held stays"

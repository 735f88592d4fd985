import os
from pathlib import Path

import pytest

from thalweg.agent.figures import load_figures
from thalweg.conf.environment import FIGURES, PROJECT_ROOT

DATA = Path(os.environ.get("THALWEG_DATA", PROJECT_ROOT / ".." / "shared" / "data"))


def test_every_pair_of_regions_has_a_link_and_every_provider_a_price() -> None:
    figures = load_figures()
    pairs = {(source, target) for source in figures.regions for target in figures.regions if source != target}
    assert set(figures.links) == pairs
    assert {region.partition(":")[0] for region in figures.regions} == {"aws", "gcp", "azure"}
    for region in figures.regions:
        for model, spot, _ in figures.nodes_per_region:
            assert figures.price(region, model, spot)


def test_figures_are_what_they_should_be_in_size() -> None:
    figures = load_figures()
    assert all(0 < link.rtt_ms < 400 for link in figures.links.values())
    assert all(0 < link.gbps < 32 for link in figures.links.values())
    assert all(0 <= link.usd_per_gb < 0.3 for link in figures.links.values())
    assert all(
        figures.usd_per_gpu_hour[provider, model, True] < figures.usd_per_gpu_hour[provider, model, False]
        for provider, model, spot in figures.usd_per_gpu_hour
    )
    assert list(figures.duration_s) == sorted(figures.duration_s)


def test_every_shape_of_a_task_fits_on_some_machine() -> None:
    figures = load_figures()
    for shape in figures.shapes:
        assert any(
            machine.gpus >= shape.gpus and machine.cpus >= shape.cpus and machine.memory_gb >= shape.memory_gb
            for machine in figures.machines.values()
        ), shape


@pytest.mark.skipif(not (DATA / "network").is_dir(), reason=f"the published data is not in {DATA} (THALWEG_DATA)")
def test_the_tables_are_what_the_published_data_gives() -> None:
    from thalweg.benchmarks.figures import derive

    derived = derive(DATA)
    assert set(derived) == {path.stem for path in FIGURES.glob("*.yaml")}
    for name, text in derived.items():
        assert (FIGURES / f"{name}.yaml").read_text(encoding="utf-8") == text, name

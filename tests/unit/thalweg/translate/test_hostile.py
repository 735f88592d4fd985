"""Whatever is in a file, it is read or refused in words; never more than that."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.translate.documents import MOST_VALUES, read_documents
from thalweg.translate.recognise import translate
from thalweg.translate.translation import NotUnderstoodError

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, f"more than {MOST_VALUES:,} values"),
        ("a: &a [*a]", "nested deeper than"),
        ("task_id: t\nworkers:\n\t- 1\n", "YAML indents by spaces, this line has a tab"),
        ("task_id: t\ntask_id: u\n", "line 2: 'task_id' stands twice"),
        ("a: !!python/object/apply:os.system [ls]", "tag 'tag:yaml.org,2002:python/object/apply:os.system'"),
        ("a: !Ref x", "tag '!Ref'"),
        ("? [a, b]\n: c\n", "a key is no word"),
        ("a: [1, 2\nb: 3", "line 2"),
        ("a: 'open", "line 1"),
        ("[" * 100_000, "nested too deep"),
        ("- " * 5_000 + "x", "nested"),
        ('{"task_id": "t"}\n{"task_id": \n', "line 2"),
        ('{"task_id": "t",,}', "begins as JSON does, and is none"),
        ("a: *nowhere", "found undefined alias"),
        ("a: \x07", "this is no YAML"),
        ("", "holds no task"),
        ("# nothing\n", "holds no task"),
        ("just words", "wanted is a mapping, seen str"),
        ("- 1\n", "task 1: wanted is a mapping, seen int"),
        ("<<: 5\n", "'<<' takes a mapping"),
    ],
    ids=range(20),
)
def test_a_hostile_file_is_refused_in_words_and_soon(text: str, words: str) -> None:
    began = time.process_time()
    with pytest.raises(NotUnderstoodError) as refused:
        translate(text)
    assert words in str(refused.value)
    assert time.process_time() - began < 10


def test_words_are_words_and_numbers_numbers() -> None:
    (found,) = read_documents(
        "norway: no\non: off\ntime: 12:30:45\ndate: 2026-01-02\noctal: 010\nhex: 0x10\nfloat: 1e3\nversion: 1.10\n"
        "null: ~\nempty:\nyes: true\nquoted: 'true'\ninfinite: .inf\nunder: 1_000\n"
    )
    assert found.value == {
        "norway": "no", "on": "off", "time": "12:30:45", "date": "2026-01-02", "octal": 10, "hex": 16, "float": 1000.0,
        "version": 1.1, "null": None, "empty": None, "yes": True, "quoted": "true", "infinite": float("inf"),
        "under": "1_000",
    }  # fmt: skip


def test_what_is_merged_gives_way_to_what_is_written() -> None:
    (found,) = read_documents("x: &x {gpus: 1, cpus: 2}\ny: {<<: *x, gpus: 8}\nz: {<<: [*x, {gpus: 9, memory: 1}]}\n")
    assert found.value["y"] == {"gpus": 8, "cpus": 2}
    assert found.value["z"] == {"gpus": 1, "cpus": 2, "memory": 1}


_SEEDS = st.sampled_from(
    [
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\nspec: {template: {spec: {containers: [{image: i}]}}}\n",
        "run: x\nresources: {accelerators: A100:8, cpus: 4+}\nenvs: {A: b}\n",
        "#!/bin/bash\n#SBATCH -n 4 --gres=gpu:a100:2 --mem=4G\n#SBATCH --array=0-3%2 -d afterok:1\ndate\n",
        '{"task_id": "t", "per_worker": {"gpus": 1}}\n',
    ]
)


@given(_SEEDS, st.lists(st.tuples(st.integers(0, 200), st.text(max_size=6)), max_size=4))
def test_a_file_with_anything_in_it_is_read_or_refused(seed: str, changes: list[tuple[int, str]]) -> None:
    text = seed
    for place, words in changes:
        text = text[:place] + words + text[place + len(words) // 2 :]
    try:
        translate(text)
    except NotUnderstoodError as refused:
        assert str(refused)


_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


@given(
    st.sampled_from(
        ["metadata", "spec", "spec.template.spec", "spec.template.spec.containers", "spec.template.spec.nodeSelector"]
        + [f"spec.template.spec.containers.0.{name}" for name in ("env", "resources", "command", "args", "image")]
        + ["spec.completions", "spec.parallelism", "spec.template.spec.containers.0.resources.limits"]
        + ["resources", "resources.accelerators", "num_nodes", "envs", "secrets", "setup", "name", "resources.infra"]
    ),
    _VALUES,
)
def test_any_value_in_any_place_is_read_or_refused(place: str, value: object) -> None:
    import json

    container = {"image": "i", "command": ["x"], "resources": {"limits": {}}}
    document: dict[str, object]
    if place.startswith(("metadata", "spec")):
        spec = {"template": {"spec": {"containers": [container], "nodeSelector": {}}}}
        document = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": spec}
    else:
        document = {"run": "x", "resources": {}}
    *path, last = place.split(".")
    at: object = document
    for key in path:
        at = at[int(key)] if isinstance(at, list) else at[key]  # type: ignore[index]
    at[last] = value  # type: ignore[index]
    try:
        translate(json.dumps(document))
    except NotUnderstoodError as refused:
        assert str(refused)


@pytest.mark.parametrize(
    "text, words",
    [
        (f"task_id: t\nworkers: {'9' * 5_000}\n", "line 2: a number of 5,000 digits: allowed are 300"),
        (f'{{"task_id": "t", "workers": {"9" * 5_000}}}', "a number of 5,000 digits: allowed are 300"),
        (f'{{"task_id": "t"}}\n{{"workers": {"9" * 5_000}}}', "line 2: a number of 5,000 digits: allowed are 300"),
        ("task_id: t\nworkers: 1\nworkers: 2\n", "line 3: 'workers' stands twice"),
        ("env: &x {A: a, B: *x}\n", "line 1: nested deeper than 64"),
    ],
)
def test_what_a_file_cannot_mean_is_told_in_words(text: str, words: str) -> None:
    with pytest.raises(NotUnderstoodError, match=re.escape(words)):
        read_documents(text)

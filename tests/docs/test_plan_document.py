"""The page of the plan document: its example is one, and no field is missing."""

import re

import msgspec

from thalweg.conf.environment import PROJECT_ROOT
from thalweg.scheduling.problem import document
from thalweg.scheduling.problem.document import read_problem
from thalweg.scheduling.solve.solve import solve

PAGE = (PROJECT_ROOT / "docs" / "reference" / "plan-document.md").read_text(encoding="utf-8")


def test_the_example_is_read_whole_and_its_task_is_placed() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    read = read_problem(example.encode())
    assert read.members == (("train-1",),)
    assert solve(read.problem).unplaced == ()


def test_every_field_is_in_the_example_and_in_the_table() -> None:
    example, _, table = PAGE.partition("| where |")
    for kind in vars(document).values():
        if (
            isinstance(kind, type)
            and issubclass(kind, msgspec.Struct)
            and kind.__struct_config__.forbid_unknown_fields  # of what is read; a plan that is written has other rows
        ):
            for field in msgspec.structs.fields(kind):
                assert f'"{field.encode_name}"' in example, field.encode_name
                told = f"`{field.encode_name}`" in table or field.encode_name in ("links", "weights", "tenants")
                assert told, field.encode_name

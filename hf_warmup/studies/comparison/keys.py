"""Every key of a study's YAML with what it means, read from the configuration's own classes and docstrings.

From it come the guide `recipes/guides/study_keys.md` and the study that `hf-warmup compare --init` writes.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import yaml
from pydantic.fields import FieldInfo

from hf_warmup.data.config import TaskConfig
from hf_warmup.studies.comparison.config import StudyConfig
from hf_warmup.yaml_config import Strict


@dataclass(frozen=True)
class Key:
    """One key: its name, what it may hold, what it holds when it is left out, and what it means."""

    name: str
    values: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Section:
    """A part of the document: where it stands, what it is, and its keys."""

    place: str
    meaning: str
    keys: tuple[Key, ...]


_NEEDED = "must be given"
# Keys of a task that are told once, for every kind.
_OF_ALL = ("name", "kind", "margin", "target")


def sections() -> list[Section]:
    """All parts of a study, from the outside to the inside."""
    found = [_section("", StudyConfig)]
    task = _section("tasks: every kind", TaskConfig)
    found.append(Section(task.place, task.meaning, tuple(key for key in task.keys if key.name in _OF_ALL)))
    for place, kind in _parts("", StudyConfig):
        section = _section(place, kind)
        if issubclass(kind, TaskConfig):
            [name] = get_args(kind.model_fields["kind"].annotation)
            keys = tuple(key for key in section.keys if key.name not in _OF_ALL)
            section = Section(f"tasks: kind {name}", section.meaning, keys)
        if section.place not in [each.place for each in found]:
            found.append(section)
    return found


def _parts(place: str, kind: type[Strict]) -> Iterator[tuple[str, type[Strict]]]:
    """Parts of a part, at any depth, with the place of each."""
    for name, field in kind.model_fields.items():
        for part in _classes(field.annotation):
            inner = f"{place}.{name}".lstrip(".")
            yield inner, part
            yield from _parts(inner, part)


def _classes(annotation: Any) -> Iterator[type[Strict]]:
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        yield annotation
    for inner in get_args(annotation):
        yield from _classes(inner)


def _section(place: str, kind: type[Strict]) -> Section:
    schema, meanings = kind.model_json_schema(), docstrings(kind)
    keys = [
        Key(name, _values(field, schema), _default(kind.model_fields[name]), meanings.get(name, ""))
        for name, field in schema["properties"].items()
    ]
    return Section(place, _one_line((inspect.getdoc(kind) or "").partition("\n\n")[0]), tuple(keys))


def docstrings(kind: type[Strict]) -> dict[str, str]:
    """The text below each field of a class and of those that it is made from; the last one holds."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if not issubclass(each, Strict) or each is Strict:
            continue
        [tree] = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found[field.target.id] = _one_line(str(text.value.value))
    return found


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _values(field: dict[str, Any], schema: dict[str, Any]) -> str:
    """What a key may hold, in words."""
    if "anyOf" in field:
        return " or ".join(_values(each, schema) for each in field["anyOf"] if each.get("type") != "null")
    if "$ref" in field or "oneOf" in field:
        return "mapping, see below"
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    if "const" in field:
        return str(field["const"])
    if field.get("type") == "array":
        return re.sub("mapping|number|text", r"\g<0>s", f"list of {_values(field['items'], schema)}", count=1)
    words = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "object": "mapping",
        "boolean": "boolean",
    }
    return words.get(field.get("type", ""), "any") + _limits(field)


def _limits(field: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {field[key]:g}" for key, sign in signs.items() if key in field and field[key] < 2**31]
    return f" {', '.join(found)}" if found else ""


def _default(field: FieldInfo) -> str:
    """What a key holds when it is left out, as YAML."""
    if field.is_required():
        return _NEEDED
    default = field.get_default(call_default_factory=True)
    if isinstance(default, Strict):
        default = default.model_dump(mode="json")
    return str(yaml.safe_dump(default, default_flow_style=True, sort_keys=False)).removesuffix("...\n").strip()


def guide() -> str:
    """All keys as Markdown."""
    parts = [
        "# Keys of a study",
        "Every key of the YAML that `hf-warmup compare` reads. `hf-warmup compare --init study.yaml` writes one to "
        "start from; `KEY=VALUE` on the command line replaces a key, `tasks.0.margin=0.02` one within a list. This "
        "page is made from the package's own classes: `python recipes/guides/study_keys.py`.",
    ]
    for section in sections():
        parts.append(f"## {section.place or 'The study'}")
        parts.append(section.meaning)
        rows = [f"| `{k.name}` | {_cell(k.values)} | {_cell(k.default)} | {_cell(k.meaning)} |" for k in section.keys]
        parts.append("\n".join(["| key | value | if left out | meaning |", "| --- | --- | --- | --- |", *rows]))
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"\|", r"\\|", text)


# The study that --init writes: one that runs as it stands, on any machine, in a few minutes.
_FIRST = """\
name: my_study
model:
  architecture: vit
  config: {hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 4, intermediate_size: 64, patch_size: 2}
tasks:
  - name: digits
    kind: digits
    metric: accuracy
    margin: 0.02
training:
  num_training_steps: 150
  batch_size: 32
  beta2: 0.98
learning_rates: [1.0e-3, 3.0e-3, 1.0e-2]
tuning_seeds: [1000, 1001]
seeds: [0, 1, 2, 3, 4]
"""
# What a person puts in place of a part of it: texts of their own, with the smallest good model that there is.
_TEXTS = """\
model:
  pretrained: sentence-transformers/all-MiniLM-L6-v2
tasks:
  - name: reviews
    kind: text
    folder: reviews.csv
    columns: [review]
    label_column: mood
    metric: accuracy
    margin: 0.01
"""
_HEAD = """\
# A comparison of Adam with warmup against RAdam. It runs as it stands, on small images of handwritten digits, some
# fifty short runs:
#     hf-warmup compare {path}
# Keys that are left out stand in comments, with what they hold then. Other kinds of tasks, such as tokens, images and
# language, and the keys of arms and plan: recipes/guides/study_keys.md in the repository.
"""
_BETWEEN = """\
# For texts of your own, put these two in place of the `model` and `tasks` above:
"""


def starting_study(path: str) -> str:
    """A commented YAML to start from.

    Args:
        path: the file that it goes to, for its first line.
    """
    known = {section.place: section for section in sections()}
    lines = _commented(_FIRST, "digits", known)
    lines += _left_out(known[""], lines, "")
    texts = [f"#   {line}" for line in _commented(_TEXTS, "text", known)]
    return _HEAD.format(path=path) + "\n".join(lines) + "\n" + _BETWEEN + "\n".join(texts) + "\n"


def _commented(document: str, kind: str, known: dict[str, Section]) -> list[str]:
    """A YAML whose keys stand below what they mean, and behind those of a part the keys that it leaves out."""
    places = {"model": "model", "tasks": f"tasks: kind {kind}", "training": "training"}
    lines: list[str] = []
    inside = ""
    for line in [*document.splitlines(), ""]:
        if inside and not line.startswith(" "):
            lines += _left_out(known[places[inside]], lines, "    " if inside == "tasks" else "  ")
            inside = ""
        key = re.match(r"[ -]*(\w+)", line)
        if key is None:
            continue
        section = known["" if not line.startswith(" ") else places[inside]]
        meanings = {each.name: each.meaning for each in (*known["tasks: every kind"].keys, *section.keys)}
        indent = line[: len(line) - len(line.lstrip(" -"))].replace("-", " ")
        lines += textwrap.wrap(meanings[key[1]], 100, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        lines.append(line)
        inside = key[1] if key[1] in places and not line.startswith(" ") else inside
    return lines


def _left_out(section: Section, lines: list[str], indent: str) -> list[str]:
    """Keys of a section that no line holds, each as a comment."""
    present = {match[1] for line in lines if (match := re.match(r"[ -]*(\w+):", line))}
    left = [key for key in section.keys if key.name not in present]
    return [line for key in left for line in _comment(key, indent)]


def _comment(key: Key, indent: str) -> list[str]:
    head = f"{indent}# "
    text = f"{key.meaning} ({key.values.replace('see below', 'see study_keys.md')})"
    return [*textwrap.wrap(text, 100, initial_indent=head, subsequent_indent=head), f"{head}{key.name}: {key.default}"]

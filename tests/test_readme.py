"""What the documents show is run, in order and as a newcomer runs it; what cannot be run is at least understood."""

import json
import re
from pathlib import Path

import pytest
import yaml
from documents import ROOT, Block, blocks, is_run, run_command, understand, words_of

from hf_warmup.hub.checkpoint import check_checkpoint
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.studies.comparison.config import StudyConfig


CARDS = sorted(ROOT.glob("model_cards/*/README.md"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "recipes").glob("**/*.md")), *CARDS]
# Cards of data that is not on this machine; test_card.py runs a card's lines on the digits.
ELSEWHERE = [card for card in CARDS if "digits" not in card.parent.name]


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def run_block(block: Block, monkeypatch: pytest.MonkeyPatch, names: dict) -> None:
    """Run a block; `names` are those that earlier blocks of the document have made."""
    if block.kind == "python":
        exec(compile(block.text, "a block", "exec"), names)
    elif block.kind == "bash":
        for line in block.lines():
            words = words_of(line)
            understand(words)
            if is_run(words):
                assert run_command(words, monkeypatch) == 0, line
    elif block.kind == "yaml":
        document = yaml.safe_load(block.text)
        (StudyConfig if "tasks" in document else CertifiedStudyConfig).model_validate(document)
    else:
        assert block.kind in ("bibtex", "text")


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d not in ELSEWHERE and blocks(d)], ids=name_of)
def test_blocks_run_in_order(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("recipes", "model_cards"):
        Path(folder).symlink_to(ROOT / folder)
    for card in CARDS:
        Path(card.parent.name).symlink_to(card.parent)
    names: dict = {}
    for block in blocks(document):
        if block.mark == "hub":  # run by hub/test_readme_on_the_hub.py, which has a Hub
            continue
        if block.mark is not None:  # run by continuous integration as it stands, and too much for a test
            assert block.mark.startswith("ci:")
            continue
        run_block(block, monkeypatch, names)


@pytest.mark.parametrize("document", ELSEWHERE, ids=name_of)
def test_cards_of_other_data_are_understood(document: Path) -> None:
    for block in blocks(document):
        if block.kind == "python":
            compile(block.text, document.name, "exec")
        for line in block.lines() if block.kind == "bash" else []:
            understand(words_of(line))


def test_there_is_something_to_test() -> None:
    kinds = [block.kind for document in DOCUMENTS for block in blocks(document)]
    assert kinds.count("python") >= 15
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160
    commands = [words_of(line) for d in DOCUMENTS for b in blocks(d) if b.kind == "bash" for line in b.lines()]
    run = {words[1] for words in commands if is_run(words)}
    assert run >= {"compare", "train", "certify", "preview", "smoothness", "zoo", "verify-certificate"}


def test_a_block_that_fails_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a fit of a single measurement, which this document once showed."""
    monkeypatch.chdir(tmp_path)
    Path("one.jsonl").write_text('{"step": 1, "loss": 1.0, "gap": 1.0, "smoothness": 1.0, "update_norm": 1.0}\n')
    with pytest.raises(AssertionError, match="smoothness one.jsonl"):
        run_block(Block("bash", "hf-warmup smoothness one.jsonl  # a comment\n", None), monkeypatch, {})
    for wrong in ("hf-warmup nothing", "hf-warmup train recipes/no.yaml", "python recipes/theory/quartic.py --no"):
        with pytest.raises(AssertionError):
            run_block(Block("bash", wrong, None), monkeypatch, {})


@pytest.mark.parametrize(
    "folder", sorted(p.parent for p in ROOT.glob("model_cards/*/results.json")), ids=lambda p: p.name
)
def test_checkpoints_are_listed_with_their_numbers(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    shares = [f"{100 * results['scores'][key]['accuracy']:.2f} %" for key in ("verified", "pgd", "clean")]
    name = f"[{folder.name}](model_cards/{folder.name}/README.md)"
    row = f"| {name} | {results['data']['name']}, {results['eps']} | {' | '.join(shares)} |"
    assert row in (ROOT / "README.md").read_text().splitlines()
    check_checkpoint(folder)


def test_exponents_are_those_of_the_demonstrations() -> None:
    readme = " ".join((ROOT / "recipes" / "guides" / "theory.md").read_text().split())
    gap, noise = (
        json.loads((ROOT / "recipes" / "theory" / name / "results.json").read_text())["slopes"]
        for name in ("warmup_gap", "stochastic_gap")
    )
    low, high = gap["rule"]["interval_95"]
    assert f"fitted exponent {gap['rule']['slope']:.2f}, 95 % interval {low:.2f} to {high:.2f}" in readme
    (low, high), (later, latest) = noise["rule"]["interval_95"], noise["rule_large"]["interval_95"]
    assert (
        f"{noise['rule']['slope']:.2f}, {low:.2f} to {high:.2f}; from T = 1,000 on {later:.2f} to {latest:.2f}"
        in readme
    )


def anchors(document: Path) -> set[str]:
    """What a link may point to in a document: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", [*DOCUMENTS, *sorted(ROOT.glob("hf_warmup/**/README.md"))], ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        place = (document.parent / path) if path else document
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target

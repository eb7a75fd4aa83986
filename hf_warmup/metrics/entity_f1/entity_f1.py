"""F1 over named entities, the metric of CoNLL-2003, as a local `evaluate` module: no network needed."""

from collections.abc import Iterator

import datasets
import evaluate


class EntityF1(evaluate.Metric):  # type: ignore[misc]
    """An entity counts where its type, its first and its last word are right (seqeval's default mode); in [0, 1]."""

    def _info(self) -> evaluate.MetricInfo:
        names = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description="Harmonic mean of precision and recall over whole entities; 0 where none is right.",
            citation="Tjong Kim Sang, De Meulder, CoNLL 2003",
            inputs_description="predictions and references: a list of labels such as B-PER, I-PER, O per sentence.",
            features=datasets.Features({"predictions": names, "references": names}),
        )

    def _compute(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
        found, true = (
            {(i, *e) for i, row in enumerate(rows) for e in _entities(row)} for rows in (predictions, references)
        )
        return {"entity_f1": 2 * len(found & true) / max(1, len(found) + len(true))}


def _entities(labels: list[str]) -> Iterator[tuple[str, int, int]]:
    """(type, first word, last word) of each entity; what stands before the type is B, I, E, S or O.

    As in conlleval: an I that follows no word of its type begins an entity, too.
    """
    start, before, kind_before = 0, "O", ""
    for place, label in enumerate([*labels, "O"]):
        # A label without a type, such as "B", has the type "_".
        prefix, kind = label[:1], label[1:].split("-", 1)[-1] or "_"
        if before != "O" and (prefix in "BSO" or before in "ES" or kind != kind_before):
            yield kind_before, start, place - 1
            before = "O"
        if prefix != "O" and before == "O":
            start = place
        before, kind_before = prefix, kind

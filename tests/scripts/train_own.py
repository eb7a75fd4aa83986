"""A script as people write them: arguments by HfArgumentParser, a Trainer, scores by save_metrics."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from transformers import HfArgumentParser, TrainingArguments, set_seed


sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))


@dataclass
class Own:
    """The script's own arguments."""

    note: str = field(default="")


def main() -> None:
    from own_study import Data, build

    own, arguments = HfArgumentParser((Own, TrainingArguments)).parse_args_into_dataclasses()
    set_seed(arguments.seed)
    trainer = build(arguments)
    trainer.train(resume_from_checkpoint=arguments.resume_from_checkpoint)
    trainer.save_state()
    trainer.save_metrics("eval", trainer.evaluate())
    trainer.save_metrics("test", trainer.evaluate(Data(2, 60), metric_key_prefix="test"))
    print(own.note, type(trainer.optimizer.optimizer).__name__)


main()

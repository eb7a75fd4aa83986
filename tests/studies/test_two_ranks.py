"""Two processes of one run agree on everything, though their disks do not."""

import os
from pathlib import Path

from warm import Program

from hf_warmup.records.files import read_json


SCRIPTS = Path(__file__).parents[1] / "scripts"


def test_two_processes_make_one_study_though_only_the_first_sees_its_folder(small_study: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    program = Program([str(SCRIPTS / "two_ranks.py"), str(tmp_path)], environment=environment, ranks=2)
    output, errors = program.communicate(timeout=600)
    assert program.returncode == 0, errors[-3000:]
    said = [(tmp_path / f"said{rank}").read_text().splitlines() for rank in (0, 1)]
    assert said[0][0] == said[1][0] == "found by rank 0", "an error of the main process is everybody's"
    assert said[0][1] != said[1][1], "each process has its own stream of random numbers"
    assert said[0][2] == said[1][2] == "resumed at 3"
    assert said[0][3] == said[1][3]
    assert "disk0/checkpoints/step_00000002, which processes on " in said[0][3]
    assert "put the folder on a disk that all share" in said[0][3]
    # Four entities are right, of seven said and five true, in batches of different lengths.
    assert said[0][4] == said[1][4] == f"f1 {8 / 12}"
    assert [each[5] for each in said] == ["report True", "report False"]
    assert len(list((tmp_path / "disk0" / "cells").iterdir())) == 3
    assert not (tmp_path / "disk1" / "cells").exists()
    printed = " ".join(output.split())
    assert printed.count("Report:") == 3, "one for each start: only the main process speaks"
    assert "3 runs into" in printed
    assert "on 2 processes, 3 of them done already" in printed
    # Looks are taken by the main process, and both ranks run what follows from them.
    planned = read_json(tmp_path / "disk0" / "planned" / "results.json")
    [verdict] = planned["tasks"][0]["verdicts"]
    assert planned["plan"]["looks"] == [5, 6]
    assert (verdict["look"], verdict["looks"]) == (2, 2)
    assert len(list((tmp_path / "disk0" / "planned" / "cells").iterdir())) == 2 * 6
    assert "look 1 of 2, at 5 seeds, does not decide adamw; on to 6 seeds" in printed
    assert not (tmp_path / "disk1" / "planned").exists()

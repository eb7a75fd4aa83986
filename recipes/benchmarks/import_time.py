"""What `import hf_warmup` adds to a script that trains with transformers: whole processes, in turn.

python recipes/benchmarks/import_time.py [ROUNDS]
"""

import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from hf_warmup.records.provenance import commit, hardware, versions


PARTS = "from transformers import TrainingArguments, get_scheduler"
SCRIPTS = {"transformers": PARTS, "with hf_warmup": f"import hf_warmup\n{PARTS}"}
RESULT = Path(__file__).parent / "results" / "import_time.json"


def cpu_seconds(code: str) -> float:
    """Processor time of one process that runs `code`; on a shared machine it varies less than the clock's."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Alternate both and print the median of the rounds' ratios."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    times = [{name: cpu_seconds(code) for name, code in SCRIPTS.items()} for _ in range(rounds + 1)][1:]
    ratio = statistics.median(each["with hf_warmup"] / each["transformers"] for each in times)
    medians = {name: statistics.median(each[name] for each in times) for name in SCRIPTS}
    document = {
        "ratio": ratio,
        "cpu_seconds": medians,
        "rounds": rounds,
        "hardware": hardware(),
        "commit": commit(),
        "versions": versions(),
    }
    RESULT.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{medians['transformers']:.2f} s without, {medians['with hf_warmup']:.2f} s with: ratio {ratio:.3f}")


if __name__ == "__main__":
    main()

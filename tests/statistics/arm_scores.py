"""A study of arms with given scores, and scores that are equal, close, far and noisy."""


def study_of(arm_scores, baseline_scores, *, margins=(0.01,)):
    """A study whose k-th task has the k-th lists of test scores."""

    def arm(name, scores):
        runs = [
            {"seed": seed, "test": test, "diverged": False, "steps_to_target": None}
            for seed, test in enumerate(scores)
        ]
        return {"name": name, "runs": runs}

    tasks = [
        {"name": f"task{k}", "metric": "accuracy", "margin": margin, "arms": [arm("a", ours), arm("radam", theirs)]}
        for k, (ours, theirs, margin) in enumerate(zip(arm_scores, baseline_scores, margins, strict=True))
    ]
    return {"baseline": "radam", "tasks": tasks}


EQUAL = [0.950, 0.952, 0.951, 0.949, 0.953]
CLOSE = [0.9512, 0.9533, 0.9526, 0.9511, 0.9541]
FAR = [0.90, 0.91, 0.90, 0.89, 0.91]
NOISY = [0.93, 0.97, 0.95, 0.90, 0.96]

r"""Verdicts on a busy machine: cold processes grade right answers while others burn the CPU; none may be wrong.

``python benchmarks/grading_load.py --burners 8 --graders 4 --answers 60``
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

GRADER = r"""
import sys
from oreo_envs.grading import grade, lost_comparisons
bad = []
for n in range(2, 2 + int(sys.argv[1]) // 2):
    for answer, reference in ((rf"\sqrt{{{2 * n * n}}}", rf"{n}\sqrt{{2}}"),
                              (f"x^2+{2 * n}x+{n * n}", f"(x+{n})^2")):
        verdict = grade(rf"\boxed{{{answer}}}", reference)
        if not verdict.correct:
            bad.append(str(verdict.reason))
print(len(bad), lost_comparisons(), *bad[:3])
"""


def main() -> None:
    """Print a line for each grading process, and the sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--burners", type=int, default=8)
    parser.add_argument("--graders", type=int, default=4)
    parser.add_argument("--answers", type=int, default=60, help="right answers a process, even")
    args = parser.parse_args()
    begin = time.monotonic()
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(args.burners)]
    try:
        command = [sys.executable, "-c", GRADER, str(args.answers)]
        graders = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(args.graders)]
        wrong = failed = 0
        for grader in graders:
            line = grader.communicate()[0].split()
            failed += grader.returncode != 0
            if line:
                wrong += int(line[0])
                print("wrong {}, lost {} {}".format(line[0], line[1], " ".join(line[2:])))
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    print(
        f"{args.graders * args.answers} right answers: {wrong} judged wrong, {failed} processes raised; "
        f"load {os.getloadavg()[0]:.1f}, {time.monotonic() - begin:.0f} s"
    )


if __name__ == "__main__":
    main()

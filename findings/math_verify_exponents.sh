#!/usr/bin/env bash
# What: math-verify reads a number with an exponent, as Python, JSON and most models write small and large ones, as another number.
#   Plain text gives what stands before the "e"; between dollars or in a box "e" is Euler's number and the exponent a factor or a
#   term; only a capital "E" in LaTeX is right. A gold answer made by `str(1e-05)` is 1: the right answer is judged wrong, "1" right.
# Versions: math-verify 0.9.0, latex2sympy2_extended 1.11.0, antlr4-python3-runtime 4.13.2 (4.9.3 the same), sympy 1.14.0.
# Expected by most: 1e-05 is 0.00001, or it is not read at all and nothing equals it.
# Observed:
#   math-verify 0.9.0 latex2sympy2_extended 1.11.0
#   str 1e-05:  1e-05 is 1  \boxed{1e-05} is -2.282  \boxed{1E-05} is 1e-05
#   str 2.5e-07:  2.5e-07 is 2.5  \boxed{2.5e-07} is -0.2043  \boxed{2.5E-07} is 2.5e-07
#   str 6.02e+23:  6.02e+23 is 6.02  \boxed{6.02e+23} is 39.36  \boxed{6.02E+23} is 6.02e+23
#   gold 1e-05, answer \boxed{0.00001}: False
#   gold 1e-05, answer \boxed{10^{-5}}: False
#   gold 1e-05, answer \boxed{1}: True
#   gold $2500$, answer \boxed{2.5e3}: False
#   gold $2500$, answer \boxed{2.5E3}: True
# Why: the pattern for numbers outside of LaTeX (`lazy_expr_regex`) has no exponent and needs nothing after the number; the grammar
#   of latex2sympy2_extended knows an exponent by a capital E, and a small one as Euler's number.
# Instead: gold numbers as `format(Decimal(str(x)), "f")`, or in LaTeX as `1 \times 10^{-5}`; rewrite exponents in answers before
#   `parse`; and check that `parse(gold)` is the number that was meant.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check math-verify==0.9.0 latex2sympy2_extended==1.11.0 \
  antlr4-python3-runtime==4.13.2 sympy==1.14.0
cat > show.py <<'PY'
from importlib.metadata import version

from math_verify import parse, verify


def value(text):
    return float(parse(text)[0].evalf())


if __name__ == "__main__":
    print("math-verify", version("math-verify"), "latex2sympy2_extended", version("latex2sympy2_extended"))
    for number in (1e-05, 2.5e-07, 6.02e23):
        plain, lower, upper = str(number), rf"\boxed{{{number}}}", rf"\boxed{{{number}}}".replace("e", "E").replace("boxEd", "boxed")
        print(f"str {plain}:", *(f"{text} is {value(text):.4g}" for text in (plain, lower, upper)), sep="  ")
        assert abs(value(upper) / number - 1) < 1e-9
        assert abs(value(plain) / number - 1) > 1e-9 and abs(value(lower) / number - 1) > 1e-9
    gold = parse(str(1e-05))
    for answer, expected in ((r"\boxed{0.00001}", False), (r"\boxed{10^{-5}}", False), (r"\boxed{1}", True)):
        judged = verify(gold, parse(answer))
        print(f"gold {str(1e-05)}, answer {answer}: {judged}")
        assert judged == expected
    for gold, answer, expected in (("$2500$", r"\boxed{2.5e3}", False), ("$2500$", r"\boxed{2.5E3}", True)):
        judged = verify(parse(gold), parse(answer))
        print(f"gold {gold}, answer {answer}: {judged}")
        assert judged == expected
PY
venv/bin/python show.py 2>errors || { cat errors; exit 1; }

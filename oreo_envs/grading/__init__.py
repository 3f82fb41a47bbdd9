r"""Grading: is the final answer of a response equal to the reference?

``grade`` finds the answer a response states last (``extraction``: ``marks``, ``statements``, ``conclusions``),
writes it in one notation (``notation``), reads its shape (``reading`` and what it asks: ``simple``, ``words``,
``containers``, ``relations``, ``families``, ``intervals``; ``shapes``: a number, a list, an interval, a formula,
...) and compares shapes part by part (``equality``, ``systems``, ``ratios``). Text and exact rational numbers
decide almost every case in microseconds; only formulas go to sympy, past a size guard (``size``), in a process
that is ended when it takes too much CPU time (``worker``): no verdict depends on what else runs. What the guard
keeps out is compared modulo two primes where it is plain arithmetic (``arithmetic``). Any thread and any process
may grade, and its signals are left alone; nothing is evaluated as code; nothing raises on hostile text, nor for
want of time, memory or processes: what cannot be compared then is "not_graded".

Policy:

- An answer is marked (a box, ``####``, ``<answer>``, JSON), stated ("Answer: 42", "the answer is 42",
  a heading above it, in several languages) or, where nothing is, what the last sentence concludes.
  Nothing in a thought is one, nor what follows the end of a turn or another question. "42 if n is
  even" and "42 or maybe 43" are no 42.
- The last statement wins when a text corrects itself. Several boxes joined by commas, "and" or "or"
  are one list; otherwise the last box counts. A hedge ("89 or 90") is a list of two, hence wrong.
- A sum, product or root that is left to do is no answer to a reference that is a number (``3^2+4^2``
  for 25): else a policy could be paid for repeating the question. An equation states its right side only if
  its left is a name or may be what was asked for (``x``, ``f(2)``, ``x^2+y^2``, ``\cos A``; not ``3x+2``).
- An answer with more left to do than the reference, whatever that is, is none either ("unfinished"; ``form`` says
  what counts): a product where the reference is expanded, a sum where it is factored, terms that combine, fractions
  that cancel, powers, ``\tan 15^\circ`` and complex arithmetic to evaluate, a factor before a matrix. A fraction of
  numbers that is not reduced, a single root that is not simplified and one factor before one sum are answers.
- A piece of the question is none ("copied", see ``copied``), not even with its terms or factors in another order,
  unless the reference says the same in the same form. Environments know the question; ``grade`` is told it.
- A decimal equals an exact value when it agrees with it in all the digits it gives, at least six
  significant ones, or exactly: 4.5 is 9/2, 0.333333 is 1/3, 0.33 is not, 0.9999 is not 1. A reference of
  16 digits and more is the float of an exact value.
- ``28%``, "28 percent", "28 pct" and a bare 28 are one when either side is a percentage; a
  percentage also equals its fraction (10% and 0.1), both ways; so does ``2\sqrt{3}%``.
- Units, currency and degree signs are ignored unless they are all there is. Words of scale and of parts count
  ("2.5 million", "5 twelfths", "twenty-five"), and so do two units
  ("2 h 15 min" is 135); words that deny or doubt are no unit ("42 excluded"). An
  increase is no decrease, and neither is a direction its opposite; without a direction either is meant.
- The order of a list or set does not matter, that of a tuple does; so do the brackets of an
  interval. A set is no tuple. An inequality equals its interval. ``x = 2, y = 3`` is ``(2, 3)``.
- Choices ``(A)``, ``A`` and ``\text{A}`` are one; ``(C) 14`` is C, and 14. ``y = ...`` and ``f(x) = ...``
  equal their right sides; names on both sides must agree: ``f(3) = 5`` is not ``f(2) = 5``, nor ``x > 3``
  ``y > 3``. Other equations equal their multiples. A number in base 8 is none in base 7.
- The letter of a parameter is free (``n\pi`` and ``k\pi``, ``+C`` and ``+c``), and so is where its integers
  begin. ``3 \pmod 5`` is ``8 \pmod 5``, and ``5k+3``.
- Ratios reduce (2:4 is 1:2), but two that may both be times of day are times: 1:05 is not 2:10.
- Thousands may be separated by ``,``, ``{,}``, ``\,``, ``,\!`` or a space, but ``54, 000`` is a list.
"""

from oreo_envs.grading.extraction import end_of_answer, extract_answer, has_final_answer
from oreo_envs.grading.grader import Grade, Reason, canonical, grade, is_correct, lost_comparisons
from oreo_envs.grading.growing import AnswerEnd
from oreo_envs.grading.thoughts import Thoughts
from oreo_envs.grading.unfinished import answer_may_go_on

__all__ = [
    "AnswerEnd",
    "Grade",
    "Reason",
    "Thoughts",
    "answer_may_go_on",
    "canonical",
    "end_of_answer",
    "extract_answer",
    "grade",
    "has_final_answer",
    "is_correct",
    "lost_comparisons",
]

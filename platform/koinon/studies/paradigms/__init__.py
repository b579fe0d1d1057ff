"""The study of paradigms: every recommender of this project on the same people, with the same questions.

The way is: :class:`StudyConfig` → :func:`run_study` (each finished measure of each arm is a file) →
:class:`StudyResults` → one ``report.html`` and ``results.json``. An arm is one entry of
:data:`koinon.studies.paradigms.arms.ARMS`.
"""

from koinon.studies.paradigms.config import StudyConfig
from koinon.studies.paradigms.results import StudyResults
from koinon.studies.paradigms.run import run_study

__all__ = ["StudyConfig", "StudyResults", "run_study"]

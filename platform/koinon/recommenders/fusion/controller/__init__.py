"""Pipeline controller: each request goes to the recommender that suits it and is quick enough; the reasons are kept.

:class:`Controller` routes by the request's shape (:func:`shape_of`), by a latency budget against what every pipeline
was measured to take on this machine (:class:`Profile`), and by what validation prefers for such requests
(:func:`tune_routes`). A pipeline that fails or is late is replaced by a quicker one; every decision is a line of a log.
"""

from koinon.recommenders.fusion.controller._config import SEGMENTS, ControllerConfig, Pipeline, Segment
from koinon.recommenders.fusion.controller.controller import Answer, Controller
from koinon.recommenders.fusion.controller.latency import Latency, Profile, measure
from koinon.recommenders.fusion.controller.log import DecisionLog
from koinon.recommenders.fusion.controller.routing import Decision, shape_of
from koinon.recommenders.fusion.controller.tuning import TunedRoutes, tune_routes

__all__ = [
    "SEGMENTS",
    "Answer",
    "Controller",
    "ControllerConfig",
    "Decision",
    "DecisionLog",
    "Latency",
    "Pipeline",
    "Profile",
    "Segment",
    "TunedRoutes",
    "measure",
    "shape_of",
    "tune_routes",
]

"""``koinon demo``: ten businesses on real data, from the download to the report."""

from koinon.studies.demo.run import DemoConfig, run_demo

__all__ = ["DemoConfig", "run_demo"]
